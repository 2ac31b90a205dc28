"""The fake DCGM: what it refuses and answers, as the sources of DCGM and a real engine on injected NVML do.

Where SATSCORE_DCGM_BINDINGS names a folder of the vendor's bindings,
the same is asked through those, and the stand-in's records are compared with theirs.
"""

import itertools
import re
import signal
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.build import DCGM, DCGM_VERSIONS, NVML, VENDOR_BINDINGS, FakeDcgm, fake_dcgm, listen

__all__ = ["fake_dcgm"]

pytestmark = pytest.mark.slow

REAL = VENDOR_BINDINGS
BLANK_DOUBLE, BLANK_INTEGER = 140737488355328.0, 0x7FFFFFFFFFFFFFF0


class Through(NamedTuple):
    """The fake through bindings of a version."""

    fake: FakeDcgm
    version: str
    bindings: Path | None

    def run(self, snippet: str, script: str | Path = "h200", **options: Any) -> Any:
        return self.fake.run(
            snippet, script, variant=self.version, bindings=self.bindings or self.fake.stand_in(self.version), **options
        )


def kinds(version: str) -> list[tuple[str, Path | None]]:
    """Return version and folder of bindings through which a version is asked; None is the stand-in."""
    return [(version, None), *([(version, REAL[version])] if version in REAL else [])]


@pytest.fixture(params=kinds(DCGM_VERSIONS[-1]), ids=str)
def newest(request: pytest.FixtureRequest, fake_dcgm: FakeDcgm) -> Through:
    """The newest version, through the stand-in and the vendor's bindings."""
    return Through(fake_dcgm, *request.param)


@pytest.fixture(params=[kind for version in DCGM_VERSIONS for kind in kinds(version)], ids=str)
def every(request: pytest.FixtureRequest, fake_dcgm: FakeDcgm) -> Through:
    """Every version, through the stand-in and the vendor's bindings."""
    return Through(fake_dcgm, *request.param)


@pytest.mark.parametrize("version", DCGM_VERSIONS)
def test_records_of_the_stand_in_are_the_vendors(fake_dcgm: FakeDcgm, version: str) -> None:
    if version not in REAL:
        pytest.skip(f"SATSCORE_DCGM_BINDINGS names no bindings of {version}")
    looked_at = """
import ctypes
def layout(made):
    places = [[name, getattr(made, name).offset, getattr(made, name).size] for name, *_ in made._fields_]
    return [ctypes.sizeof(made), places]
names = [n for n, s in vars(structs).items() if n.startswith("c_dcgm") and hasattr(s, "_fields_")]
emit({name: layout(getattr(structs, name)) for name in names}
     | {name: getattr(structs, name) for name in vars(structs)
        if name.startswith("DCGM_ST_") or "_version" in name and isinstance(getattr(structs, name), int)})
"""
    real = fake_dcgm.run(looked_at, variant=version, bindings=REAL[version])
    ours = fake_dcgm.run(looked_at, variant=version, bindings=fake_dcgm.stand_in(version))
    assert len(ours) > 40
    assert ours == {name: real.get(name) for name in ours}


