"""The process that speaks to DCGM: what it makes of DCGM's records, and how it behaves as a process.

The processes are real; the bindings are dcgm_package.py's, whose engine can be told to fail at any call.
"""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.counters.dcgm.multiplexing import takes_turns
from satscore.counters.dcgm.samples import (
    V1_HEAD_SIZE,
    V2_SIZE,
    Unseen,
    facts_of_v2,
    median_step_us,
    value_of_v1,
    values_of_v2,
)
from satscore.counters.dcgm.wire import (
    BLANK,
    Connect,
    EngineCpu,
    EngineGpu,
    Failed,
    Found,
    Message,
    Request,
    Samples,
    Value,
    Watch,
    Watching,
)
from satscore.counters.dcgm.worker import next_deadline_s
from tests.fakes.build import DCGM_VERSIONS, FakeDcgm, fake_dcgm
from tests.process.harness import TIMEOUT_S, environment, state_of, wait_for
from tests.unit.dcgm_package import Package

pytestmark = pytest.mark.slow

__all__ = ["fake_dcgm"]
T = TypeVar("T")
PERIOD_US = 50_000


def record(field: int, kind: str, value: float | str, *, entity: int = 0, status: int = 0, ts_us: int = 1000) -> bytes:
    """A dcgmFieldValue_v2 as the library leaves it, by the layout of dcgm_structs.h."""
    head = struct.pack("=IIIHhiIq", 0xDEAD, 1, entity, field, ord(kind), status, 0xBEEF, ts_us)
    if isinstance(value, str):
        raw = value.encode() + b"\0old text behind it"
    else:
        raw = struct.pack("=d" if kind == "d" else "=q", value)
    return (head + raw).ljust(V2_SIZE, b"\xff")


# What the records say.


@pytest.mark.parametrize(
    ("kind", "value", "status", "expected"),
    [
        ("d", 0.5, 0, (0, 0.5)),
        ("d", 140737488355327.0, 0, (0, 140737488355327.0)),
        ("d", 140737488355328.0, 0, (BLANK, None)),
        ("d", 140737488355329.0, 0, (-14, None)),
        ("d", 140737488355330.0, 0, (-6, None)),
        ("d", 140737488355331.0, 0, (-17, None)),
        ("d", 140737488355332.0, 0, (0, 140737488355332.0)),
        ("d", 2e15, 0, (0, 2e15)),
        ("d", float("nan"), 0, (BLANK, None)),
        ("d", float("inf"), 0, (BLANK, None)),
        ("i", 140737488355328, 0, (0, 140737488355328)),
        ("i", -1, 0, (0, -1)),
        ("i", 0x7FFFFFF0, 0, (0, 0x7FFFFFF0)),
        ("i", 0x7FFFFFFFFFFFFFF0, 0, (BLANK, None)),
        ("i", 0x7FFFFFFFFFFFFFF1, 0, (-14, None)),
        ("i", 0x7FFFFFFFFFFFFFF2, 0, (-6, None)),
        ("i", 0x7FFFFFFFFFFFFFF3, 0, (-17, None)),
        ("i", 0x7FFFFFFFFFFFFFF4, 0, (0, 0x7FFFFFFFFFFFFFF4)),
        ("t", 77, 0, (0, 77)),
        ("d", 0.5, -16, (-16, None)),
        ("i", 5, -21, (-21, None)),
        ("s", "text", 0, (-6, None)),
        ("b", "blob", 0, (-6, None)),
    ],
)
def test_a_value_or_why_there_is_none(kind: str, value: Any, status: int, expected: tuple[int, Any]) -> None:
    (read,) = values_of_v2(record(1004, kind, value, entity=3, status=status, ts_us=1_790_000_000_000_000))
    assert (read.entity, read.field, read.ts_us) == (3, 1004, 1_790_000_000_000_000)
    assert (read.status, read.value) == expected
    assert type(read.value) is type(expected[1])


def test_records_in_a_row_keep_their_order() -> None:
    rows = record(1001, "d", 0.25, entity=0) + record(100, "i", 1980, entity=1) + record(155, "d", 300.0, entity=2)
    assert values_of_v2(rows) == [
        Value(0, 1001, 1000, 0, 0.25),
        Value(1, 100, 1000, 0, 1980),
        Value(2, 155, 1000, 0, 300.0),
    ]


@pytest.mark.parametrize(("kind", "value"), [("d", 0.75), ("i", 2619)])
def test_a_record_of_the_older_layout(kind: str, value: float) -> None:
    head = struct.pack("=IHhi4xq", 0xDEAD, 1005, ord(kind), 0, 42) + struct.pack("=d" if kind == "d" else "=q", value)
    assert len(head) == V1_HEAD_SIZE
    assert value_of_v1(2, head) == Value(2, 1005, 42, 0, value)


