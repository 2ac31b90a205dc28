"""Recordings that are damaged or written by somebody else: an error that names the key, or a score from 0 to 100."""

import contextlib
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from satscore.core import state_check, wire
from satscore.core.bounds import resolve
from satscore.core.gate import judge
from satscore.core.job_series import SERIES_COLUMNS, merge_series
from satscore.core.labels import Label
from satscore.core.marks import Step
from satscore.core.progress_state import ProgressMeter, ProgressState
from satscore.core.rank_blocks import BLOCK_COLUMNS, B, RankBlocks
from satscore.core.rank_state import GpuState
from satscore.core.summary import encode
from satscore.core.summary_gpu import LossPart
from satscore.core.summary_job import ConfidenceItem
from satscore.core.sums import Sums
from satscore.core.units import PPM
from satscore.errors import RecordError
from satscore.record.marks_file import MARKS_FILE, read_marks
from satscore.record.run_file import read_run_file, write_run_file
from satscore.record.sums_file import encode_sums, sums_name
from satscore.run.rank_gpus import bounds_key
from satscore.run.replay import SUMS_QUIET_S, rebuild
from satscore.run.results import LIVE_NOTE, UNFINISHED_NOTE
from satscore.views import words_run
from satscore.views.text import render
from satscore.views.words_loss import BAR_WIDTH, losses
from tests.unit.runs import H200_INFO, MODELS, simulated
from tests.unit.test_session import RUNS
from tests.unit.test_sums_report import RANKS, keep_sums, rank_of

NODE = simulated("sim:gh200x4", 60)
RECORD = rank_of(NODE)
GPU = RECORD.state.gpus[0]
WILD = (-1, 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63))


@pytest.mark.parametrize("profile", ["train", "hpc", "tensor"])
@pytest.mark.parametrize("name", RUNS)
def test_whatever_is_measured_or_simulated_is_within_the_limits(name, profile):
    state = RUNS[name].session(profile=profile).state()
    for gpu in state.gpus:
        state_check.check_gpu(gpu, profile, "f")
    total = merge_series(gpu.series for gpu in state.gpus)
    state_check.check_series({n: total.column(n) for n in SERIES_COLUMNS}, len(state.gpus), "f")


def with_block(name: str, change: Callable[[int, int], int]) -> RankBlocks:
    """Return blocks with one number changed; ``change`` is given it and the known time of its block."""
    sums = {key: row.copy() for key, row in GPU.blocks.items()}
    row = next(iter(sums.values()))
    row[B[name]] = change(int(row[B[name]]), int(row[B["known_us"]]))
    return RankBlocks.of(sums, GPU.blocks.length_s, GPU.blocks.first_s, GPU.blocks.last_s)


@pytest.mark.parametrize("name", BLOCK_COLUMNS[1:])
def test_a_share_of_a_block_is_not_above_its_time_nor_below_0(name):
    for wrong in (with_block(name, lambda _, known_us: PPM * known_us + 1), with_block(name, lambda *_: -1)):
        with pytest.raises(RecordError, match=rf"^f\.{name}: not a share"):
            state_check.check_blocks(wrong, "f")


@pytest.mark.parametrize("time_us", [-1, 1 + GPU.blocks.length_s * 1_000_000, 2**62])
def test_a_block_is_not_known_for_longer_than_it_lasts(time_us):
    with pytest.raises(RecordError, match=r"^f\.known_us: not a time within"):
        state_check.check_blocks(with_block("known_us", lambda *_: time_us), "f")


@pytest.mark.parametrize(("lower", "upper"), [("v4", "v3"), ("v3", "v2_lo"), ("v2_lo", "v2"), ("v2", "v1")])
def test_levels_of_blocks_are_nested(lower, upper):
    row = np.zeros(len(BLOCK_COLUMNS), dtype=np.int64)
    row[B["known_us"]] = 1_000_000
    order = state_check.NESTED
    for name in order[order.index(upper) :]:
        row[B[name]] = 500_000 * 1_000_000
    row[B[lower]] = row[B[upper]]
    state_check.check_blocks(RankBlocks.of({(Label.STEADY, 0): row}, 4, 0, 3), "f")
    row[B[lower]] += 1
    with pytest.raises(RecordError, match="not nested"):
        state_check.check_blocks(RankBlocks.of({(Label.STEADY, 0): row}, 4, 0, 3), "f")