class TestVersions:
    """What there is in which version, and what is refused because of its version."""

    def test_library_of_its_version_answers(self, every: Through) -> None:
        said = every.run("init(); emit([agent.dcgmVersionInfo().rawBuildInfoString, hasattr(agent, 'dcgmConnect_v3')])")
        assert said[0].startswith(f"version:{every.version};")
        assert said[1] == (every.version == "4.6.0")

    def test_library_of_another_major_version_is_not_found(self, fake_dcgm: FakeDcgm) -> None:
        bindings = fake_dcgm.bindings("3.3.9")
        assert fake_dcgm.run("emit(status_of(init))", variant="4.2.3", bindings=bindings) == -25

    def test_call_that_only_newer_libraries_have(self, fake_dcgm: FakeDcgm) -> None:
        bindings = fake_dcgm.bindings("4.6.0")
        assert fake_dcgm.run("init(); emit(status_of(connect))", variant="4.2.3", bindings=bindings) == -20

    def test_field_that_an_older_version_does_not_know(self, every: Through) -> None:
        statuses = every.run("init(); c = Client(); emit([status_of(c.fields, [i]) for i in (1009, 1076, 1084, 999)])")
        newer = {"3.3.9": [-1, -1], "4.2.3": [0, -1], "4.6.0": [0, 0]}[every.version]
        assert statuses == [0, *newer, -1]

    def test_structs_of_another_version_are_refused(self, newest: Through) -> None:
        statuses = newest.run("""
init()
wrong = structs.c_dcgmConnectV2Params_v2(), structs.c_dcgmConnectV2Params_version2 + 1
statuses = [status_of(agent.dcgmConnect_v2, "127.0.0.1", *wrong)]
statuses.append(status_of(agent.dcgmConnect_v3, "tcp://127.0.0.1", structs.c_dcgmConnectV3Params_v1(), 1))
client = Client()
groups, attributes = structs.c_dcgmProfGetMetricGroups_v3(), structs.c_dcgmDeviceAttributes_v3()
byref = __import__("ctypes").byref
statuses.append(structs.dcgmLib.dcgmProfGetSupportedMetricGroups(client.handle, byref(groups)))
statuses.append(structs.dcgmLib.dcgmGetDeviceAttributes(client.handle, 0, byref(attributes)))
emit(statuses)
""")
        assert statuses == [-12, -12, -12, -12]


class TestConnections:
    """Connecting, and what becomes of a connection."""

    def test_order_of_calls(self, every: Through) -> None:
        statuses = every.run("""
structs._dcgmInit()
before = status_of(connect)
agent.dcgmInit()
handle = connect()
statuses = [before, status_of(agent.dcgmGetAllDevices, handle), status_of(agent.dcgmDisconnect, handle)]
statuses += [status_of(agent.dcgmGetAllDevices, handle), status_of(agent.dcgmGetAllDevices, 0)]
emit([*statuses, status_of(agent.dcgmShutdown), status_of(agent.dcgmShutdown)])
""")
        assert statuses == [-10, 0, 0, -21, -1, 0, 0]

    def test_addresses(self, newest: Through, tmp_path: Path) -> None:
        with listen(tmp_path / "socket") as unix:
            statuses = newest.run(f"""
init()
addresses = ["127.0.0.1:5555", "[::1]:5555", "127.0.0.1", "127.0.0.1:x", ":5555", "{unix}", "{unix}-not"]
emit([status_of(connect, address, 30) for address in addresses])
""")
        assert statuses == [0, 0, 0, -1, -1, 0, -21]

    def test_dead_engine(self, newest: Through) -> None:
        seconds, *statuses = newest.run("""
init()
client = Client()
fields = client.watch([1001])
change("engine dead")
statuses = [status_of(client.since, fields)]
start = time.monotonic()
statuses.append(status_of(connect))
seconds = time.monotonic() - start
change("engine up")
statuses.append(status_of(client.since, fields))
again = Client()
emit([seconds, *statuses, status_of(again.since, fields), status_of(again.watch, [1001])])
""")
        assert statuses == [-21, -21, -21, -14, 0]
        assert seconds >= 0.3  # all of the time-out

    def test_restarted_engine(self, newest: Through) -> None:
        statuses = newest.run("""
init()
client = Client()
fields = client.watch([1001])
change("generation 2")
emit([status_of(client.since, fields), status_of(Client)])
""")
        assert statuses == [-21, 0]

    def test_stopped_engine_goes_on(self, newest: Through) -> None:
        waited, gap_s = newest.run("""
import threading
init()
client = Client()
fields = client.watch([1001])
change("engine hang")
continued = threading.Event()
def go_on():
    continued.set()
    change("engine up")
threading.Timer(0.5, go_on).start()
client.since(fields)
waited = continued.is_set()
time.sleep(0.1)
times = [row["ts"] for row in client.since(fields)[0]]
emit([waited, max(b - a for a, b in zip(times, times[1:])) / 1e6])
""")
        assert waited
        assert gap_s >= 0.4  # nothing was sampled

    def test_engine_that_stays_stopped(self, newest: Through) -> None:
        statuses = newest.run(
            """
init()
client = Client()
change("engine hang\\nhang_limit 0.1")
status = status_of(agent.dcgmGetAllDevices, client.handle)
handle = connect()  # by and by, with status 0
change("")
of_new, of_old = (status_of(agent.dcgmGetAllDevices, each) for each in (handle, client.handle))
emit([status, bool(handle), of_new, of_old])
"""
        )
        assert statuses == [-11, True, -21, 0]

    def test_embedded(self, newest: Through) -> None:
        said = newest.run("""
init()
handle = agent.dcgmStartEmbedded(structs.DCGM_OPERATION_MODE_MANUAL)
again = agent.dcgmStartEmbedded(structs.DCGM_OPERATION_MODE_MANUAL)
client = Client(handle=handle)
fields = client.watch([1001])
time.sleep(0.06)
before = len(client.since(fields)[0])
agent.dcgmUpdateAllFields(handle, 1)
after = len(client.since(fields)[0])
statuses = [status_of(agent.dcgmStopEmbedded, handle), status_of(agent.dcgmGetAllDevices, handle)]
emit([handle.value, again.value, before, after, *statuses])
""")
        assert said == [0x7FFFFFFF, None, 1, 2, 0, -10]


