"""The host's series: exact, mergeable in any order, small; and the facts that it gives."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.host import (
    HOST_FIELDS,
    HOST_INDEX,
    HostFacts,
    HostInfo,
    HostReading,
    gaps_variant,
    host_reading,
    stall_variant,
)
from satscore.core.host_series import BIN_S, HostBins, HostSeries, host_facts, merge_bins
from satscore.core.summary_host import NO_READING, HostItem, host_item
from satscore.core.units import MIB

NS = 1_000_000_000
GIB = 1024 * MIB
INFO = HostInfo(
    cpus_count=8, cpus_usable_count=4.0, sockets_count=1, memory_total_bytes=1000 * MIB, workdir_fs="lustre"
)


def series_of(readings: list[HostReading], offset_ns: int = 0) -> HostBins:
    series = HostSeries(offset_ns)
    series.append(readings)
    return series.bins()


def seconds(values: list[dict[str, float]], begin_s: float = 0.0) -> list[HostReading]:
    return [
        host_reading(round((begin_s + i) * NS), round((begin_s + i + 1) * NS), value) for i, value in enumerate(values)
    ]


def test_a_mean_is_over_known_time_and_extremes_are_of_readings():
    values = [{"cpu_busy_frac": 0.2}, {}, {"cpu_busy_frac": math.nan}, {"cpu_busy_frac": 0.6}]
    facts = host_facts(series_of(seconds(values)), [INFO])
    assert facts.mean == {"cpu_busy_frac": pytest.approx(0.4)}
    assert (facts.least["cpu_busy_frac"], facts.most["cpu_busy_frac"]) == (0.2, 0.6)


def test_readings_of_different_length_weigh_by_their_time():
    readings = [host_reading(0, NS, {"runnable_count": 10}), host_reading(NS, 4 * NS, {"runnable_count": 2})]
    assert host_facts(series_of(readings), [INFO]).mean["runnable_count"] == pytest.approx(4.0)


def test_a_reading_lies_on_the_rows_that_it_overlaps_on_the_jobs_grid():
    offset_ns = 1_790_000_000 * NS
    bins = series_of([host_reading(8 * NS, 32 * NS, {"command_cpu_cores": 3.0})], offset_ns)
    assert (bins.index - bins.index[0]).tolist() == [0, 1, 2, 3]
    assert int(bins.index[0]) == 1_790_000_000 // BIN_S
    at = HOST_INDEX["command_cpu_cores"]
    assert bins.rows[1, at].tolist() == [2000, 10_000, 10_000, 2000]
    assert bins.rows[0, at].tolist() == [3000 * ms for ms in (2000, 10_000, 10_000, 2000)]


def test_facts_of_parts_of_a_run_take_the_rows_whose_middle_is_inside():
    bins = series_of(seconds([{"cpu_busy_frac": s // 10 / 10} for s in range(60)]))
    assert host_facts(bins, [INFO], [(14.0, 26.0)]).mean == {"cpu_busy_frac": pytest.approx(0.15)}
    assert host_facts(bins, [INFO], [(0, 10), (50, 60)]).mean == {"cpu_busy_frac": pytest.approx(0.25)}
    assert host_facts(bins, [INFO], [(16, 19)]).mean == {}
    assert host_facts(bins, [INFO]).most == {"cpu_busy_frac": 0.5}


def test_a_gap_of_months_costs_nothing():
    month = host_reading(10**16, 10**16 + NS, {"cpu_busy_frac": 1.0})
    bins = series_of([*seconds([{"cpu_busy_frac": 0.5}]), month])
    assert len(bins.index) == 2
    assert host_facts(bins, []).mean == {"cpu_busy_frac": pytest.approx(0.75)}


def test_a_reading_over_years_is_not_believed():
    assert len(series_of([host_reading(0, 10**17, {"cpu_busy_frac": 1.0})]).index) == 0


def test_nothing_is_nothing():
    assert host_facts(merge_bins([]), []) == HostFacts()
    assert len(series_of([]).index) == 0


VALUES = st.one_of(st.just(math.nan), st.floats(0, 1e6), st.sampled_from([1e30, -5.0, math.inf]))
READINGS = st.lists(
    st.tuples(
        st.integers(1, 25_000), st.integers(0, 3_000), st.dictionaries(st.sampled_from(list(HOST_INDEX)), VALUES)
    ),
    max_size=30,
)


def readings_of(steps: list[tuple[int, int, dict[str, float]]]) -> list[HostReading]:
    """Readings of so many ms, each after a pause of so many."""
    out, at_ns = [], 0
    for length_ms, pause_ms, values in steps:
        at_ns += pause_ms * 1_000_000
        out.append(host_reading(at_ns, at_ns + length_ms * 1_000_000, values))
        at_ns += length_ms * 1_000_000
    return out


@settings(max_examples=60, deadline=None)
@given(READINGS, READINGS, READINGS, st.lists(st.integers(0, 30), max_size=4))
def test_merging_is_exact_in_any_order_and_however_a_series_is_fed(one, two, three, cuts):
    all_bins = [series_of(readings_of(steps)) for steps in (one, two, three)]
    total = merge_bins(all_bins)
    assert total.same_as(merge_bins(all_bins[::-1]))
    assert total.same_as(merge_bins([merge_bins(all_bins[:2]), all_bins[2]]))
    readings, series = readings_of(one), HostSeries(0)
    for begin, end in pairwise([0, *sorted(cuts), len(readings)]):
        series.append(readings[min(begin, len(readings)) : end])
    assert series.bins().same_as(all_bins[0])


def test_a_day_is_packed_small_and_comes_back_to_the_bit():
    """A day of noise in every field, ten seconds a reading to keep the test short: as many rows."""
    rng, day, series = np.random.default_rng(1), [], HostSeries(0)
    for i in range(8640):
        values = {f.name: float(rng.normal(0.5, 0.1)) * (2**37 if f.unit == "B" else 1.0) for f in HOST_FIELDS}
        day.append(host_reading(i * 10 * NS, (i + 1) * 10 * NS, values))
    series.append(day)
    assert series.packed_bytes < 1e6
    bins = series.bins()
    assert len(bins.index) == 8640
    assert bins.same_as(merge_bins([series_of(day[:5000]), series_of(day[5000:])]))


# --- facts and advice


def test_what_rests_on_two_facts_is_unknown_without_either():
    facts = host_facts(
        series_of(seconds([{"command_cpu_cores": 3.0, "runnable_count": 16, "memory_available_bytes": 250 * MIB}])),
        [INFO],
    )
    assert facts.command_cpu_frac == pytest.approx(0.75)
    assert facts.runnable_per_cpu == pytest.approx(2.0)
    assert facts.memory_available_frac == pytest.approx(0.25)
    assert facts.on_network_fs is True
    bare = host_facts(series_of(seconds([{"command_cpu_cores": 3.0}])), [HostInfo()])
    assert (bare.command_cpu_frac, bare.runnable_per_cpu, bare.memory_available_frac) == (None, None, None)
    assert bare.on_network_fs is None
    assert HostFacts(workdir_fs=("ext4",)).on_network_fs is False


@pytest.mark.parametrize(
    ("mean", "usable", "stall", "gaps"),
    [
        ({}, None, "", ""),
        ({"cpu_iowait_frac": 0.10}, 4.0, "files", ""),
        ({"cpu_iowait_frac": 0.09, "pressure_io_frac": 0.19}, 4.0, "", ""),
        ({"cpu_iowait_frac": 0.007}, 288.0, "files", ""),
        ({"cpu_iowait_frac": 0.0069}, 288.0, "", ""),
        ({"pressure_io_frac": 0.20}, None, "files", ""),
        ({"command_cpu_cores": 3.6}, 4.0, "cpus", "cpus"),
        ({"command_cpu_cores": 3.5}, 4.0, "", ""),
        ({"command_cpu_cores": 3.6}, None, "", ""),
        ({"command_cpu_cores": 3.9, "pressure_io_frac": 0.9}, 4.0, "cpus", "cpus"),
    ],
)
def test_advice_follows_what_is_known(mean, usable, stall, gaps):
    facts = HostFacts(mean=mean, cpus_usable_count=usable)
    assert (stall_variant(facts), gaps_variant(facts)) == (stall, gaps)


def test_several_hosts_are_a_mean_over_them():
    bins = [series_of(seconds([{"command_cpu_cores": cores}])) for cores in (1.0, 3.0)]
    infos = [INFO, HostInfo(cpus_count=8, cpus_usable_count=2.0, memory_total_bytes=500 * MIB, workdir_fs="ext4")]
    facts = host_facts(merge_bins(bins), infos)
    assert (facts.mean["command_cpu_cores"], facts.cpus_usable_count) == (2.0, 3.0)
    assert facts.memory_usable_bytes == 500 * MIB
    assert facts.workdir_fs == ("ext4", "lustre")


# --- the block of the summary


def full_item() -> HostItem:
    values = {field.name: 0.25 if field.unit == "1" and "frac" in field.name else 7.0 * MIB for field in HOST_FIELDS}
    info = HostInfo(
        cpus_count=1,
        cpus_usable_count=1.0,
        sockets_count=1,
        workdir_fs="ext4",
        memory_total_bytes=GIB,
        huge_pages="always",
        kernel_version="6",
    )
    return host_item([info], host_facts(series_of(seconds([values])), [info]))


def test_a_block_with_everything_lacks_only_a_limit_that_is_not_there():
    item = full_item()
    assert item.missing == {}
    nulls = [name for name in item.__struct_fields__ if getattr(item, name) is None]
    assert nulls == ["memory_limit_bytes"]
    assert (item.cpu_busy_frac, item.command_rss_max_bytes, item.workdir_fs) == (0.25, 7 * MIB, ["ext4"])


def test_every_null_has_its_reason():
    info = HostInfo(missing={"pressure_io_frac": "/proc/pressure/io: none", "cpus_count": "masked", "workdir_fs": "w"})
    item = host_item([info], HostFacts())
    nulls = {name for name in item.__struct_fields__ if getattr(item, name) is None}
    assert set(item.missing) == (nulls - {"memory_limit_bytes"}) | {"workdir_fs"}
    assert item.missing["pressure_io_frac"] == "/proc/pressure/io: none"
    assert item.missing["cpus_count"] == "masked"
    assert item.missing["memory_available_min_bytes"] == NO_READING


def test_a_maximum_has_the_reason_of_its_field():
    info = HostInfo(missing={"command_rss_bytes": "hidden", "cpu_iowait_frac": "masked"})
    item = host_item([info], HostFacts())
    assert (item.missing["command_rss_max_bytes"], item.missing["cpu_iowait_max_frac"]) == ("hidden", "masked")


def test_hosts_that_differ_say_so():
    item = host_item([HostInfo(cpus_count=8), HostInfo(cpus_count=16)], HostFacts())
    assert (item.cpus_count, item.missing["cpus_count"], item.hosts_count) == (None, "the hosts differ", 2)
