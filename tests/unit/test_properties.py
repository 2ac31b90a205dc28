"""Laws of the score that hold for every run: bounds, order, sums, missing counters, windows."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from satscore.core.bounds import PROFILES, Bounds
from satscore.core.fields import INDEX, Quality
from satscore.core.intervals import QUANTITIES, Q, quantities
from satscore.core.losses import PARTS, loss_tree
from satscore.core.readings import FloatArray, ReadingTable
from satscore.core.score import WindowScores, bracket, score_windows
from satscore.core.scorer import GpuScorer
from satscore.core.sums import Sums, merge_all
from satscore.core.units import PPM
from satscore.core.windows import WindowGrid, WindowTable
from tests.unit.runs import H200_INFO, Run, batches, measured, rows
from tests.unit.scenes import E1, H200, SHORT, score, series

ROUNDING = 1e-6
"""Values are stored as float32, sums in parts per million."""
few = settings(max_examples=20, deadline=None)

shares = st.floats(0, 1, width=32)
Values = Mapping[str, float]
Parts = list[tuple[float, dict[str, float]]]


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, float]:
    """Return what a GPU can do: pipes inside the SMs' time, DRAM at most at its known limit."""
    busy = draw(shares)
    tensor, vector = draw(shares) * busy, draw(shares) * busy
    clock = draw(st.floats(300, 1980, width=32))
    return {"g": max(busy, draw(shares)), "sm": busy, "T": tensor, "F32": vector, "d": 0.93 * draw(shares), "f": clock}


lengths_s = st.integers(105, 1500).map(lambda ms: ms / 1000)
runs = st.lists(st.tuples(lengths_s, intervals()), min_size=1, max_size=12)


def points(sums: Sums, profile: str = "train") -> float:
    return 100 * sums.total(f"sat:{profile}") / PPM / sums.total(f"complete_us:{profile}")


def windows_of(table: ReadingTable, bounds: Bounds = H200) -> WindowTable:
    grid = WindowGrid(len(QUANTITIES))
    values = quantities(table, bounds)
    done, last = grid.add(table.start_ns, table.end_ns, values), grid.finish()
    names = ("index", "length_ns", "mean", "known_frac")
    return WindowTable(**{n: np.concatenate([getattr(done, n), getattr(last, n)]) for n in names})


def windows_scored(table: ReadingTable, bounds: Bounds = H200, profile: str = "train") -> WindowScores:
    return score_windows(windows_of(table, bounds), bounds, profile)


# --- the score of a window


@pytest.mark.parametrize("profile", PROFILES)
@few
@given(runs)
def test_bounded(profile, parts):
    scores = windows_scored(series(parts), profile=profile)
    assert scores.complete.all()
    assert (scores.sat >= 0).all()
    assert (scores.sat <= scores.sat_hi + 1e-12).all()
    assert (scores.sat_hi <= 1).all()
    assert (scores.attainable >= scores.sat - 1e-12).all()


@pytest.mark.parametrize("key", ["T", "F32", "d", "f", "mem_clock_mhz"])
@few
@given(runs, st.floats(1, 3))
def test_raising_a_counter_never_lowers_a_window(key, parts, factor):
    parts = [(length, {"mem_clock_mhz": 2000.0} | values) for length, values in parts]
    raised = [(length, values | {key: values[key] * factor}) for length, values in parts]
    for profile in PROFILES:
        low, high = windows_scored(series(parts), profile=profile), windows_scored(series(raised), profile=profile)
        assert (high.sat >= low.sat - 1e-12).all()


@few
@given(runs, st.sampled_from(["tensor", "fp32", "dram", "gain"]), st.floats(1, 3))
def test_raising_a_peak_never_raises_the_score(parts, peak, factor):
    changed = {
        "tensor": {"rated_clock_mhz": H200.rated_clock_mhz | {"tensor": 1830.0 * factor}},
        "fp32": {"rated_clock_mhz": H200.rated_clock_mhz | {"fp32": 1980.0 * factor}},
        "dram": {"dram_peak_bytes_s": 4.8e12 * factor},
        "gain": {"counter_gain": dict.fromkeys(H200.counter_gain, factor)},
    }[peak]
    higher = msgspec.structs.replace(H200, **changed)
    for profile in PROFILES:
        before = windows_scored(series(parts), profile=profile)
        after = windows_scored(series(parts), higher, profile)
        assert (after.sat <= before.sat + 1e-12).all()