class TestGroups:
    """Groups and field groups."""

    def test_refusals(self, every: Through) -> None:
        statuses = every.run(
            """
init()
client = Client()
handle, group = client.handle, client.group
def made(ids, name): return status_of(agent.dcgmFieldGroupCreate, handle, ids, name)
def added(*args): return status_of(agent.dcgmGroupAddDevice, handle, *args)
statuses = {"again": added(group, 0), "no GPU": added(group, 7), "unsupported": added(group, 1)}
statuses |= {"no group": added(99, 0), "first": made([100], "a"), "duplicate": made([101], "a")}
statuses |= {"taken": made([101], "b"), "unnamed": made([101], ""), "long": made([100], "n" * 256)}
statuses |= {"none": made([], "c"), "many": made([100] * 128, "d"), "most": made([100] * 127, "e")}
gone = client.fields([100])
statuses["destroyed"] = status_of(agent.dcgmFieldGroupDestroy, handle, gone)
statuses["destroyed twice"] = status_of(agent.dcgmFieldGroupDestroy, handle, gone)
statuses["watch of nothing"] = status_of(agent.dcgmWatchFields, handle, group, gone, 10000, 1.0, 0)
statuses["group destroyed"] = status_of(agent.dcgmGroupDestroy, handle, group)
statuses["group destroyed twice"] = status_of(agent.dcgmGroupDestroy, handle, group)
statuses["since of nothing"] = status_of(client.since, client.fields([100]))
emit(statuses)
""",
            extra="unsupported 1\ntaken b",
        )
        refused = {"again": -1, "no GPU": -1, "unsupported": -22, "no group": -5, "first": 0, "duplicate": -26}
        refused |= {"taken": -26, "unnamed": -1, "long": -1, "none": -1, "many": -1, "most": 0, "destroyed": 0}
        refused |= {"destroyed twice": -14, "watch of nothing": -14, "group destroyed": 0, "group destroyed twice": -5}
        assert statuses == refused | {"since of nothing": -5}

    def test_metric_groups(self, every: Through) -> None:
        asked = """
init()
said = agent.dcgmProfGetSupportedMetricGroups(connect(), 0)
emit([[g.majorId, g.minorId, list(g.fieldIds[:g.numFieldIds])] for g in said.metricGroups[:said.numMetricGroups]])
"""
        hopper, ampere = every.run(asked), every.run(asked, "a100")
        assert [group[:2] for group in hopper] == [[0, 0], [1, 0], [2, 0]][: len(hopper)]
        assert set(range(1001, 1017)) <= set(hopper[0][2])
        assert [group[:2] for group in ampere] == [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3], [1, 4]]
        assert ampere[2][2] == [1006]