def test_facts_are_numbers_and_strings_without_blanks() -> None:
    rows = [
        record(54, "s", "GPU-1234", entity=2),
        record(50, "s", "<<<NULL>>>", entity=2),
        record(51, "s", "<<<NOT_SUPPORTED>>>", entity=2),
        record(52, "s", "", entity=2),
        record(57, "s", "unanswered", entity=2, status=-6),
        record(113, "i", 1980, entity=2),
        record(160, "d", 700.0, entity=2),
        record(250, "i", 0x7FFFFFFFFFFFFFF0, entity=2),
    ]
    assert list(facts_of_v2(b"".join(rows))) == [(2, 54, "GPU-1234"), (2, 113, 1980), (2, 160, 700.0)]


# Which of them are new.


def value(ts_us: int, field: int = 1004, entity: int = 0) -> Value:
    return Value(entity, field, ts_us, 0, 0.5)


def test_what_was_held_before_our_watch_is_not_ours() -> None:
    unseen = Unseen([value(500)], [1004], 100)
    assert unseen.take([value(500), value(500, field=1005)]) == [value(500, field=1005)]
    assert unseen.take([value(501)]) == [value(501)]


def test_what_has_no_time_is_not_a_sample() -> None:
    unseen = Unseen([], [1004], 100)
    assert unseen.take([Value(0, 1004, 0, -14, None)]) == []


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 1), st.sampled_from([155, 1004]), st.integers(0, 20)), max_size=8), max_size=6
    )
)
def test_each_sample_is_taken_once_and_in_order(fetches: list[list[tuple[int, int, int]]]) -> None:
    unseen = Unseen([value(3)], [1004], 5)
    taken = [
        (got.entity, got.field, got.ts_us)
        for fetch in fetches
        for got in unseen.take(
            [value(ts, field, entity) for entity, field, ts in sorted(fetch, key=lambda row: row[2])]
        )
    ]
    assert len(set(taken)) == len(taken)
    for key in {row[:2] for row in taken}:
        times = [row[2] for row in taken if row[:2] == key]
        assert times == sorted(times)
        assert times[0] > (3 if key == (0, 1004) else 0)


def test_only_a_pipe_sample_of_ours_can_have_been_missed() -> None:
    unseen = Unseen([value(100)], [1004], 100)
    assert unseen.missed_since_us([value(900)]) is None  # nothing of ours before it
    unseen.take([value(900), value(900, entity=1), value(900, field=155)])
    assert unseen.missed_since_us([value(1050)]) is None  # one and a half periods
    assert unseen.missed_since_us([value(1051)]) == 900
    assert unseen.missed_since_us([value(2000, field=155)]) is None
    unseen.take([value(1000)])
    assert unseen.missed_since_us([value(1300, entity=1), value(1300)]) == 900


def test_two_rounds_are_pipe_samples_more_than_half_a_period_apart() -> None:
    unseen = Unseen([], [1004, 1005], 100)
    assert not unseen.are_two_rounds([])
    assert not unseen.are_two_rounds([value(1000), value(1050, field=1005)])
    assert unseen.are_two_rounds([value(1000), value(1051, field=1005)])
    assert not unseen.are_two_rounds([value(1000), value(1100, field=155)])


@pytest.mark.parametrize(
    ("now_s", "aside", "expected_s"),
    [
        (10.01, False, 10.2),
        (10.01, True, 10.1),
        (10.15, True, 10.3),
        (10.25, False, 10.4),
        (13.05, False, 13.2),
        (13.05, True, 13.1),
    ],
)
def test_fetches_keep_their_phase_however_late_they_are(now_s: float, aside: bool, expected_s: float) -> None:
    assert next_deadline_s(10.0, now_s, 0.2, aside=aside) == pytest.approx(expected_s)


# Whether fields take turns.


@pytest.mark.parametrize(
    ("groups", "wanted", "expected"),
    [
        ([], {1004}, False),
        ([(0, {1001, 1004, 1005})], {1001, 1004}, False),
        # GPM: groups of different major ids, and a field in none.
        ([(0, {1001, 1004}), (1, {1040}), (2, {1084})], {1001, 1004, 1040, 9999}, False),
        # A100: tensor, FP64, FP32 and FP16 in turns.
        ([(0, {1002, 1004}), (0, {1006}), (0, {1007}), (1, {1005})], {1002, 1004, 1005}, False),
        ([(0, {1002, 1004}), (0, {1006}), (0, {1007}), (1, {1005})], {1002, 1006}, True),
        # Also in another major id: counted there.
        ([(0, {1004, 1002}), (0, {1006}), (1, {1006, 1005})], {1004, 1006}, False),
        ([(0, {1004}), (0, {1006}), (1, {1006}), (1, {1005})], {1004, 1006, 1005}, True),
    ],
)
def test_turns(groups: list[tuple[int, set[int]]], wanted: set[int], expected: bool) -> None:
    assert takes_turns(groups, wanted) is expected