@few
@given(runs)
def test_doubling_work_and_bound_leaves_the_score(parts):
    doubled = [(length, v | {"f": 2 * v["f"], "mem_clock_mhz": 6402.0}) for length, v in parts]
    bounds = msgspec.structs.replace(
        H200,
        rated_clock_mhz={pipe: 2 * clock for pipe, clock in H200.rated_clock_mhz.items()},
        dram_peak_bytes_s=2 * H200.dram_peak_bytes_s,
        sm_clock_max_mhz=2 * H200.sm_clock_max_mhz,
    )
    before, after = score(series(parts)), score(series(doubled), bounds=bounds)
    for name in ("sat:train", "sat_hi:train", "sat:hpc", "attainable", *(f"loss:{part}" for part in PARTS)):
        assert before.total(name) == after.total(name), name


# --- read times


def counter_log(seed: int, seconds: int) -> dict[str, FloatArray]:
    """Return cumulative counters of a random GPU at every millisecond."""
    rng = np.random.default_rng(seed)
    n = seconds * 100
    busy, clock = rng.uniform(0, 1, n), rng.uniform(300, 1980, n)
    steps = {"cycles": clock, "g": busy, "sm": busy * clock, "T": busy * rng.uniform(0, 1, n) * clock}
    steps["d"] = rng.uniform(0, 0.93, n)
    return {k: np.concatenate([[0.0], np.cumsum(np.repeat(v, 10) * 1e-3)]) for k, v in steps.items()}


def read_at(log: dict[str, FloatArray], times_ms: Sequence[int]) -> ReadingTable:
    parts: Parts = []
    for a, b in itertools.pairwise(times_ms):
        length_s = (b - a) / 1000
        change = {k: float(v[b] - v[a]) for k, v in log.items()}
        clock = change["cycles"] / length_s
        cycle_shares = {k: change[k] / change["cycles"] for k in ("sm", "T")}
        time_shares = {k: change[k] / length_s for k in ("g", "d")}
        parts.append((length_s, {"f": clock, **cycle_shares, **time_shares}))
    return series(parts)


@few
@given(st.integers(0, 10_000), st.sets(st.integers(1, 4999), max_size=40))
def test_any_reads_that_hit_the_window_edges_give_the_same_score(seed, extra_ms):
    log = counter_log(seed, 5)
    edges = range(0, 5001, 1000)
    coarse, fine = (windows_of(read_at(log, sorted(times))) for times in (edges, {*edges, *extra_ms}))
    for name in ("u_tensor", "u_dram", "engine"):
        assert fine.mean[:, Q[name]] == pytest.approx(coarse.mean[:, Q[name]], abs=ROUNDING)


@few
@given(runs)
def test_splitting_readings_at_the_window_edges_changes_no_bit(parts):
    table = series(parts)
    pieces: Parts = []
    now_ms = 0
    for length_s, values in parts:
        end_ms = now_ms + round(length_s * 1000)
        edges = [e for e in range(0, 100_000, 1000) if now_ms < e < end_ms]
        pieces += [((b - a) / 1000, values) for a, b in itertools.pairwise([now_ms, *edges, end_ms])]
        now_ms = end_ms
    split = series(pieces)
    assert len(split) >= len(table)
    assert score(split) == score(table)