class TestValues:
    """What a watch brings."""

    def test_samples_come_at_the_period_each_field_at_its_own_time(self, every: Through) -> None:
        rows = every.run("""
init()
client = Client((0, 1))
fields = client.watch([1001, 1011, 155], period_s=0.02)
time.sleep(0.15)
emit(client.since(fields)[0])
""")
        keys = list(itertools.product((0, 1), (1001, 1011, 155)))
        times = {key: [r["ts"] for r in rows if (r["gpu"], r["field"]) == key] for key in keys}
        assert all(len(found) >= 7 and found[1] - found[0] == 20000 for found in times.values())
        assert times[0, 1011][0] - times[0, 1001][0] == 40
        first, second = [r for r in rows if r["field"] == 1001][:2]
        assert [first["value"], first["status"], second["value"]] == [BLANK_DOUBLE, 0, 0.985]
        assert [r["type"] for r in rows if r["field"] == 1011][:2] == ["i", "i"]
        assert [r["value"] for r in rows if r["field"] == 1011][:2] == [BLANK_INTEGER, 50000 * 1048576]
        assert [r["value"] for r in rows if r["field"] == 155][:2] == [655.0, 655.0]

    @pytest.mark.parametrize(("first", "n", "value"), [("missing", 0, None), ("value", 1, 0.985)])
    def test_first_sample(self, newest: Through, first: str, n: int, value: float | None) -> None:
        asked = "init(); c = Client(); c.watch([1001], 60.0); emit(c.latest([1001]))"
        rows = newest.run(asked, extra=f"first {first}")
        assert [rows[0]["status"], rows[0]["ts"] > 0] == [[-14, False], [0, True]][n]
        assert value in (None, rows[0]["value"])

    def test_no_news_is_one_blank_value_that_says_so(self, newest: Through) -> None:
        rows = newest.run("""
init()
client = Client()
fields = client.watch([155], period_s=60.0)
following = client.since(fields)[1]
emit(client.since(fields, following)[0])
""")
        assert [(r["status"], r["ts"], r["value"]) for r in rows] == [(-14, 0, BLANK_DOUBLE)]

    def test_unwatched(self, newest: Through) -> None:
        rows, statuses, kept = newest.run("""
init()
client = Client()
rows = client.latest([1001, 100])
statuses = [status_of(client.since, client.fields([100])), status_of(client.latest, [999])]
fields = client.watch([100], period_s=60.0)
agent.dcgmUnwatchFields(client.handle, client.group, fields)
time.sleep(0.05)
emit([rows, statuses, client.since(fields)[0]])
""")
        assert [(r["status"], r["ts"], r["value"]) for r in rows] == [(-16, 0, BLANK_DOUBLE), (-16, 0, BLANK_INTEGER)]
        assert statuses == [-16, -3]
        assert [(r["status"], r["value"]) for r in kept] == [(0, 1755)]

    def test_blanks_and_impossible_numbers(self, newest: Through) -> None:
        values = newest.run(
            """
init()
client = Client()
client.watch([1001, 1002, 1003, 1004, 1005, 1006, 140, 157, 153])
emit([row["value"] for row in client.latest([1001, 1002, 1003, 1004, 1005, 1006, 140, 157, 153])])
""",
            extra="""
first value
value * 1001 blank
value * 1002 not_found
value * 1003 not_supported
value * 1004 no_permission
value * 1005 1.7
value * 1006 nan
value * 140 no_permission
""",
        )
        assert values == [
            *(BLANK_DOUBLE + k for k in range(4)),
            1.7,
            "nan",
            BLANK_INTEGER + 3,
            655.0,
            BLANK_INTEGER + 2,
        ]

    def test_refused_watch_is_taken_back_and_leaves_one_old_value(self, newest: Through) -> None:
        status, first, power, pipe = newest.run(
            """
init()
client = Client()
status = status_of(client.watch, [155, 1001])
first = client.latest([155])[0]
time.sleep(0.06)
emit([status, first, *client.latest([155, 1001])])
""",
            extra="watch pipes -33",
        )
        assert [status, power["status"], power["value"]] == [-33, 0, 655.0]
        assert power["ts"] == first["ts"]
        assert pipe["status"] == -16

    def test_refusal_of_one_field(self, newest: Through) -> None:
        asked = "init(); c = Client((0, 1)); emit([status_of(c.watch, f) for f in ([155], [156], [155, 156], [1001])])"
        assert newest.run(asked, extra="watch 156 -6 gpu 1") == [0, -6, -6, 0]

    def test_live_answers(self, newest: Through) -> None:
        rows = newest.run(
            "init(); c = Client(); emit(c.latest([156, 54, 999, 100], live=True) + c.latest([100], (7,), live=True))"
        )
        assert [(r["field"], r["status"], r["type"]) for r in rows] == [
            *[(54, 0, "s"), (999, -13, "i"), (100, 0, "i"), (156, 0, "i")],  # the driver's own fields come last
            (100, -1, "i"),
        ]
        assert rows[0]["value"] == "GPU-00000000-0000-0000-0000-000000000000"

    def test_live_request_for_a_profiling_field_ends_the_engine(self, newest: Through) -> None:
        statuses = newest.run("""
init()
client = Client()
crash = status_of(lambda: client.latest([1001], live=True))
after = [status_of(agent.dcgmGetAllDevices, client.handle), status_of(connect)]
change("generation 2")
emit([crash, *after, status_of(connect)])
""")
        assert statuses == [-21, -21, -21, 0]
        embedded = "init(); c = Client(handle=agent.dcgmStartEmbedded(1)); c.latest([1001], live=True)"
        assert newest.run(embedded, dies=True) == signal.SIGABRT

    def test_attributes(self, every: Through) -> None:
        said = every.run("""
init()
handle = connect()
a = agent.dcgmGetDeviceAttributes(handle, 1)
i, limits, memory, thermal = a.identifiers, a.powerLimits, a.memoryUsage, a.thermalSettings
emit([agent.dcgmGetAllSupportedDevices(handle), i.uuid, i.pciBusId, i.driverVersion, i.pciDeviceId,
      limits.enforcedPowerLimit, memory.fbTotal, thermal.slowdownTemp])
""")
        uuid, bus = "GPU-00000000-0000-0000-0000-000000000001", "00000000:02:00.0"
        assert said == [[0, 1], uuid, bus, "580.65.06", 590680286, 700, 143771, 87]

    def test_fields_of_cpus(self, newest: Through) -> None:
        asked = """
init()
handle = connect()
client = Client((), handle)
found = agent.dcgmGetEntityGroupEntities(handle, 7, 0)
added = status_of(agent.dcgmGroupAddEntity, handle, client.group, 7, 3)
client.watch([1130, 1133])
pairs = [structs.c_dcgmGroupEntityPair_t(7, 3)]
emit([list(found), added, [v.value.dbl for v in agent.dcgmEntitiesGetLatestValues(handle, pairs, [1130, 1133], 0)]])
"""
        assert newest.run(asked, "gh200") == [[0, 1, 2, 3], 0, [120.0, 640.0]]
        without = "init(); emit(status_of(agent.dcgmGetEntityGroupEntities, connect(), 7, 0))"
        assert newest.run(without, "h200") == -33

    def test_cores_of_cpus(self, every: Through) -> None:
        asked = """
init()
said = agent.dcgmGetCpuHierarchy(connect())
emit([[cpu.cpuId, *cpu.ownedCores.bitmask] for cpu in said.cpus[:said.numCpus]])
"""
        first, second = every.run(asked, "gh200", extra="cpus 2")
        assert first == [0, 2**64 - 1, 255, *[0] * 14]
        assert second == [1, 0, 2**64 - 256, 65535, *[0] * 13]
        assert every.run("init(); emit(status_of(agent.dcgmGetCpuHierarchy, connect()))", "h200") == -33