# The process.


class Process:
    """A worker, with what goes in and what comes out."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.run = subprocess.Popen(
            [sys.executable, "-P", "-m", "satscore.counters.dcgm.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment(PYTHONWARNINGS="error") if env is None else env,
            start_new_session=True,
        )
        # What never comes is then an end of file.
        self._limit = threading.Timer(2 * TIMEOUT_S, self.run.kill)
        self._limit.start()

    def send(self, request: Request) -> None:
        assert self.run.stdin is not None
        self.run.stdin.write(msgspec.json.encode(request) + b"\n")
        self.run.stdin.flush()

    def receive(self) -> Message | None:
        assert self.run.stdout is not None
        line = self.run.stdout.readline()
        return msgspec.json.decode(line, type=Message) if line else None

    def expect(self, kind: type[T]) -> T:
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def connect(self, address: str | None = "127.0.0.1:5555", static_fields: tuple[int, ...] = ()) -> None:
        request = Connect(bindings=str(self.folder), address=address, timeout_s=1.5, static_fields=list(static_fields))
        self.send(request)

    def watch(self, pipes: list[int], others: list[int], period_us: int = PERIOD_US) -> None:
        self.connect()
        self.expect(Found)
        self.send(Watch(entities=[0, 3], pipe_fields=pipes, other_fields=others, period_us=period_us))

    def close(self) -> None:
        """End its input and wait for the end of all that it says; nothing comes but lines of the protocol."""
        assert self.run.stdin is not None
        assert self.run.stderr is not None
        self.run.stdin.close()
        while self.receive() is not None:
            pass
        assert self.run.wait(TIMEOUT_S) == 0
        assert self.run.stderr.read() == b""

    def kill(self) -> None:
        self._limit.cancel()
        for pipe in (self.run.stdin, self.run.stdout, self.run.stderr):
            assert pipe is not None
            pipe.close()
        self.run.kill()
        self.run.wait()


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


@pytest.fixture
def process(package: Package) -> Iterator[Process]:
    running = Process(package.folder)
    yield running
    running.kill()


def found(*facts: dict[int, Any]) -> Found:
    gpus = [EngineGpu(entity=entity, static=static) for entity, static in zip((0, 3), facts, strict=True)]
    return Found(bindings_version="4.2.3", gpus=gpus)


STATIC = {50: "Name", 113: 1980, 160: 700.0}


def test_gpus_with_the_facts_that_they_answer(process: Process) -> None:
    process.connect(static_fields=(50, 54, 57, 113, 160, 250))
    assert process.receive() == found(STATIC | {54: "GPU-0"}, STATIC | {54: "GPU-3"})
    process.close()


def test_a_fact_that_spoils_the_call_costs_only_itself(package: Package, process: Process) -> None:
    package.set(unanswered=[113])
    process.connect(static_fields=(50, 113, 160))
    expected = {50: "Name", 160: 700.0}
    assert process.receive() == found(expected, expected)


def test_a_pipe_field_is_never_asked_live(process: Process) -> None:
    # The stand-in aborts at that, as nv-hostengine 4.6.0 does.
    process.connect(static_fields=(54, 1004))
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == ("defect", None)
    assert "never asked live" in failed.text


@pytest.mark.parametrize(
    ("address", "call"),
    [
        ("gpu7:5556", "dcgmConnect_v3 tcp://gpu7:5556 1500"),
        ("unix:///run/he", "dcgmConnect_v3 unix:///run/he 1500"),
        (None, "dcgmStartEmbedded 1"),
    ],
)
def test_addresses(package: Package, process: Process, address: str | None, call: str) -> None:
    process.connect(address)
    process.expect(Found)
    assert call in package.calls()
    process.close()
    assert package.calls()[-2:] == ["dcgmStopEmbedded" if address is None else "dcgmDisconnect", "dcgmShutdown"]


@pytest.mark.parametrize("reason", [{"hide": ["dcgmConnect_v3"]}, {"fail": {"dcgmConnect_v3": -20}}])
@pytest.mark.parametrize(
    ("address", "call"),
    [("gpu7:5556", "dcgmConnect_v2 gpu7:5556 1500 0"), ("unix:///run/he", "dcgmConnect_v2 /run/he 1500 1")],
)
def test_bindings_or_libraries_before_4_5_are_connected_the_older_way(
    package: Package, process: Process, reason: dict[str, Any], address: str, call: str
) -> None:
    package.set(**reason)
    process.connect(address)
    process.expect(Found)
    assert call in package.calls()


@pytest.mark.parametrize(
    ("settings", "stage", "status", "text"),
    [
        ({"fail": {"dcgmInit": -25}}, "library", -25, "dcgmInit: status -25"),
        ({"fail": {"dcgmConnect_v3": -21}}, "connect", -21, "dcgmConnect_v3: status -21"),
        ({"handle": None}, "connect", None, "no handle"),
        ({"fail": {"dcgmGetAllSupportedDevices": -21}}, "connect", -21, ""),
        ({"fail": {"dcgmGetAllSupportedDevices": -11}}, "connect", -11, ""),
        ({"fail": {"dcgmGetAllSupportedDevices": -56}}, "gpus", -56, ""),
        ({"fail": {"dcgmEntitiesGetLatestValues": -21}}, "connect", -21, ""),
        ({"hide": ["dcgmGetAllSupportedDevices"]}, "gpus", -20, "the bindings lack it"),
    ],
)
def test_what_fails_before_the_gpus_are_known(
    package: Package, process: Process, settings: dict[str, Any], stage: str, status: int | None, text: str
) -> None:
    package.set(**settings)
    process.connect(static_fields=(54,))
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == (stage, status)
    assert text in failed.text
    assert process.receive() is None
    assert process.run.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import sys; sys.exit(1)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        ("import distro_of_nobody", "ModuleNotFoundError"),
    ],
)
def test_bindings_that_cannot_be_imported(package: Package, process: Process, code: str, text: str) -> None:
    (package.folder / "dcgm_agent.py").write_text(code)
    process.connect()
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == ("bindings", None)
    assert text in failed.text
    assert str(package.folder) in failed.text


def test_records_of_another_size_are_not_read(package: Package, process: Process) -> None:
    structs = package.folder / "dcgm_structs.py"
    structs.write_text(structs.read_text().replace("c_byte * 4096", "c_byte * 8192"))
    process.connect()
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == ("library", None)
    assert "bytes" in failed.text


def test_nothing_is_written_beside_the_bindings(package: Package, process: Process) -> None:
    before = {path.name for path in package.folder.iterdir()}
    process.connect()
    process.expect(Found)
    assert {path.name for path in package.folder.iterdir()} - before == {"calls.log"}


def test_a_line_that_is_not_of_the_protocol_is_a_defect(process: Process) -> None:
    assert process.run.stdin is not None
    process.run.stdin.write(b'{"type":"connect"}\n')
    process.run.stdin.flush()
    assert process.expect(Failed).stage == "defect"


def samples_until(process: Process, enough: Callable[[list[Value]], bool]) -> list[Value]:
    """All values of messages, each of which says what the process cost, until they are enough."""
    values: list[Value] = []
    while not enough(values):
        said = process.expect(Samples)
        assert said.cpu_s > 0
        assert 4e6 < said.rss_bytes < 200e6
        assert abs((said.wall_ns - time.time_ns()) - (said.fetched_ns - time.monotonic_ns())) < 5e7
        values += said.values
    return values


def of(values: list[Value], entity: int, field: int) -> list[Value]:
    return [value for value in values if (value.entity, value.field) == (entity, field)]


def test_pipe_and_other_fields_are_watched_apart_and_read_together(package: Package, process: Process) -> None:
    process.watch([1004, 1005], [100, 155])
    assert process.receive() == Watching(refused={}, multiplexed=[])
    values = samples_until(process, lambda values: len(of(values, 3, 1005)) >= 5)
    assert package.calls("dcgmWatchFields") == ["dcgmWatchFields 1004 1005 50000", "dcgmWatchFields 100 155 50000"]
    assert package.calls("dcgmGroupAddEntity") == ["dcgmGroupAddEntity 1 0", "dcgmGroupAddEntity 1 3"]
    keys = {(value.entity, value.field) for value in values}
    assert keys == {(entity, field) for entity in (0, 3) for field in (1004, 1005, 100, 155)}
    for key in keys:
        mine = of(values, *key)
        assert [value.value for value in mine] == [(key[1] / 1e4 if key[1] > 1000 else sum(key))] * len(mine)
        steps = {later.ts_us - earlier.ts_us for earlier, later in pairwise(mine)}
        assert all(step > 0 and step % PERIOD_US == 0 for step in steps)
        if key[1] > 1000:
            assert steps == {PERIOD_US}
    process.close()
    assert package.calls()[-7:] == [
        "dcgmUnwatchFields 1004 1005",
        "dcgmFieldGroupDestroy 1004 1005",
        "dcgmUnwatchFields 100 155",
        "dcgmFieldGroupDestroy 100 155",
        "dcgmGroupDestroy",
        "dcgmDisconnect",
        "dcgmShutdown",
    ]


def test_an_engine_whose_reading_stands_still_gives_empty_messages(package: Package, process: Process) -> None:
    package.set(skip_rounds=100_000)
    process.watch([1004], [])
    process.expect(Watching)
    said = [process.expect(Samples).values for _ in range(5)]
    assert [len(values) for values in said] == [2, 0, 0, 0, 0]


def test_samples_of_an_earlier_client_are_not_ours(package: Package, process: Process) -> None:
    package.set(late_rounds=3)
    process.watch([1004], [155])
    process.expect(Watching)
    began_us = time.time_ns() / 1e3 - 2e6
    values = samples_until(process, lambda values: len(of(values, 0, 1004)) >= 2)
    assert min(value.ts_us for value in values) > began_us


def test_pipe_samples_between_two_fetches_are_caught_up_with(package: Package, process: Process) -> None:
    package.set(skip_rounds=12)
    process.watch([1004, 1005], [155])
    process.expect(Watching)
    values = samples_until(process, lambda values: len(of(values, 0, 1004)) > 12)
    assert package.calls("dcgmGetValuesSince_v2")
    for entity in (0, 3):
        for field in (1004, 1005):
            times = [value.ts_us for value in of(values, entity, field)]
            assert {later - earlier for earlier, later in pairwise(times)} == {PERIOD_US}
    assert len(of(values, 0, 155)) < len(of(values, 0, 1004))


@pytest.mark.parametrize("faster", [1, 4])
def test_how_often_the_engine_samples_is_looked_at_now_and_then(
    package: Package, process: Process, faster: int
) -> None:
    package.set(faster=faster)
    process.watch([1004, 1005], [155])
    process.expect(Watching)
    steps_us = [process.expect(Samples).step_us for _ in range(40)]
    assert [step_us for step_us in steps_us if step_us is not None] == [PERIOD_US // faster]


def test_the_step_is_that_of_one_field_of_one_entity() -> None:
    times = {(0, 1004): [100, 300, 500], (0, 1005): [110, 310, 900], (1, 1004): [0, 0], (2, 1004): [105]}
    values = [Value(entity, field, ts_us, 0, 0.5) for (entity, field), each in times.items() for ts_us in each]
    assert median_step_us(values) == 200
    assert median_step_us(values[-3:]) is None


def test_a_catch_up_that_fails_leaves_a_gap(package: Package, process: Process) -> None:
    package.set(skip_rounds=6, fail={"dcgmGetValuesSince_v2": -16})
    process.watch([1004], [])
    process.expect(Watching)
    values = samples_until(process, lambda values: len(of(values, 0, 1004)) >= 3)
    times = [value.ts_us for value in of(values, 0, 1004)]
    assert times[1] - times[0] >= 6 * PERIOD_US


def test_refused_fields_are_named_and_the_rest_is_watched(package: Package, process: Process) -> None:
    package.set(refuse={1006: -6, 155: -17})
    process.watch([1004, 1005, 1006, 1007], [100, 150, 155])
    assert process.receive() == Watching(refused={1006: -6, 155: -17}, multiplexed=[])
    values = samples_until(process, lambda values: len(of(values, 3, 150)) >= 2)
    assert {value.field for value in values} == {1004, 1005, 1007, 100, 150}
    process.close()
    destroyed = package.calls("dcgmFieldGroupDestroy")
    assert len(destroyed) == len(package.calls("dcgmFieldGroupCreate"))


@pytest.mark.parametrize("status", [-33, -36, -37, -34, -17, -29, -56])
def test_no_pipe_field_at_all_is_a_failure(package: Package, process: Process, status: int) -> None:
    package.set(refuse={1004: status, 1005: status, 1006: status})
    process.watch([1004, 1005, 1006], [155])
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == ("watch", status)
    assert failed.text == f"dcgmWatchFields: status {status}"


def test_other_fields_only(process: Process) -> None:
    process.watch([], [155])
    assert process.receive() == Watching(refused={}, multiplexed=[])
    samples_until(process, lambda values: len(of(values, 0, 155)) >= 2)


def test_gpus_whose_pipe_fields_take_turns_are_named(package: Package, process: Process) -> None:
    package.set(groups=[[0, [1004, 1005]], [0, [1006]]])
    process.watch([1004, 1006], [])
    assert process.receive() == Watching(refused={}, multiplexed=[0])


@pytest.mark.parametrize("status", [-36, -6, -20])
def test_an_engine_that_does_not_name_its_groups(package: Package, process: Process, status: int) -> None:
    package.set(fail={"dcgmProfGetSupportedMetricGroups": status})
    process.watch([1004, 1006], [])
    assert process.receive() == Watching(refused={}, multiplexed=[])


@pytest.mark.parametrize("call", ["dcgmGroupCreate", "dcgmWatchFields", "dcgmProfGetSupportedMetricGroups"])
def test_a_connection_lost_while_watching_begins(package: Package, process: Process, call: str) -> None:
    package.set(fail={call: -21})
    process.watch([1004, 1005], [155])
    failed = process.expect(Failed)
    assert (failed.stage, failed.status) == ("watch", -21)
    assert len(package.calls(call)) == 1  # a lost connection is not asked again


def test_a_connection_lost_later_ends_the_process(package: Package, process: Process) -> None:
    process.watch([1004], [])
    process.expect(Watching)
    process.expect(Samples)
    package.set(fail={"dcgmEntitiesGetLatestValues": -21})
    said = process.receive()
    while isinstance(said, Samples):
        said = process.receive()
    assert said == Failed(stage="fetch", status=-21, text="dcgmEntitiesGetLatestValues: status -21")
    assert process.receive() is None
    assert process.run.wait(TIMEOUT_S) == 0


def test_a_failure_ends_it_although_leaving_hangs(package: Package, process: Process) -> None:
    process.watch([1004], [])
    process.expect(Watching)
    package.set(fail={"dcgmEntitiesGetLatestValues": -21}, hang=["dcgmUnwatchFields"])
    assert process.run.wait(TIMEOUT_S) == 0


def test_signals_of_a_terminal_and_a_batch_system_are_not_for_it(process: Process) -> None:
    process.watch([1004], [])
    process.expect(Watching)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        process.run.send_signal(number)
    for _ in range(4):
        process.expect(Samples)
    process.close()


def test_the_end_of_its_input_ends_it_while_a_connect_hangs(package: Package, process: Process) -> None:
    package.set(hang=["dcgmConnect_v3"])
    process.connect()
    wait_for(lambda: package.calls("dcgmConnect_v3"), "the call that hangs")
    process.close()


@pytest.mark.parametrize("call", ["dcgmEntitiesGetLatestValues", "dcgmUnwatchFields", "dcgmShutdown"])
def test_the_end_of_its_input_ends_it_while_a_later_call_hangs(package: Package, process: Process, call: str) -> None:
    process.watch([1004], [155])
    process.expect(Watching)
    process.expect(Samples)
    package.set(hang=[call])
    if call == "dcgmEntitiesGetLatestValues":
        asked = len(package.calls(call))
        wait_for(lambda: len(package.calls(call)) > asked, "a fetch that hangs")
    process.close()
    assert package.calls()[-1].split()[0] == call


@pytest.mark.slow
def test_the_end_of_its_parent_ends_it_although_its_input_is_open(package: Package) -> None:
    reading, writing = os.pipe()
    code = (
        "import subprocess, sys; "
        f"worker = [sys.executable, '-P', '-m', 'satscore.counters.dcgm.worker']; "
        f"print(subprocess.Popen(worker, stdin={reading}, stdout=subprocess.DEVNULL).pid, flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        pass_fds=[reading],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        request = Connect(bindings=str(package.folder), address="gpu7:5555", timeout_s=1.0, static_fields=[])
        os.write(writing, msgspec.json.encode(request) + b"\n")
        wait_for(lambda: package.calls("dcgmGetAllSupportedDevices"), "a worker that waits for the next request")
    wait_for(lambda: state_of(pid) in {"", "Z"}, "the end of a process without its parent")
    os.close(reading)
    os.close(writing)


def test_it_ends_when_nobody_reads_any_more(process: Process) -> None:
    process.watch([1004], [])
    process.expect(Watching)
    assert process.run.stdout is not None
    process.run.stdout.close()
    assert process.run.wait(TIMEOUT_S) == 0


def test_it_imports_little() -> None:
    code = "import satscore.counters.dcgm.worker, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), cwd="/", capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert not modules & {"numpy", "psutil", "pynvml", "nanoarrow", "satscore.core", "asyncio", "logging"}


# The same on a fake of the library (tests/fakes/dcgm), whose engine refuses what a real one refuses.


@contextmanager
def on_fake(
    fake: FakeDcgm, script: str | Path, variant: str = "4.6.0", extra: str = "", log: Path | None = None
) -> Iterator[Process]:
    env = fake.environment(script, variant=variant, extra=extra, log=log)
    running = Process(Path(env["SATSCORE_DCGM_BINDINGS"]), env)
    try:
        yield running
    finally:
        running.kill()


def begin(process: Process, pipes: list[int], others: list[int], address: str | None = "127.0.0.1:5555") -> list[int]:
    """Connect and watch all GPUs; return them."""
    process.connect(address, static_fields=(50, 54, 113))
    gpus = process.expect(Found).gpus
    assert all(str(gpu.static[54]).startswith("GPU-") for gpu in gpus)
    entities = [gpu.entity for gpu in gpus]
    process.send(Watch(entities=entities, pipe_fields=pipes, other_fields=others, period_us=PERIOD_US))
    return entities


@pytest.mark.parametrize("address", ["127.0.0.1:5555", None])
@pytest.mark.parametrize("version", DCGM_VERSIONS)
def test_every_version_of_the_library(fake_dcgm: FakeDcgm, version: str, address: str | None) -> None:
    with on_fake(fake_dcgm, "h200", version) as process:
        entities = begin(process, [1001, 1004, 1005], [100, 155, 156], address)
        assert process.receive() == Watching(refused={}, multiplexed=[])
        assert len(entities) == 2
        values = samples_until(process, lambda values: len(of(values, entities[-1], 1005)) >= 6)
        assert {(value.entity, value.field) for value in values} == {
            (entity, field) for entity in entities for field in (1001, 1004, 1005, 100, 155, 156)
        }
        pipe = of(values, entities[0], 1004)
        assert (pipe[0].status, pipe[0].value) == (BLANK, None)  # two readings make one
        assert all(value.status == 0 and isinstance(value.value, float) for value in pipe[1:])
        assert {isinstance(value.value, int) for value in of(values, 0, 156)} == {True}
        process.close()


def test_samples_that_the_engine_holds_of_another_client(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "h200", extra="older 5 0.2") as process:
        process.connect()
        process.expect(Found)
        began_us = time.time_ns() / 1e3
        process.send(Watch(entities=[0, 1], pipe_fields=[1004], other_fields=[155], period_us=PERIOD_US))
        process.expect(Watching)
        values = samples_until(process, lambda values: len(of(values, 1, 1004)) >= 3)
        assert min(value.ts_us for value in values) > began_us


CPUS = [EngineCpu(entity=cpu, cores=list(range(72 * cpu, 72 * cpu + 72))) for cpu in range(4)]


def watch_cpus(process: Process, *, period_us: int = PERIOD_US, fields: Sequence[int] = (1130, 1133)) -> Watching:
    """Watch GPUs and CPUs of a fake."""
    process.connect()
    entities = [gpu.entity for gpu in process.expect(Found).gpus]
    watch = Watch(
        entities=entities,
        pipe_fields=[1004],
        other_fields=[155],
        period_us=PERIOD_US,
        cpu_fields=list(fields),
        cpu_period_us=period_us,
    )
    process.send(watch)
    return process.expect(Watching)


@pytest.mark.parametrize("version", DCGM_VERSIONS)
def test_cpus_with_their_cores_and_powers(fake_dcgm: FakeDcgm, version: str) -> None:
    with on_fake(fake_dcgm, "gh200", version, extra="value cpu2 1130 170") as process:
        assert watch_cpus(process) == Watching(refused={}, multiplexed=[], cpus=CPUS)
        values = samples_until(process, lambda values: len(of(values, 3, 1133)) >= 3)
        assert {value.value for value in of(values, 2, 1130)} == {170}
        assert {value.value for value in of(values, 3, 1133)} == {640}
        assert {value.entity for value in values if value.field == 1130} == {0, 1, 2, 3}
        assert {value.value for value in of(values, 2, 155)} == {520}, "a GPU of the same number is another thing"
        process.close()


def test_cpus_have_a_period_of_their_own(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "gh200") as process:
        watch_cpus(process, period_us=8 * PERIOD_US)
        values = samples_until(process, lambda values: len(of(values, 0, 1130)) >= 3)
        stamps = [value.ts_us for value in of(values, 0, 1130)]
        assert min(b - a for a, b in pairwise(stamps)) >= 8 * PERIOD_US


@pytest.mark.parametrize(("script", "extra"), [
    ("h200", ""),
    ("gh200", "call dcgmGetCpuHierarchy -20"),
    ("gh200", "cpus 0"),
])  # fmt: skip
def test_an_engine_without_cpus_reads_its_gpus(fake_dcgm: FakeDcgm, script: str, extra: str) -> None:
    with on_fake(fake_dcgm, script, extra=extra) as process:
        assert watch_cpus(process) == Watching(refused={}, multiplexed=[])
        values = samples_until(process, lambda values: len(of(values, 0, 1004)) >= 3)
        assert {value.field for value in values} == {1004, 155}
        process.close()


def test_bindings_that_know_no_cpus(process: Process) -> None:
    process.connect()
    process.expect(Found)
    process.send(Watch(entities=[0], pipe_fields=[1004], other_fields=[], period_us=PERIOD_US, cpu_fields=[1130]))
    assert process.receive() == Watching(refused={}, multiplexed=[])
    process.expect(Samples)


def test_cpus_are_not_asked_for_unless_wanted(fake_dcgm: FakeDcgm, tmp_path: Path) -> None:
    with on_fake(fake_dcgm, "gh200", log=tmp_path / "log") as process:
        begin(process, [1004], [155])
        process.expect(Watching)
        process.expect(Samples)
    assert "dcgmGetCpuHierarchy" not in {name for _, name in fake_dcgm.calls(tmp_path / "log")}


def test_a_field_of_cpus_that_is_refused_costs_only_itself(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "gh200", extra="watch 1133 -29") as process:
        assert watch_cpus(process) == Watching(refused={1133: -29}, multiplexed=[], cpus=CPUS)
        values = samples_until(process, lambda values: len(of(values, 0, 1130)) >= 3)
        assert {value.field for value in values} == {1004, 155, 1130}


def test_an_engine_that_reads_no_cpu_any_more_goes_on_with_its_gpus(package: Package, process: Process) -> None:
    package.set(cpus=[2], fail={})
    process.connect()
    process.expect(Found)
    process.send(Watch(entities=[0], pipe_fields=[1004], other_fields=[], period_us=PERIOD_US, cpu_fields=[1130]))
    assert process.expect(Watching).cpus == [EngineCpu(entity=2, cores=[2, 65])]
    samples_until(process, lambda values: bool(of(values, 2, 1130)))
    package.set(cpus=[2], fail_cpus=-33)
    values = samples_until(process, lambda values: len(of(values, 0, 1004)) >= 3)
    assert of(values, 0, 1004)
    package.set(cpus=[2], fail_cpus=-21)
    said = process.receive()
    while isinstance(said, Samples):
        said = process.receive()
    assert said == Failed(stage="fetch", status=-21, text="dcgmEntitiesGetLatestValues: status -21")
    assert process.run.wait(TIMEOUT_S) == 0
    assert package.calls("dcgmGroupDestroy") == ["dcgmGroupDestroy"] * 2


def test_an_a100_takes_turns(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "a100") as process:
        entities = begin(process, list(range(1001, 1013)), [155])
        assert process.expect(Watching).multiplexed == entities


@pytest.mark.parametrize("status", [-33, -36, -29])
def test_an_engine_without_pipe_fields(fake_dcgm: FakeDcgm, status: int) -> None:
    with on_fake(fake_dcgm, "h200", extra=f"watch pipes {status}") as process:
        begin(process, [1001, 1004], [155])
        failed = process.expect(Failed)
        assert (failed.stage, failed.status) == ("watch", status)


def test_fields_that_one_gpu_or_the_version_lacks_are_refused(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "h200", extra="watch 1006 -6 gpu 1\nwatch 150 -17") as process:
        begin(process, [1004, 1005, 1006, 1999], [100, 150])
        refused = process.expect(Watching).refused
        assert (set(refused), refused[1006], refused[150]) == ({1006, 1999, 150}, -6, -17)
        values = samples_until(process, lambda values: len(of(values, 0, 1004)) >= 3)
        assert {value.field for value in values} == {1004, 1005, 100}


@pytest.mark.parametrize("change", ["engine dead", "generation 7"])
def test_an_engine_that_ends_or_is_restarted(fake_dcgm: FakeDcgm, change: str) -> None:
    script = fake_dcgm.script("h200")
    with on_fake(fake_dcgm, script) as process:
        begin(process, [1004], [155])
        process.expect(Watching)
        process.expect(Samples)
        fake_dcgm.change(script, "h200", change)
        said = process.receive()
        while isinstance(said, Samples):
            said = process.receive()
        assert isinstance(said, Failed)
        assert (said.stage, said.status) == ("fetch", -21)
        assert process.run.wait(TIMEOUT_S) == 0


def test_a_login_that_the_engine_does_not_answer_is_no_connection(fake_dcgm: FakeDcgm) -> None:
    with on_fake(fake_dcgm, "h200", extra="engine hang\nhang_limit 0.3") as process:
        process.connect()
        failed = process.expect(Failed)
        assert failed.stage == "connect"
        assert failed.status in {-11, -21}


def test_a_library_that_prints_or_aborts(fake_dcgm: FakeDcgm) -> None:
    script = fake_dcgm.script("h200", "print dcgmGroupCreate\nprint dcgmEntitiesGetLatestValues")
    with on_fake(fake_dcgm, script) as process:
        begin(process, [1004], [155])
        process.expect(Watching)
        process.expect(Samples)
        fake_dcgm.change(script, "h200", "crash dcgmEntitiesGetLatestValues")
        while process.receive() is not None:
            pass
        assert process.run.wait(TIMEOUT_S) < 0
