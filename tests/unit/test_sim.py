"""The simulated source behind its contract, and the table of expected results of its scenarios."""

import math
import threading

import pytest

from satscore.core.fields import INDEX, Quality, Reading
from satscore.counters.clock import ManualClock, MonotonicClock, ScaledClock
from satscore.counters.simulated import SCENARIOS, Placement, SimulatedSource, open_simulated
from satscore.counters.source import Source
from satscore.errors import CounterError

START_NS = 7_000_000_123
RATED_MHZ = 1830.0


def record(
    spec: str, seconds: float, period_s: float = 0.2, placement: Placement | None = None
) -> tuple[SimulatedSource, list[list[Reading]]]:
    """Read a simulation at exact multiples of a period, from time 0."""
    clock, never = ManualClock(START_NS), threading.Event()
    source = open_simulated(spec, clock, placement=placement)
    assert source.read() == []
    reads = []
    for i in range(1, round(seconds / period_s) + 1):
        clock.wait_until(START_NS + round(i * period_s * 1e9), never)
        reads.append(source.read())
    return source, reads


def get(reading: Reading, name: str) -> float:
    assert reading.quality[INDEX[name]] == Quality.OK, name
    return reading.values[INDEX[name]]


def missing(reading: Reading, name: str) -> int:
    assert math.isnan(reading.values[INDEX[name]])
    return reading.quality[INDEX[name]]


def length_s(reading: Reading) -> float:
    return (reading.end_ns - reading.start_ns) / 1e9


def mean(reads: list[list[Reading]], name: str, gpu: int = 0) -> float:
    rows = [r[gpu] for r in reads]
    return sum(length_s(r) * get(r, name) for r in rows) / sum(length_s(r) for r in rows)


