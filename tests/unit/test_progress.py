"""What a command reports by progress: parsing, sums that merge, rates and what they mean."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core import marks as lines
from satscore.core.marks import FLOP_MAX, STEP_MAX, TOKENS_MAX, Mark, Step, parse_line
from satscore.core.progress import JobNumbers, Progress, progress_of
from satscore.core.progress_state import PROCESSES_MAX, Amount, ProgressMeter, ProgressState
from satscore.core.units import NS_PER_S

READ_NS = 77
AMOUNTS = st.one_of(st.none(), st.integers(0, 10**24))
STEPS = st.builds(
    Step,
    time_ns=st.integers(0, 10**13),
    pid=st.integers(1, 2),
    rank=st.sampled_from([None, 0]),
    step=st.one_of(st.none(), st.integers(-2, 9), st.integers(-STEP_MAX, STEP_MAX)),
    tokens=AMOUNTS,
    flop=AMOUNTS,
    wrong_count=st.integers(0, 3),
)
CALLS = st.lists(STEPS, max_size=40)


def state_of(calls: list[Step]) -> ProgressState:
    meter = ProgressMeter()
    for call in calls:
        meter.add(call)
    return meter.take()


def calls_of(
    n: int, *, every_s: float = 0.5, pid: int = 1, first_step: int = 0, tokens: int | None = 100
) -> list[Step]:
    """One process that calls n times, at equal distances, from 10 s on."""
    return [
        Step(time_ns=round((10 + i * every_s) * NS_PER_S), pid=pid, step=first_step + i, tokens=tokens, flop=None)
        for i in range(n)
    ]


def progress(state: ProgressState, job: JobNumbers | None = None) -> Progress:
    found = progress_of(state, job or JobNumbers())
    assert found is not None
    return found


def line(**said: object) -> bytes:
    return json.dumps(said).encode()


# Lines


def test_a_mark_and_a_step_are_told_apart():
    assert parse_line(b'{"time_ns": 5, "pid": 3, "mark": "eval"}\n', READ_NS) == Mark(time_ns=5, name="eval")
    assert parse_line(b'{"time_ns":5,"pid":3,"rank":1,"step":7,"tokens":9,"flop":1e15}', READ_NS) == Step(
        time_ns=5, pid=3, rank=1, step=7, tokens=9, flop=10**15
    )


def test_a_line_by_hand_has_the_time_at_which_it_is_read():
    assert parse_line(b'{"mark": "x"}', READ_NS) == Mark(time_ns=READ_NS, name="x")
    assert parse_line(b'{"tokens": 5}', READ_NS) == Step(time_ns=READ_NS, tokens=5)


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"", b"x", b"[]", b"{}", b"null", b'{"mark": 5}', b'{"mark": ""}', b'{"mark": "\\u0007 "}', b"\xff\xfe"),
        *(
            b'{"step": true}',
            b'{"step": "5"}',
            b'{"tokens": NaN}',
            b'{"tokens": 1e999}',
            b'{"time_ns": 1.5, "step": 1}',
        ),
        *(b'{"step": 1} {"step": 2}', b'{"pid": 4, "time_ns": 4}', b'{"x": ' + b"[" * 4000, b'{"mark": "\\ud800"}'),
        line(mark="m" * lines.LINE_MAX_BYTES),
    ],
)
def test_garbage_is_nothing(garbage):
    assert parse_line(garbage, READ_NS) is None


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: ('{"mark":' + json.dumps(text) + "}").encode()))
def test_no_line_breaks_the_parser(data):
    found = parse_line(data, READ_NS)
    assert found is None or isinstance(found, Mark | Step)
    if isinstance(found, Mark):
        assert found.name.isprintable()
        assert 0 < len(found.name) <= 200


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"step": 5.0}, {"step": 5}),
        ({"step": 5.5, "tokens": 1}, {"tokens": 1, "wrong_count": 1}),
        ({"step": 2 * STEP_MAX}, {"wrong_count": 1}),
        ({"step": -3}, {"step": -3}),
        ({"tokens": -1, "flop": -1.0}, {"wrong_count": 2}),
        ({"tokens": 2 * TOKENS_MAX, "flop": 2 * FLOP_MAX, "step": 1}, {"step": 1, "wrong_count": 2}),
        ({"tokens": 10**40}, {"wrong_count": 1}),
        ({"tokens": 2.6}, {"tokens": 3}),
        ({"step": 1, "wrong_count": -4}, {"step": 1}),
        ({"step": 1, "new_field": [1]}, {"step": 1}),
    ],
)
def test_values_that_are_none_are_counted(said, kept):
    assert parse_line(line(**said), READ_NS) == Step(time_ns=READ_NS, **kept)


def test_names_are_fit_for_any_output():
    found = parse_line(line(mark="  a\x1b[31m\n\tb\u202e" + "c" * 500), READ_NS)
    assert isinstance(found, Mark)
    assert found.name == "a [31m b " + "c" * 191


# Sums


def test_rates_are_of_the_time_from_first_to_last_call():
    found = progress(state_of(calls_of(11)))  # ten steps of 0.5 s
    assert (found.first_ns, found.last_ns, found.range_s) == (10 * NS_PER_S, 15 * NS_PER_S, 5.0)
    assert (found.steps_count, found.calls_count, found.processes_count) == (10, 11, 1)
    assert found.tokens_s == pytest.approx(200)
    assert found.step_time_p50_s == pytest.approx(0.5, rel=0.005)
    assert found.step_time_max_s == 0.5


def test_processes_add_up_and_their_first_calls_are_in_no_rate():
    state = state_of([*calls_of(11, pid=1), *calls_of(11, pid=2), *calls_of(11, pid=3, tokens=None)])
    found = progress(state)
    assert found.tokens_s == pytest.approx(400)
    assert (found.steps_count, found.processes_count) == (10, 3)
    assert sum(state.times.values()) == 30


def test_processes_of_the_same_number_are_told_apart_by_rank():
    calls = [Step(time_ns=i * NS_PER_S, pid=1, rank=i % 2, step=i // 2, tokens=1) for i in range(10)]
    assert state_of(calls).processes_count == 2
    assert state_of(calls).longest_ns == 2 * NS_PER_S


def test_a_call_every_hundred_steps_times_each_of_them():
    state = state_of([Step(time_ns=0, pid=1, step=100), Step(time_ns=50 * NS_PER_S, pid=1, step=200)])
    found = progress(state)
    assert sum(state.times.values()) == 100
    assert (found.steps_count, found.step_time_max_s) == (100, 0.5)
    assert found.missing["tokens_s"] == "needs tokens="


def test_several_calls_within_a_step_are_one_step():
    """Gradient accumulation: the amounts add, the step's time runs from its first call."""
    calls = [Step(time_ns=i * NS_PER_S, pid=1, step=i // 4, tokens=10) for i in range(9)]
    found = progress(state_of(calls))
    assert (found.steps_count, found.step_time_max_s, found.tokens_s) == (2, 4.0, 10.0)


def test_a_restart_goes_on_from_the_lower_step_without_timing_the_jump():
    before, after = calls_of(5), [msgspec.structs.replace(c, time_ns=c.time_ns + 90 * NS_PER_S) for c in calls_of(5)]
    found = progress(state_of([*before, *after]))
    assert (found.steps_count, found.step_time_max_s) == (8, 0.5)
    assert found.tokens_s == pytest.approx(900 / 92)


def test_far_jumps_and_a_clock_that_runs_backwards_are_no_step_times():
    state = state_of([Step(time_ns=9, pid=1, step=0), Step(time_ns=10, pid=1, step=STEP_MAX)])
    assert (state.steps_count, state.times) == (0, {})
    state = state_of([Step(time_ns=NS_PER_S, pid=1, step=0), Step(time_ns=5, pid=1, step=1)])
    assert (state.steps_count, state.times, state.clock_back_count) == (1, {}, 1)
    found = progress(state)
    assert found.missing["step_time_p50_s"] == "the clock ran backwards in every step"
    assert found.notes == ["the clock ran backwards in 1 steps: they are in no step time"]


@given(CALLS, st.lists(st.integers(0, 40), max_size=5))
def test_however_calls_are_cut_into_parts_the_state_is_the_same(calls, cuts):
    meter, merged = ProgressMeter(), ProgressState()
    for i, call in enumerate(calls):
        if i in cuts:
            merged = merged.merge(meter.take())
        meter.add(call)
    assert merged.merge(meter.take()) == state_of(calls)


def test_steps_of_a_process_are_counted_through_all_parts():
    meter, merged = ProgressMeter(), ProgressState()
    for call in calls_of(11):
        meter.add(call)
        merged = merged.merge(meter.take())
    assert (merged.steps_count, sum(merged.times.values()), merged.processes_count) == (10, 10, 1)


@given(CALLS, CALLS, CALLS)
def test_states_merge_in_any_order(a, b, c):
    x, y, z = state_of(a), state_of(b), state_of(c)
    assert x.merge(y) == y.merge(x)
    assert x.merge(y).merge(z) == x.merge(y.merge(z))
    assert x.merge(ProgressState()) == x


@given(CALLS)
def test_a_state_travels_as_json_and_as_msgpack(calls):
    state = state_of(calls * 3)
    assert msgspec.json.decode(msgspec.json.encode(state), type=ProgressState) == state
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ProgressState) == state


@given(st.lists(st.integers(0, int(FLOP_MAX)), max_size=50))
def test_sums_above_64_bits_are_exact(amounts):
    total = Amount()
    for amount in amounts:
        total = total.plus(amount)
    assert (total.total, total.calls_count) == (sum(amounts), len(amounts))
    assert 0 <= total.low < 1 << 62


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_half_a_percent_exact(times_ns, share):
    now_ns, calls = 0, [Step(time_ns=0, pid=1, step=0)]
    for i, time_ns in enumerate(times_ns):
        now_ns += time_ns
        calls.append(Step(time_ns=now_ns, pid=1, step=i + 1))
    exact_ns = sorted(times_ns)[math.ceil(share * len(times_ns)) - 1]
    found_s = state_of(calls).step_time_s(share)
    assert found_s == pytest.approx(exact_ns / NS_PER_S, rel=0 if share == 1 else 0.00501)


def test_memory_is_bounded_whatever_the_number_of_calls_and_processes():
    meter = ProgressMeter()
    for i in range(30_000):
        meter.add(Step(time_ns=i * 1_000_000 + (i * i) % 999_983, pid=i % (PROCESSES_MAX + 50), step=i, tokens=1))
    assert len(meter._clocks) == PROCESSES_MAX
    for pid in (1, 2):
        for i in range(40_000):  # times of all sizes, from 1 ns to a month
            meter.add(Step(time_ns=2 ** (i % 52) * (i % 97 + 1), pid=pid, step=i))
    assert len(msgspec.json.encode(meter.take())) < 40_000


@given(CALLS)
def test_whatever_is_reported_there_are_finite_numbers_or_reasons(calls):
    state = state_of(calls)
    found = progress_of(state, JobNumbers(power_w={"gpu": 500.0}, dtype="bf16", peak_flops_s=1e15, tensor_score_pct=40))
    assert (found is None) == (not calls)
    if found is None:
        return
    values = msgspec.to_builtins(found)
    assert {name for name, value in values.items() if value is None} == found.missing.keys()
    assert all(reason for reason in found.missing.values())
    assert all(math.isfinite(value) and value >= 0 for value in values.values() if isinstance(value, float))


# Meaning


def test_what_needs_the_counters_is_computed_over_all_gpus():
    calls = [Step(time_ns=i * NS_PER_S, pid=1, step=i, tokens=10_000, flop=8 * 10**14) for i in range(101)]
    job = JobNumbers(
        power_w={"gpu": 2000.0, "module": 2500.0},
        energy_j={"gpu": 7.2e6},
        tensor_score_pct=50.0,
        dtype="bf16",
        peak_flops_s=2e15,
    )
    found = progress(state_of(calls), job)
    assert found.tokens_s == pytest.approx(10_000)
    assert found.power_scope == "module"
    assert found.tokens_per_j == pytest.approx(4.0)
    assert found.flops_s == pytest.approx(8e14)
    assert found.mfu_pct == pytest.approx(40)
    assert found.t_over_mfu == pytest.approx(1.25)
    assert found.energy_scope == "gpu"
    assert found.energy_kwh == pytest.approx(2.0)
    assert (found.missing, found.notes) == ({}, [])


@pytest.mark.parametrize(("tensor_pct", "is_said"), [(37.1, False), (36.9, True), (None, False)])
def test_an_mfu_above_what_was_executed_is_said_to_be_impossible(tensor_pct, is_said):
    calls = [Step(time_ns=i * NS_PER_S, pid=1, flop=4 * 10**14) for i in range(5)]
    job = JobNumbers(dtype="bf16", peak_flops_s=1e15, tensor_score_pct=tensor_pct)
    notes = progress(state_of(calls), job).notes
    assert [note.startswith("MFU 40.0 above the tensor score 36.9 cannot be") for note in notes] == [True] * is_said


def test_every_null_has_its_reason():
    silent = progress(state_of(calls_of(1)))
    assert silent.missing["tokens_s"] == "needs two calls or more of a process"
    assert silent.missing["steps_count"] == "needs two calls of a process with rising step numbers"
    assert silent.missing["tokens_per_j"] == silent.missing["tokens_s"]
    found = progress(state_of(calls_of(3)))
    assert found.missing == {
        "flops_s": "needs flop=",
        "power_scope": "power not known in that time",
        "tokens_per_j": "power not known in that time",
        "energy_scope": "energy not known",
        "energy_kwh": "energy not known",
        "mfu_pct": "needs flop=",
        "t_over_mfu": "needs flop=",
    }
    with_flop = state_of([Step(time_ns=i * NS_PER_S, pid=1, flop=i) for i in range(3)])
    assert progress(with_flop).missing["mfu_pct"] == "needs --dtype"
    assert progress(with_flop).missing["steps_count"] == "needs step="
    assert progress(with_flop, JobNumbers(dtype="fp8")).missing["mfu_pct"] == "no peak known for fp8 on all GPUs"
    with_peak = JobNumbers(dtype="fp8", peak_flops_s=1.0)
    assert progress(with_flop, with_peak).missing["t_over_mfu"] == "tensor score not known"
    idle = state_of([Step(time_ns=i * NS_PER_S, pid=1, flop=0) for i in range(3)])
    assert progress(idle, with_peak).missing["t_over_mfu"] == "MFU is 0"
    at_once = state_of([Step(time_ns=5, pid=1, tokens=1) for _ in range(3)])
    assert progress(at_once).missing["tokens_s"] == "all calls are of the same time"


def test_amounts_are_not_known_where_calls_were_lost():
    meter = ProgressMeter()
    for call in calls_of(3):
        meter.add(call)
    meter.add_lost(5_000_000)
    found = progress(meter.take())
    assert found.tokens_s is None
    assert found.missing["tokens_s"] == "some calls came faster than they could be read"
    assert found.step_time_max_s == 0.5
    assert found.notes == ["5.0 MB of progress came faster than they could be read: call it less often"]


def test_wrong_values_are_said_once():
    found = progress(state_of([Step(time_ns=1, pid=1, wrong_count=3)]))
    assert found.notes == [
        "3 values given to progress are no whole step or no finite amount >= 0: they are not counted"
    ]