class TestTime:
    """Changes in mid-run, clocks, and what other clients left."""

    def test_value_changes_at_the_change_of_the_script(self, newest: Through) -> None:
        rows, start_us, end_us = newest.run("""
init()
client = Client()
fields = client.watch([155], period_s=0.01)
time.sleep(0.1)
start = time.time_ns() // 1000
change("value * 155 300")
end = time.time_ns() // 1000
time.sleep(0.1)
emit([client.since(fields)[0], start, end])
""")
        before = {r["value"] for r in rows if r["ts"] < start_us - 10000}  # times of files are a few ms late
        after = {r["value"] for r in rows if r["ts"] > end_us}
        assert (before, after) == ({655.0}, {300.0})

    def test_frozen_and_paused(self, newest: Through) -> None:
        rows = newest.run("""
init()
client = Client()
fields = client.watch([1001, 155], period_s=0.01)
time.sleep(0.05)
client.since(fields)
change("frozen 155\\npaused 1")
time.sleep(0.02)
following = client.since(fields)[1]
time.sleep(0.05)
emit(client.since(fields, following)[0] + client.latest([155]))
""")
        assert {r["value"] for r in rows if r["field"] == 1001} == {BLANK_DOUBLE}
        assert len([r for r in rows if r["field"] == 1001]) >= 4
        none, latest = [r for r in rows if r["field"] == 155]
        assert [none["status"], latest["value"], latest["ts"] < rows[0]["ts"]] == [-14, 655.0, True]

    def test_steps_of_the_engines_clock(self, newest: Through) -> None:
        ahead, back = newest.run("""
init()
client = Client()
fields = client.watch([155], period_s=0.01, keep_s=7200.0)
time.sleep(0.05)
change("clock 3600")
time.sleep(0.05)
ahead, following = client.since(fields)
change("")
time.sleep(0.05)
emit([[row["ts"] / 1e6 - time.time() for row in ahead], client.since(fields, following)[0]])
""")
        assert sum(-1 < s < 1 for s in ahead) >= 5
        assert sum(3599 < s < 3601 for s in ahead) >= 4
        assert len(ahead) < 1000  # no samples were made up for the hour
        assert [r["status"] for r in back] == [-14]  # nothing until its clock has caught up

    def test_older_samples_of_other_clients(self, newest: Through) -> None:
        *ages_s, n_new = newest.run(
            """
init()
client = Client()
start = time.time_ns() // 1000
fields = client.watch([155], period_s=0.01)
time.sleep(0.05)
times = [row["ts"] for row in client.since(fields)[0]]
emit([(ts - times[0]) / 1e6 for ts in times if ts < start] + [len([ts for ts in times if ts >= start])])
""",
            extra="older 30 1",
        )
        assert [round(age) for age in ages_s] == list(range(29))
        assert n_new >= 4

    def test_kept_for_the_time_asked_for(self, newest: Through) -> None:
        ages_s = newest.run("""
init()
client = Client()
fields = client.watch([155], period_s=0.01, keep_s=0.1)
time.sleep(0.4)
emit([time.time() - row["ts"] / 1e6 for row in client.since(fields)[0]])
""")
        assert 5 <= len(ages_s) <= 12

    def test_energy_has_its_own_time_and_grows_across_processes(self, newest: Through) -> None:
        asked = "init(); c = Client(); f = c.watch([156], 0.05); time.sleep(0.2); emit(c.since(f)[0])"
        rows = [row for _ in range(2) for row in newest.run(asked)]
        assert all(row["ts"] % 20000 == 0 for row in rows)
        rates_w = [(b["value"] - a["value"]) / (b["ts"] - a["ts"]) * 1e3 for a, b in itertools.pairwise(rows)]
        assert rates_w
        assert all(655 * 0.5 < rate_w < 655 * 1.5 for rate_w in rates_w)