def saturation(reads: list[list[Reading]], gpu: int = 0, dram_peak_bytes_s: float = 4.8e12) -> tuple[float, float]:
    """Return S and T in points by the definition: max of means over 1 s windows, mean over time."""
    windows: dict[int, list[float]] = {}
    for reading in (r[gpu] for r in reads):
        window = windows.setdefault((reading.start_ns - START_NS) // 10**9, [0.0, 0.0])
        tensor = get(reading, "tensor_active_frac") * get(reading, "sm_clock_mhz") / RATED_MHZ
        dram = get(reading, "dram_active_frac") * get(reading, "mem_clock_mhz") * 6144 / 8 * 2e6
        window[0] += length_s(reading) * tensor
        window[1] += length_s(reading) * dram / dram_peak_bytes_s
    total_s = sum(length_s(r[gpu]) for r in reads)
    s, t = (sum(f(w) for w in windows.values()) for f in (max, lambda w: w[0]))
    return 100 * s / total_s, 100 * t / total_s


TABLE = [
    # scenario, seconds, S, idle part
    ("gemm", 20, 79.42, 0),
    ("gemm-zeros", 20, 90.34, 0),
    ("gemm-500w", 20, 67.12, 0),
    ("clock-locked", 20, 54.83, 0),
    ("copy", 20, 89.63, 0),
    ("duty-25", 20, 21.6, 75),
    ("duty-50", 20, 42.0, 50),
    ("duty-75", 20, 61.3, 25),
    ("launch-bound", 20, 1.84, 45),
    ("spin", 20, 1.02, 0),
    ("fp32", 20, 15.36, 0),
    ("llm", 30, 53.2, 0.8),
    ("llm-stall", 30, 40.3, 27),
    ("llm-500w", 30, 47.5, 0.7),
]


@pytest.mark.parametrize(("name", "seconds", "score", "idle"), TABLE, ids=[row[0] for row in TABLE])
@pytest.mark.parametrize("period_s", [0.2, 1.0])
def test_table_of_expected_scores(name, seconds, score, idle, period_s) -> None:
    source, reads = record(f"sim:{name}", seconds, period_s)
    s, t = saturation(reads)
    assert s == pytest.approx(score, abs=0.3)
    assert t == pytest.approx(100 * source.truth().hfu_frac, abs=1e-6)
    assert 100 * (1 - mean(reads, "engine_active_frac")) == pytest.approx(idle, abs=1.0)


def test_twelve_steps_of_the_language_model() -> None:
    source, reads = record("sim:llm", 28.4)
    assert saturation(reads)[0] == pytest.approx(53.2, abs=0.3)
    assert 100 * source.truth().saturation_frac == pytest.approx(71.1, abs=0.3)


@pytest.mark.parametrize(
    ("name", "clock_mhz", "reason"),
    [
        ("gemm", 1740, "throttle_power_frac"),
        ("gemm-zeros", 1980, None),
        ("gemm-500w", 1470, "throttle_power_frac"),
        ("clock-locked", 1200, "throttle_app_clocks_frac"),
        ("copy", 1980, None),
    ],
)
def test_steady_clock_and_why_it_is_there(name, clock_mhz, reason) -> None:
    _, reads = record(f"sim:{name}", 5)
    last = reads[-1][0]
    assert get(last, "sm_clock_mhz") == pytest.approx(clock_mhz, abs=1e-6)
    for kind in ("power", "thermal", "hw", "board", "sync_boost", "app_clocks"):
        field = f"throttle_{kind}_frac"
        assert get(last, field) == pytest.approx(float(field == reason), abs=1e-9)


def test_power_of_locked_clocks() -> None:
    source, reads = record("sim:clock-locked", 20)
    assert mean(reads, "power_gpu_w") == pytest.approx(346, abs=1.5)
    assert sum(get(r[0], "energy_gpu_j") for r in reads) == pytest.approx(source.truth().energy_gpu_j)


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not any(scenario.faults)])
def test_readings_are_physically_possible(name: str) -> None:
    _, reads = record(f"sim:{name}", 12, 0.13)
    for reading in (r for read in reads for r in read):
        x, s, g = (get(reading, f"{k}_active_frac") for k in ("tensor", "sm", "engine"))
        assert 0 <= x + get(reading, "fp64_active_frac") <= s + 1e-9
        assert s <= g + 1e-9 <= 1 + 1e-9
        assert get(reading, "sm_occupancy_frac") <= s
        assert get(reading, "dram_active_frac") <= 0.93
        assert get(reading, "nvlink_tx_bytes_s") <= 450e9
        assert max(get(reading, f"pcie_{way}_bytes_s") for way in ("tx", "rx")) <= 63e9
        if reading.quality[INDEX["c2c_tx_bytes_s"]] == Quality.OK:
            assert max(get(reading, f"c2c_{way}_bytes_s") for way in ("tx", "rx")) <= 450e9
        reasons = sum(get(reading, field) for field in INDEX if field.startswith("throttle_"))
        assert 0 <= reasons <= 1 + 1e-9
        assert get(reading, "tensor_hmma_active_frac") == x


@pytest.mark.parametrize("name", ["llm-stall", "duty-25", "gh200x4"])
def test_integrals_do_not_depend_on_the_read_period(name: str) -> None:
    def integrals(period_s: float) -> list[float]:
        _, reads = record(f"sim:{name}", 10, period_s)
        rows = [r[0] for r in reads]
        cycles = [length_s(r) * get(r, "sm_clock_mhz") for r in rows]
        names = ("sm_active_frac", "tensor_active_frac", "sm_occupancy_frac")
        by_cycles = [sum(c * get(r, n) for c, r in zip(cycles, rows, strict=True)) for n in names]
        by_time = [mean(reads, n) for n in ("engine_active_frac", "dram_active_frac", "nvlink_rx_bytes_s")]
        return [*by_cycles, *by_time, sum(cycles), sum(get(r, "energy_gpu_j") for r in rows)]

    assert integrals(0.1) == pytest.approx(integrals(0.2), rel=1e-9)
    assert integrals(0.1) == pytest.approx(integrals(1.0), rel=1e-9)


