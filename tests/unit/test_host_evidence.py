"""What the host did, as findings and the block at exit show it: three numbers at most, so the telling ones."""

import msgspec
import numpy as np
import pytest

from satscore.core.host import HostFacts, HostInfo, HostReading, host_reading
from satscore.core.host_series import BIN_S, HostSeries, merge_bins
from satscore.core.hosts import Hosts
from satscore.core.summary import EvidenceItem, Summary
from satscore.run.aside import Aside
from satscore.run.results import summarise
from satscore.views.text import MAX_EVIDENCE, render
from satscore.views.words import evidence
from tests.unit.rule_cases import FULL, LAUNCH, of
from tests.unit.rule_facts import judged
from tests.unit.runs import COMMAND, measured
from tests.unit.scenes import IDLE
from tests.unit.sim_runs import run_end, run_file, run_start

NS = 1_000_000_000
INFO = HostInfo(cpus_count=8, cpus_usable_count=4.0, memory_total_bytes=1 << 34, workdir_fs="lustre")


def host(**mean: float) -> HostFacts:
    return HostFacts(mean=mean, cpus_count=8, cpus_usable_count=4.0, least={"memory_available_bytes": 4e9})


def shown(rule: str, facts: HostFacts) -> list[str]:
    """Return the evidence of a rule that has room in the block."""
    reads = of(9, FULL, 1) if rule == "HOST_STALL" else of(1, LAUNCH)
    return [item.key for item in judged(reads(host=facts))[0][rule].evidence[:MAX_EVIDENCE]]


WAITS = {"cpu_iowait_frac": 0.4, "pressure_io_frac": 0.6, "command_cpu_cores": 1.0, "runnable_count": 3.0}
BUSY = {"cpu_iowait_frac": 0.0, "pressure_io_frac": 0.1, "command_cpu_cores": 3.9, "runnable_count": 16.0}


@pytest.mark.parametrize(
    ("rule", "mean", "keys"),
    [
        ("HOST_STALL", WAITS, ["idle_long_points", "host_cpu_iowait_frac", "host_pressure_io_frac"]),
        ("HOST_STALL", BUSY, ["idle_long_points", "host_command_cpu_frac", "host_runnable_per_cpu"]),
        ("HOST_STALL", WAITS | {"cpu_iowait_frac": np.nan}, ["idle_long_points", "host_pressure_io_frac"]),
        ("HOST_GAPS", BUSY, ["idle_short", "host_command_cpu_frac", "host_runnable_per_cpu"]),
        ("HOST_GAPS", WAITS, ["idle_short", "grid", "sm_active"]),
    ],
)
def test_what_speaks_for_the_advice_is_shown(rule: str, mean: dict[str, float], keys: list[str]) -> None:
    known = {name: value for name, value in mean.items() if not np.isnan(value)}
    assert shown(rule, host(**known))[: len(keys)] == keys


def test_nothing_is_said_twice_and_nothing_left_out() -> None:
    reads = of(9, FULL, 1)
    keys = [[i.key for i in judged(reads(host=host(**mean)))[0]["HOST_STALL"].evidence] for mean in (WAITS, BUSY)]
    assert sorted(keys[0]) == sorted(keys[1])
    assert all(len(each) == len(set(each)) for each in keys)
    assert "host_memory_available_frac" not in keys[0]  # the usable memory is not known here
    known = msgspec.structs.replace(host(**WAITS), memory_usable_bytes=16_000_000_000)
    (item,) = (i for i in judged(reads(host=known))[0]["HOST_STALL"].evidence if i.key == "host_memory_available_frac")
    assert item.value == pytest.approx(0.25)


def stalled(values: dict[str, float]) -> Summary:
    """Return a minute of work that pauses for a second every four, while the host does the same all along."""
    run = measured([(0.2, FULL)] * 15 + [(0.2, IDLE)] * 5 + [(0.2, FULL)] * 15 + [(0.2, IDLE)] * 5)
    series = HostSeries(run.header.grid_offset_ns)
    begin_ns = int(run.table.start_ns.min())
    series.append([host_reading(begin_ns + i * NS, begin_ns + (i + 1) * NS, values) for i in range(8)])
    aside = Aside(hosts=Hosts(bins=series.bins(), infos=(INFO,)))
    content = run_file(run_start(COMMAND), run_end(8.0, []), version="1.2.3")
    return summarise(content, [(run.header, run.session())], directory=None, aside=aside)


def test_the_block_shows_why_the_gpu_waits_for_files() -> None:
    text = render(stalled({"cpu_iowait_frac": 0.4, "pressure_io_frac": 0.62, "command_cpu_cores": 0.4}))
    assert "HOST_STALL" in text
    assert "; iowait 40 %; a thread waited for files 62 %" in text
    assert "do: stage data to local disk" in text


def test_the_block_shows_that_the_cpus_are_full() -> None:
    text = render(stalled({"cpu_iowait_frac": 0.0, "command_cpu_cores": 3.8, "runnable_count": 12.0}))
    assert "; CPUs in use by the command 95 %" in text
    assert "runnable threads per CPU 1.5" in text


def test_less_than_a_core_is_not_none() -> None:
    item = EvidenceItem(key="x", name="command CPU", value=0.42, unit="cores", threshold=None)
    assert evidence(item) == "command CPU 0.4 cores"


# --- parts of a run


def bins_of(readings: list[HostReading]) -> HostSeries:
    series = HostSeries(0)
    series.append(readings)
    return series


def test_windows_that_hold_the_middle_of_no_row_are_judged_by_the_whole_run() -> None:
    """Dips every ten seconds, each on the middle of a row: the windows between them are long enough together."""
    series = bins_of([host_reading(i * NS, (i + 1) * NS, {"cpu_iowait_frac": 0.4}) for i in range(100)])
    chosen = np.ones(100, dtype=np.bool_)
    chosen[BIN_S // 2 :: BIN_S] = False
    facts = Hosts(bins=series.bins(), infos=(INFO,)).facts(0, chosen)
    assert facts.mean == {"cpu_iowait_frac": pytest.approx(0.4)}


def test_windows_are_judged_by_their_own_rows() -> None:
    series = bins_of([host_reading(i * NS, (i + 1) * NS, {"cpu_iowait_frac": 0.4 * (i >= 50)}) for i in range(100)])
    hosts, chosen = Hosts(bins=series.bins(), infos=(INFO,)), np.arange(100) >= 60
    assert hosts.facts(0, chosen).mean == {"cpu_iowait_frac": pytest.approx(0.4)}
    assert hosts.facts(0, np.arange(100) < 15).mean == {"cpu_iowait_frac": pytest.approx(0.2)}


def test_a_value_counts_as_it_is_recorded() -> None:
    """As float32: with more digits a report would have other integers than the run itself."""
    rng = np.random.default_rng(7)
    cores = [float(value) for value in rng.integers(0, 10**7, 4000) / 1e4 + 5e-4]
    exact = [host_reading(i * NS, (i + 1) * NS, {"command_cpu_cores": v}) for i, v in enumerate(cores)]
    kept = [r._replace(values=[float(np.float32(v)) for v in r.values]) for r in exact]
    assert merge_bins([bins_of(exact).bins()]).same_as(bins_of(kept).bins())