class TestCalls:
    """What a script does to calls."""

    def test_statuses_noise_and_time(
        self, fake_dcgm: FakeDcgm, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        log = tmp_path / "log"
        extra = "call dcgmGetAll* -17\nslow dcgmGroupCreate 200\nprint dcgmProfPause"
        asked = """
init()
handle = connect()
start = time.monotonic()
agent.dcgmGroupCreate(handle, 1, "name")
seconds = time.monotonic() - start
saved, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(null, 1), os.dup2(null, 2)
status_of(agent.dcgmProfPause, handle)
os.dup2(saved, 1)
emit([status_of(agent.dcgmGetAllDevices, handle), seconds])
"""
        status, seconds = fake_dcgm.run(asked, extra=extra, log=log)
        assert (status, seconds >= 0.2) == (-17, True)
        calls = [name for _, name in FakeDcgm.calls(log)]
        assert calls == ["dcgmInit", "dcgmConnect_v3", "dcgmGroupCreate", "dcgmProfPause", "dcgmGetAllDevices"]

    def test_crash_of_the_library(self, fake_dcgm: FakeDcgm) -> None:
        assert fake_dcgm.run("init(); connect()", extra="crash dcgmConnect*", dies=True) == signal.SIGABRT

    def test_pause_is_for_the_profiling_module(self, fake_dcgm: FakeDcgm) -> None:
        asked = "init(); h = connect(); emit([status_of(agent.dcgmProfPause, h), status_of(agent.dcgmProfResume, h)])"
        assert [fake_dcgm.run(asked, script) for script in ("h200", "a100")] == [[-6, -6], [0, 0]]

    def test_listener_accepts(self) -> None:
        with listen() as address:
            host, port = address.split(":")
            socket.create_connection((host, int(port)), 5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5)


GPM_OF_PIPE = dict(zip(range(1001, 1017), (1, 2, 3, 5, 10, 11, 12, 13, 20, 21, 61, 60, 9, 7, 6, 4), strict=True))
GPM_OF_PIPE |= {1076: 100, 1078: 101}


@pytest.mark.parametrize(("dcgm", "nvml"), [("h200", "h200_llm"), ("gh200", "gh200")])
def test_scripts_say_what_those_of_nvml_say(dcgm: str, nvml: str) -> None:
    ours = dict(re.findall(r"^value \* (\d+) (\S+)$", (DCGM / f"{dcgm}.script").read_text(), re.MULTILINE))
    theirs = dict(re.findall(r"^series \* (\S+) 0 (\S+)$", (NVML / f"{nvml}.script").read_text(), re.MULTILINE))
    shared = [pipe for pipe in GPM_OF_PIPE if f"gpm.{GPM_OF_PIPE[pipe]}" in theirs]
    assert len(shared) >= 16
    for pipe in shared:
        scale = 1048576 if pipe in (1009, 1010, 1011, 1012, 1076, 1078) else 0.01
        assert float(ours[str(pipe)]) == pytest.approx(float(theirs[f"gpm.{GPM_OF_PIPE[pipe]}"]) * scale)
    assert [ours["100"], ours["101"], ours["155"]] == [theirs["clock.1"], theirs["clock.2"], theirs["power.0"]]
    assert float(ours["252"]) * 1048576 == pytest.approx(float(theirs["memory_used"]), rel=1e-4)