def test_the_same_reads_give_the_same_readings() -> None:
    runs = [record("sim:gh200x4,seed=3", 8)[1] for _ in range(2)]
    assert [[r.quality for r in read] for read in runs[0]] == [[r.quality for r in read] for read in runs[1]]
    for a, b in zip(*runs, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x[:3] == y[:3]
            assert x.values == pytest.approx(y.values, rel=0, abs=0, nan_ok=True)


def test_the_contract_of_a_source() -> None:
    source: Source = open_simulated("sim")
    assert (source.name, source.kind, source.has_pipe_counters) == ("sim", "simulated", True)
    assert "SIMULATED" in source.notes()[0]
    assert "'llm'" in source.notes()[0]
    source.close()


def test_an_h200_says_what_it_is_and_what_it_does_not_have() -> None:
    source, reads = record("sim:llm", 1)
    (gpu,) = source.gpus
    assert (gpu.model_hint, gpu.uuid, gpu.sm_count) == ("h200-sxm", "SIM-h200-0", 132)
    assert gpu.name is not None
    assert "simulated" in gpu.name
    last = reads[-1][0]
    assert missing(last, "c2c_tx_bytes_s") == Quality.NOT_SUPPORTED
    assert missing(last, "power_module_w") == Quality.NOT_SUPPORTED
    assert missing(last, "temp_mem_c") == Quality.NOT_READ
    assert get(last, "power_limit_gpu_w") == 700
    assert [get(last, n) for n in ("pcie_tx_bytes_s", "xid_count", "ecc_uncorrected_count")] == [0, 0, 0]


def test_two_reads_at_the_same_time_give_no_reading() -> None:
    source = open_simulated("sim", ManualClock(5))
    assert source.read() == []
    assert source.read() == []


def test_replicas_differ_in_nothing_but_their_identity() -> None:
    source, reads = record("sim:llm-500w,gpus=2", 2)
    assert [(g.index, g.uuid) for g in source.gpus] == [(0, "SIM-h200-0"), (1, "SIM-h200-1")]
    assert source.gpus[0].power_limit_gpu_w == 500
    assert reads[-1][0].values == pytest.approx(reads[-1][1].values, rel=0, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_gh200_node_has_exactly_one_slow_gpu_and_the_others_wait(seed: int) -> None:
    source, reads = record(f"sim:gh200x4,seed={seed}", 30)
    clocks = [source.truth(i).sm_clock_mhz for i in range(4)]
    slow = seed % 4
    assert [i for i, f in enumerate(clocks) if f < 1400] == [slow]
    waiting = [
        {i for i, r in enumerate(read) if get(r, "sm_active_frac") < 0.122 and get(r, "nvlink_tx_bytes_s") == 0}
        for read in reads
    ]
    assert set.union(*waiting) == set(range(4)) - {slow}
    assert min(get(r, "sm_active_frac") for read in reads for r in read) == pytest.approx(0.121)
    hfu = [source.truth(i).hfu_frac for i in range(4)]
    assert max(hfu) - min(hfu) < 0.03
    assert get(reads[-1][slow], "throttle_app_clocks_frac") == pytest.approx(1)


def test_gh200_reports_both_power_scopes() -> None:
    source, reads = record("sim:gh200x4", 30)
    gpu = source.gpus[1]
    assert (gpu.model_hint, gpu.power_limit_gpu_w, gpu.power_limit_module_w) == ("gh200-96", 900, 660)
    for reading in (read[1] for read in reads):
        assert get(reading, "power_module_w") == pytest.approx(get(reading, "power_gpu_w") + 115)
        assert get(reading, "power_limit_module_w") == 660
        assert get(reading, "c2c_rx_bytes_s") == 0
    assert mean(reads, "power_module_w", 1) < 660
    assert mean(reads, "throttle_power_frac", 1) > 0.5


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.ranks])
def test_ranks_in_their_own_processes_see_the_same_job(name: str) -> None:
    whole, together = record(f"sim:{name},seed=1", 9)
    for rank in range(4):
        placement = Placement(rank=rank, world=4, origin_ns=START_NS)
        source, alone = record(f"sim:{name},seed=1", 9, placement=placement)
        assert source.gpus[0].uuid == whole.gpus[rank].uuid
        assert source.gpus[0].uuid is not None
        assert source.gpus[0].uuid.endswith(f"-{rank}")
        expected = [read[rank].values for read in together]
        for a, b in zip(alone, expected, strict=True):
            assert a[0].values == pytest.approx(b, rel=0, abs=0, nan_ok=True)
        assert source.truth() == whole.truth(rank)
        assert source.kernel_seconds() == whole.kernel_seconds(rank)