@few
@given(runs, st.sampled_from([2, 5, 10]))
def test_shorter_windows_never_lower_the_score(parts, divisor):
    def in_windows(window_ns: int) -> float:
        scorer = GpuScorer(H200, "train")
        scorer._grid = WindowGrid(len(QUANTITIES), window_ns=window_ns)
        scorer.add(series(parts))
        return points(scorer.finish())

    assert in_windows(10**9 // divisor) >= in_windows(10**9) - 100 * ROUNDING


@few
@given(runs, st.integers(1, 5), st.integers(0, 10**9))
def test_batches_change_no_bit(parts, size, offset_ns):
    table = series(parts)
    whole, piecewise = (GpuScorer(H200, "train", grid_offset_ns=offset_ns) for _ in range(2))
    whole.add(table)
    for part in batches(table, size):
        piecewise.add(part)
    assert whole.finish() == piecewise.finish()


@few
@given(runs, runs, st.integers(1, 4))
def test_a_snapshot_while_running_is_the_sum_of_all_whole_windows(first, second, size):
    scorer = GpuScorer(H200, "train")
    for part in batches(series(first), size):
        scorer.add(part)
    before = Sums().merge(scorer.sums)
    scorer.add(rows(series([*first, *second]), slice(len(first), None)))
    assert before.total("time_us") % PPM == 0
    assert before.total("time_us") <= scorer.sums.total("time_us")


# --- sums


amounts = st.dictionaries(st.sampled_from("abcde"), st.integers(-(2**80), 2**80))
states = st.builds(
    lambda t, m, q, r: Sums(totals=t, maxima=m, quality_us=q, read_us=r), amounts, amounts, amounts, st.integers(0)
)


def merged_as_tree(many: list[Sums], rng: random.Random) -> Sums:
    left = list(many)
    rng.shuffle(left)
    while len(left) > 1:
        a, b = left.pop(rng.randrange(len(left))), left.pop(rng.randrange(len(left)))
        left.append(a.merge(b))
    return left[0]


@few
@given(st.lists(states, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_gives_the_same_state(many, rng):
    assert merged_as_tree(many, rng) == merge_all(many)
    assert merge_all([Sums(), *many]) == merge_all(many)


@few
@given(st.lists(runs, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_scores_of_gpus_add_in_any_order(many, rng):
    each = [score(series(parts)) for parts in many]
    whole = merged_as_tree(each, rng)
    assert whole == merge_all(each)
    amount = sum(points(s) * s.total("complete_us:train") for s in each)
    assert points(whole) == pytest.approx(amount / whole.total("complete_us:train"), abs=1e-9)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_gpus_changes_nothing_of_the_job(order):
    def job(order: Sequence[int]) -> Run:
        parts = [[(3.0, E1 | {"T": 0.2 * (1 + i)})] for i in order]
        gpus = [msgspec.structs.replace(H200_INFO, index=k, uuid=f"GPU-{i}") for k, i in enumerate(order)]
        tables = [measured(p, gpus=[g]).table for p, g in zip(parts, gpus, strict=True)]
        whole = rows(tables[0], slice(0, 0))
        names = ("gpu", "start_ns", "end_ns", "values", "quality")
        whole = replace(whole, **{n: np.concatenate([getattr(t, n) for t in tables]) for n in names})
        return Run(header=measured(gpus=gpus).header, table=whole)

    here, there = job(range(3)).summary().job, job(order).summary().job
    assert (here.score, here.loss, here.rates) == (there.score, there.loss, there.rates)


# --- the loss tree


def random_windows(seed: int, m: int) -> WindowTable:
    """Return windows of anything: shares up to 3, counters known for any part of the time or never."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0, 1, (m, len(QUANTITIES))) ** 2 * rng.choice([1.0, 1.0, 1.2, 3.0], (m, 1))
    edge = rng.choice([-1.0, 0.0, 1.0], mean.shape, p=[0.8, 0.1, 0.1])
    mean = np.where(edge >= 0, edge, mean)
    known_frac = rng.choice([0.0, 0.5, 0.79, 0.8, 1.0], mean.shape, p=[0.04, 0.02, 0.02, 0.02, 0.9])
    mean[known_frac == 0] = np.nan
    length_ns = rng.integers(1, 10**9, m)
    return WindowTable(index=np.arange(m), length_ns=length_ns, mean=mean, known_frac=known_frac)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("attainable", [False, True])
def test_parts_and_score_add_up_exactly_for_any_window(profile, attainable):
    windows = random_windows(seed=1, m=40_000)
    scores = score_windows(windows, H200, profile)
    tree = loss_tree(windows, scores, attainable=attainable)
    assert set(tree.parts) == set(PARTS)
    parts = np.stack([tree.parts[name] for name in PARTS])
    assert parts.min() >= 0
    assert 0.3 < scores.complete.mean() < 1
    whole = parts.sum(axis=0) + tree.levels[:, 4]
    assert (whole == np.where(scores.complete, PPM, 0)).all()
    assert (np.diff(tree.levels, axis=1) <= 0).all()
    top = scores.attainable if attainable else scores.sat
    assert (tree.levels[:, 4] == np.rint(np.nan_to_num(top) * PPM)).all()


@few
@given(runs, runs)
def test_the_difference_of_two_trees_is_the_difference_of_the_scores(first, second):
    a, b = score(series(first)), score(series(second))
    for tree, top in (("loss", "sat:train"), ("loss_attainable", "attainable")):
        names = [top, *(f"{tree}:{part}" for part in PARTS)]
        per_us = [{k: s.total(k) / PPM / s.total("complete_us:train") for k in names} for s in (a, b)]
        moved = sum(per_us[1][name] - per_us[0][name] for name in names[1:])
        assert moved == pytest.approx(per_us[0][top] - per_us[1][top], abs=1e-12)


# --- the bracket


def test_the_bracket_holds_on_random_micro_schedules():
    rng = np.random.default_rng(2)
    n, k = 5000, 12
    a_t, a_m = rng.uniform(0.3, 1, n), rng.uniform(0.3, 1, n)
    length = rng.dirichlet(np.ones(k), n)
    kind = rng.integers(0, 4, (n, k))  # idle, tensor kernels, DRAM kernels, both at once
    u_t = np.where(kind % 2 == 1, rng.uniform(0, 1, (n, k)) ** 0.5, 0.0) * a_t[:, None]
    u_m = np.where(kind >= 2, rng.uniform(0, 1, (n, k)) ** 0.5, 0.0) * a_m[:, None]
    busy = (length * (kind > 0)).sum(axis=1)
    mean_t, mean_m = (length * u_t).sum(axis=1), (length * u_m).sum(axis=1)
    truth = (length * np.maximum(u_t, u_m)).sum(axis=1)
    upper = bracket(mean_t, mean_m, busy, a_t, a_m)
    assert (np.maximum(mean_t, mean_m) <= truth + 1e-12).all()
    assert (truth <= upper + 1e-9).all()
    assert (upper <= busy + 1e-12).all()
    assert (upper - np.maximum(mean_t, mean_m)).mean() < 0.25


@few
@example(schedule=[(1.0, 1, 1.0, 0.0), (1.0, 2, 0.0, 1.0)])
@given(st.lists(st.tuples(shares, st.integers(0, 3), shares, shares), min_size=2, max_size=10))
def test_the_bracket_holds_through_the_readings(schedule):
    """One window whose kernels stay within the limits of the hardware model, read once at its end."""
    total = sum(length for length, *_ in schedule) + 1e-3
    mean: dict[str, float] = dict.fromkeys(("g", "T", "d"), 0.0)
    truth = 0.0
    for length, kind, tensor, dram in schedule:
        # The DRAM limit is the attainable fraction: 0.875 of the active share would be 0.89628 of the peak, not 0.896.
        t, d = (kind % 2) * tensor * 0.835, (kind // 2) * dram * 0.896 * 4.8 / 4.916736
        share = length / total
        mean["g"] += share * (kind > 0)
        mean["T"] += share * t
        mean["d"] += share * d
        truth += share * max(t * 1700 / 1830, d * 4.916736 / 4.8)
    scores = windows_scored(series([(1.0, mean | {"sm": mean["g"], "f": 1700})]))
    assert scores.sat[0] - ROUNDING <= truth <= scores.sat_hi[0] + ROUNDING


# --- missing counters


GROUPS = {
    "g": ["g"],
    "s": ["sm"],
    "f": ["f"],
    "T": ["T"],
    "d": ["d"],
    "fmem": ["mem_clock_mhz"],
    "throttle": [name for name in INDEX if name.startswith("throttle_")],
    "links": [name for name in INDEX if name.endswith("_bytes_s")],
}
SMALL_AND_LARGE = [c for n in (1, 2, len(GROUPS)) for c in itertools.combinations(GROUPS, n)]
FULL = score(series([(4.0, E1)]))


def check_missing(sums: Sums, missing: set[str]) -> None:
    """The score is that of the full data or unknown; the parts add up; the bounds hold."""
    scored = not missing & {"f", "T", "d", "fmem"}
    time_us, complete_us = sums.total("time_us"), sums.total("complete_us:train")
    assert complete_us == (time_us if scored else 0)
    assert sums.total("sat:train") == (FULL.total("sat:train") if scored else 0)
    lost = [sums.total(f"loss:{part}") for part in PARTS]
    assert min(lost) >= 0
    assert sum(lost) + sums.total("sat:train") == PPM * complete_us
    lo, hi = (sums.total(f"{side}:train") for side in ("lo", "hi"))
    assert 0 <= lo <= FULL.total("sat:train") <= hi <= PPM * time_us
    if scored:
        assert sums.total("sat_hi:train") >= FULL.total("sat_hi:train")


@pytest.mark.parametrize("count", range(len(GROUPS) + 1))
def test_missing_counters_leave_the_score_or_make_it_unknown(count):
    for missing in itertools.combinations(GROUPS, count):
        unknown = [name for group in missing for name in GROUPS[group]]
        check_missing(score(series([(4.0, E1)], unknown=unknown)), set(missing))


@pytest.mark.parametrize("missing", SMALL_AND_LARGE, ids="-".join)
def test_what_is_unknown_is_null_and_never_zero(missing):
    unknown = [name for group in missing for name in GROUPS[group]]
    summary = measured([(4.0, E1)], unknown=unknown).summary()
    rates, score_block = summary.job.rates, summary.job.score
    for name in (SHORT.get(name, name) for name in unknown):
        if hasattr(rates, name):
            assert getattr(rates, name) is None, name
            assert name in rates.missing
    assert all(v is None for v in rates.throttle_frac.values()) == ("throttle" in missing)
    assert (score_block.score_pct is None) == bool({"f", "T", "d", "fmem"} & set(missing))
    assert (score_block.link_pct is None) == ("links" in missing)
    assert (summary.job.loss is None) == (score_block.score_pct is None)


GRADES = ["A", "B", "C", "D", None]


@few
@given(runs, st.data())
def test_losing_samples_never_raises_the_grade(parts, data):
    lost, more = ([data.draw(st.booleans()) for _ in parts] for _ in range(2))
    more = [a or b for a, b in zip(lost, more, strict=True)]
    grades = []
    for gone in ([False] * len(parts), lost, more):
        summary = Run(header=measured().header, table=blanked(series(parts), gone, list(SHORT))).summary()
        grades.append(GRADES.index(summary.job.score.grade))
    assert grades == sorted(grades)


def blanked(table: ReadingTable, gone: Sequence[bool], keys: Sequence[str]) -> ReadingTable:
    """Return readings of which some have lost some of their counters."""
    values, quality = table.values.copy(), table.quality.copy()
    cells = np.ix_(np.flatnonzero(gone), np.array([INDEX[SHORT[key]] for key in keys]))
    values[cells], quality[cells] = np.nan, Quality.BLANK
    return replace(table, values=values, quality=quality)


whole_windows = st.lists(st.tuples(st.just(1.0), intervals()), min_size=2, max_size=8)


@few
@given(whole_windows, st.data(), st.sampled_from([["T"], ["d"], ["T", "d"], ["T", "sm"], list(SHORT)]))
def test_the_bounds_contain_the_score_of_the_full_data(parts, data, keys):
    gone = [data.draw(st.booleans()) for _ in parts]
    table = series(parts)
    full, sums = score(table), score(blanked(table, gone, keys))
    lo, hi = (sums.total(f"{side}:train") for side in ("lo", "hi"))
    assert lo - len(parts) <= full.total("sat:train") <= hi + PPM * len(parts)


BUSY_THEN_IDLE: Parts = [(0.25, {"g": 1, "sm": s, "T": s, "d": 0, "f": 1980}) for s in (1, 1, 0.01, 0.01)]


@few
@example(parts=BUSY_THEN_IDLE, lost=[{0, 1}])
@example(parts=BUSY_THEN_IDLE, lost=[{2, 3}])
@given(
    st.lists(st.tuples(st.just(0.25), intervals()), min_size=4, max_size=24),
    st.lists(st.sets(st.integers(0, 3)), min_size=6, max_size=6),
)
def test_the_bounds_hold_where_a_part_of_a_window_is_lost(parts, lost):
    """Any of the four reads of each window have lost their tensor counter; SM activity is known."""
    gone = [i % 4 in lost[i // 4] for i in range(len(parts))]
    table = series(parts)
    full, sums = score(table), score(blanked(table, gone, ["T"]))
    lo, hi = (sums.total(f"{side}:train") for side in ("lo", "hi"))
    slack = PPM * len(parts)
    assert lo - slack <= full.total("sat:train") <= hi + slack