def test_the_shares_of_a_gpu_fit_into_64_bits():
    length_s = 1 << 24
    rows = {(Label.STEADY, i): np.array([length_s * 10**6 // 4] + [0] * 11) for i in range(4)}
    with pytest.raises(RecordError, match="known_us"):
        state_check.check_blocks(RankBlocks.of(rows, length_s, 0, 1), "f")


SERIES = merge_series(gpu.series for gpu in RECORD.state.gpus)


@pytest.mark.parametrize("name", SERIES_COLUMNS)
def test_no_number_of_a_series_is_beyond_what_its_gpus_can_do(name):
    columns = SERIES.columns() | {name: SERIES.column(name).copy()}
    for value in (-1, 2**62):
        columns[name][3] = value
        with pytest.raises(RecordError, match=rf"^f\.{name}\[3\]: {value} is not within 0 and"):
            state_check.check_series(columns, 4, "f")


def test_a_score_of_a_second_is_at_most_100():
    complete_ms = SERIES.column("complete_ms").copy()
    complete_ms[7] = 100
    columns = SERIES.columns() | {"complete_ms": complete_ms, "sat": PPM * complete_ms}
    columns |= {
        name: np.minimum(columns[name], PPM * complete_ms)
        for name in columns
        if name in state_check._SHARE_TIMES["complete_ms"]
    }
    state_check.check_series(columns, 4, "f")
    columns["sat"][7] += 1
    with pytest.raises(RecordError, match=r"^f\.sat\[7\]"):
        state_check.check_series(columns, 4, "f")


def with_totals(**changes: int) -> Sums:
    totals = GPU.sums.totals | {name.replace("__", ":"): value for name, value in changes.items()}
    return msgspec.structs.replace(GPU.sums, totals=totals)


@pytest.mark.parametrize(
    "name",
    [
        *("sat:train", "lo:hpc", "hi:tensor", "loss:comm", "loss_attainable:grid", "by:dram", "v4", "attainable"),
        *("complete_us:train", "time_us", "known_us:engine", "levels_us", "windows", "engine_low_us", "sat:dram"),
    ],
)
def test_totals_are_within_their_time(name):
    with pytest.raises(RecordError, match=r"^f\."):
        state_check.check_sums(with_totals(**{name: 2**70}), "train", "f")
    with pytest.raises(RecordError, match="negative"):
        state_check.check_sums(with_totals(**{name: -1}), "train", "f")


@pytest.mark.parametrize("change", [{"read_us": -1}, {"clock_us": {5: -1}}, {"counts": {"xid_count": -1}}])
def test_no_time_and_no_count_is_negative(change):
    with pytest.raises(RecordError, match="negative"):
        state_check.check_sums(msgspec.structs.replace(GPU.sums, **change), "train", "f")


# --- whole reports


def written(directory: Path, gpus: list[GpuState]) -> Path:
    keep_sums(directory, [])
    state = msgspec.structs.replace(RECORD.state, gpus=tuple(gpus))
    made = msgspec.structs.replace(RECORD, state=state)
    (directory / sums_name(NODE.header)).write_bytes(encode_sums("train", None, [made]))
    return directory


def wild(rng: random.Random) -> GpuState:
    """Return the state of a GPU with one number that is another."""
    value, where = rng.choice(WILD), rng.randrange(3)
    if where == 0:
        name = rng.choice(sorted(GPU.sums.totals))
        return msgspec.structs.replace(GPU, sums=with_totals(**{name: value}))
    if where == 1:
        return msgspec.structs.replace(GPU, blocks=with_block(rng.choice(BLOCK_COLUMNS), lambda *_: value))
    name = rng.choice(SERIES_COLUMNS)
    mine = merge_series([GPU.series])
    changed = mine.column(name).copy()
    changed[rng.randrange(len(changed)) if rng.random() < 0.5 else slice(None)] = value
    return msgspec.structs.replace(GPU, series=type(mine)(mine.first_index, mine.columns() | {name: changed}))


@pytest.mark.parametrize("seed", range(40))
def test_a_wild_number_is_an_error_or_a_score_that_can_be(tmp_path, seed):
    directory = written(tmp_path / "run", [wild(random.Random(seed)), *RECORD.state.gpus[1:]])
    with contextlib.suppress(RecordError):
        summary = rebuild(directory).summary
        encode(summary)
        assert summary.headline.score_pct is not None
        assert 0 <= summary.headline.score_pct <= 100
        assert max(map(len, render(summary).splitlines())) < 200


def test_a_constant_column_gives_no_score_of_millions(tmp_path):
    series = merge_series([GPU.series])
    huge = type(series)(series.first_index, series.columns() | {"sat": np.full(len(series), 2**50)})
    directory = written(tmp_path / "run", [msgspec.structs.replace(GPU, series=huge), *RECORD.state.gpus[1:]])
    with pytest.raises(RecordError, match=r"sums-.*\$\.series\[0\]\.sat\[0\]: "):
        rebuild(directory)


@pytest.mark.parametrize("where", ["head", "sections"])
def test_of_many_files_a_damaged_one_is_left_out_and_said(tmp_path, where):
    whole = rebuild(keep_sums(tmp_path / "three", [[run] for run in RANKS[:3]])).summary
    directory = keep_sums(tmp_path / "four", [[run] for run in RANKS])
    path = directory / sums_name(RANKS[3].header)
    made = rank_of(RANKS[3])
    if where == "head":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        gpu = msgspec.structs.replace(made.state.gpus[0], sums=Sums(read_us=-5))
        state = msgspec.structs.replace(made.state, gpus=(gpu,))
        path.write_bytes(encode_sums("train", None, [msgspec.structs.replace(made, state=state)]))
    rebuilt = rebuild(directory)
    (note,) = [note for note in rebuilt.summary.notes if note.startswith("ranks are missing: ")]
    assert path.name in note
    assert note in rebuilt.warnings
    assert rebuilt.summary.job == whole.job
    refusal = judge(rebuilt.summary, 0.0)
    assert refusal is not None
    assert refusal.exit_code == 5
    for each in directory.glob("sums-*"):
        each.write_bytes(b"")
    with pytest.raises(RecordError, match="not a file of sums"):
        rebuild(directory)


def test_a_nested_object_of_any_depth_is_one_error(tmp_path):
    directory = keep_sums(tmp_path / "run", [[NODE]])
    path = directory / sums_name(NODE.header)
    deep = b"\x81\xa1x" + b"\x91" * 200_000 + b"\xc0"
    path.write_bytes(path.read_bytes()[:12] + len(deep).to_bytes(4, "little") + deep)
    with pytest.raises(RecordError, match="recursion"):
        rebuild(directory)


def test_a_nested_section_of_any_depth_is_one_error():
    deep = b"\x91" * 200_000 + b"\xc0"
    more = b"\x91\x94" + wire.encode_gpus([GPU], wire.Names())[2:] + deep
    with pytest.raises(RecordError, match=r"f: .*recursion"):
        wire.decode_gpus(more, [], "f")
    with pytest.raises(RecordError, match=r"f: .*recursion"):
        wire.decode_series(b"\x94" + wire.encode_series([SERIES])[1:] + deep, "f")


# --- what lies beside the sums


@pytest.mark.parametrize(
    "line",
    [
        b'{"progress":{"times":{"99999999":3},"longest_ns":5}}',
        b'{"progress":{"first_ns":1,"last_ns":2,"calls_count":-1}}',
        b'{"progress":{"first_ns":1,"last_ns":99999999999999999999999}}',
        b'{"progress":{"tokens":{"high":99999999999999999999999,"calls_count":3}}}',
        b'{"progress":{"flop":{"low":-1}}}',
        b'{"progress":{"flop":{"low":4611686018427387904}}}',
        b'{"mark":{"time_ns":99999999999999999999999999,"name":"steady"}}',
        b'{"mark":{"time_ns":1,"name":"\\u001b[31m"}}',
        b'{"mark":{"time_ns":1,"name":""}}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_a_line_that_satscore_never_writes_is_damaged(tmp_path, line):
    (tmp_path / MARKS_FILE).write_bytes(line + b'\n{"mark":{"time_ns":1,"name":"steady"}}\n')
    said = read_marks(tmp_path)
    assert (said.damaged_count, len(said.marks), said.progress.calls_count) == (1, 1, 0)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_marks_that_are_no_file_cost_no_report(tmp_path, make):
    directory = keep_sums(tmp_path / "run", [[NODE]])
    score_pct = rebuild(directory).summary.headline.score_pct
    make(directory / MARKS_FILE)
    rebuilt = rebuild(directory)
    assert rebuilt.summary.headline.score_pct == score_pct
    (warning,) = [text for text in rebuilt.warnings if MARKS_FILE in text]
    assert warning in rebuilt.summary.notes


def test_a_grouping_that_is_none_names_file_and_key(tmp_path):
    directory = keep_sums(tmp_path / "run", [[NODE]])
    content = read_run_file(directory)
    start = msgspec.structs.replace(content.start, group_by="rank//0")
    write_run_file(directory, msgspec.structs.replace(content, start=start))
    with pytest.raises(RecordError, match=r"run\.json: \$\.start\.group_by: 'rank//0'"):
        rebuild(directory)
    assert rebuild(directory, group_by="host").summary.headline.score_pct is not None


def test_a_run_without_an_end_goes_on_while_its_sums_are_young(tmp_path):
    directory = keep_sums(tmp_path / "run", [[NODE]], end=None)
    assert LIVE_NOTE in rebuild(directory).summary.notes
    (path,) = directory.glob("sums-*")
    old_s = path.stat().st_mtime - SUMS_QUIET_S - 5
    os.utime(path, (old_s, old_s))
    assert UNFINISHED_NOTE in rebuild(directory).summary.notes


# --- the digest of the bounds


def test_the_digest_of_bounds_is_one_of_numbers():
    bounds = resolve(next(model for model in MODELS if model.id == "h200-sxm"), H200_INFO)
    assert bounds.ceilings
    source = msgspec.structs.replace(bounds.ceilings[0].source, title="another title")
    ceiling = msgspec.structs.replace(bounds.ceilings[0], note="another note", source=source)
    prose = msgspec.structs.replace(bounds, ceilings=(ceiling, *bounds.ceilings[1:]))
    assert bounds_key(prose) == bounds_key(bounds)
    for name, value in msgspec.structs.asdict(bounds).items():
        changed: object = None
        if isinstance(value, float):
            changed = math.nextafter(value, math.inf)
        elif isinstance(value, dict) and value:
            first = next(iter(value))
            changed = value | {first: math.nextafter(value[first], math.inf)}
        if changed is not None:
            assert bounds_key(msgspec.structs.replace(bounds, **{name: changed})) != bounds_key(bounds), name


# --- the last line of defence


@pytest.mark.parametrize("score_pct", [28e6, 100.001, -0.001, math.inf, math.nan])
def test_a_gate_lets_no_score_pass_that_cannot_be(score_pct):
    summary = NODE.summary()
    for headline in (
        msgspec.structs.replace(summary.headline, score_pct=score_pct, ci95=None),
        msgspec.structs.replace(summary.headline, ci95=_interval(score_pct)),
    ):
        refusal = judge(msgspec.structs.replace(summary, headline=headline), 0.0)
        assert refusal is not None
        assert refusal.exit_code == 5
        assert "is no score" in refusal.text


def _interval(low_pct: float) -> ConfidenceItem:
    return ConfidenceItem(
        low_pct=low_pct,
        high_pct=99.0,
        half_width_pct=1.0,
        windows_count=900,
        batch_windows_count=8,
        batches_count=112,
        dof=100.0,
        reliable=True,
        systematic_pct=0.3,
    )


def test_a_bar_is_never_longer_than_its_room():
    part = LossPart(name="clock", points_pct=28e6, parts=[])
    (row,) = losses([part], 100)
    assert row.count("#") == BAR_WIDTH


def test_calls_at_a_time_that_cannot_be_are_counted_as_wrong():
    meter = ProgressMeter()
    for time_ns in (2**62, -(2**62), 10**40, 2**62 - 1, 1 - 2**62):
        meter.add(Step(time_ns=time_ns, step=time_ns % 7, wrong_count=0))
    state = meter.take()
    assert (state.calls_count, state.wrong_count) == (2, 3)
    assert msgspec.json.decode(msgspec.json.encode(state), type=ProgressState) == state
    meter.add(Step(time_ns=1, wrong_count=2**63))
    assert meter.take().wrong_count == 1_000_000


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 "),
        (0.5, "0.50 "),
        (999.4, "999 "),
        (999.6, "1.00 k"),
        (999_999, "1.00 M"),
        (1e6, "1.00 M"),
        (5e17, "500 P"),
    ],
)
def test_rates_have_three_digits_and_a_prefix(rate, text):
    assert words_run._si(rate) == text