@pytest.mark.parametrize("world", [1, 2, 7])
def test_a_job_has_as_many_ranks_as_the_selection_says(world: int) -> None:
    source, reads = record(f"sim:slow-gpu,seed=5,world={world}", 6)
    assert len(source.gpus) == len(reads[0]) == world
    clocks = [source.truth(i).sm_clock_mhz for i in range(world)]
    assert [i for i, clock_mhz in enumerate(clocks) if clock_mhz < 1400] == [5 % world]


def test_the_processes_of_a_job_state_its_size() -> None:
    placement = Placement(rank=1, world=3)
    assert len(open_simulated("sim:healthy,world=3", placement=placement).gpus) == 1
    with pytest.raises(CounterError, match="world=4 of the simulator does not fit a job of 3 processes"):
        open_simulated("sim:healthy,world=4", placement=placement)


def test_replicas_of_several_processes_have_different_uuids() -> None:
    sources = [open_simulated("sim:llm,gpus=2", placement=Placement(rank=r, world=2)) for r in range(2)]
    assert len({g.uuid for s in sources for g in s.gpus}) == 4


def test_spec_chooses_scenario_and_clock() -> None:
    assert isinstance(open_simulated("sim").clock, MonotonicClock)
    fast = open_simulated("sim:seed=3, speed=20").clock
    assert isinstance(fast, ScaledClock)
    assert fast.speed == 20
    assert "'spin'" in open_simulated("sim:spin").notes()[0]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("sim:lmm", ["'lmm'", "nearest is 'llm'", "gh200x4"]),
        ("sim:llm,sped=2", ["'sped'", "nearest is 'speed'", "gpus"]),
        ("sim:llm,seed=x", ["seed='x'"]),
        ("sim:llm,seed", ["'seed'", "seed="]),
        ("sim:llm,speed=0", ["speed='0'"]),
        ("sim:llm,speed=1e-12", ["speed='1e-12'", "at least 0.01"]),
        ("sim:llm,speed=nan", ["speed='nan'"]),
        ("sim:llm,gpus=0", ["gpus=0"]),
        ("sim:gh200x4,gpus=2", ["gpus=2", "4 GPUs", "world=2"]),
        ("sim:healthy,world=8,gpus=4", ["gpus=4", "8 GPUs", "world=4"]),
        ("sim:healthy,world=0", ["world=0", "1 to 64"]),
        ("sim:healthy,world=x", ["world='x'"]),
        ("sim:llm,world=4", ["world=4", "'llm'", "gpus=4", "healthy"]),
        ("sim:llm,seed=1,seed=2", ["'seed'", "twice"]),
        ("sim:llm,ambeint=40", ["'ambeint'", "nearest is 'ambient'", "cpu_w", "faults"]),
        ("sim:llm,ambient=400", ["ambient", "'400'", "0 to 70"]),
        ("sim:llm,cpu_w=50", ["'cpu_w'", "'llm'", "gh200-cpu, gh200x4"]),
        ("sim:gh200x4,cpu_w=-1", ["cpu_w", "'-1'", "0 to 500"]),
        ("sim:llm,vboost=2", ["vboost=2", "0 or 1"]),
        ("sim:llm,faults=blnk:0.1", ["'blnk'", "nearest is 'blank'", "stale", "multiplex"]),
        ("sim:llm,faults=blank", ["fault blank", "''", "0 to 1"]),
        ("sim:llm,faults=blank:0.1+lost:nan", ["fault lost", "'nan'", "0 to 30"]),
        ("sim:llm,faults=blank:0.1+blank:0.2", ["'blank'", "twice"]),
        ("simulator", ["'simulator'"]),
    ],
)
def test_a_wrong_spec_names_the_value_and_what_is_valid(spec: str, told: list[str]) -> None:
    with pytest.raises(CounterError) as caught:
        open_simulated(spec)
    text = f"{caught.value.message} {caught.value.hint}"
    assert all(part in text for part in told), text
