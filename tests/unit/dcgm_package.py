"""Bindings without a library: two modules in the shape of the vendor's, whose engine is a few lines of Python.

For what a C fake cannot do: bindings that print, that fail to import or lack functions, calls that
fail or hang one by one, and a log of every call. Steered by settings.json in their folder, read at
every call: ``fail`` {function: status}, ``hang`` [function], ``refuse`` {field: status},
``unanswered`` [field], ``groups`` [[major, [field]]], ``hide`` [function], ``skip_rounds`` (the
engine's reading stands still for so many periods, then all of it is there), ``late_rounds`` (for so
many periods the latest sample is that of an earlier client), ``cpus`` [entity] (from the start; each has cores 2
and 65), ``fail_cpus`` status of reading them.
"""

import json
from pathlib import Path
from typing import Any

STRUCTS = r"""
from ctypes import *
OLD_TEXT = "\d an escape that new Pythons warn of"
print("the structs say hello on standard output")
DCGM_GROUP_EMPTY, DCGM_OPERATION_MODE_AUTO = 1, 1
class DCGMError(Exception):
    def __init__(self, value): self.value = value
    def __str__(self): return "status %d" % self.value
class Union8(Union):
    _fields_ = [("i64", c_int64), ("dbl", c_double), ("str", c_char * 256), ("blob", c_byte * 4096)]
class c_dcgmFieldValue_v1(Structure):
    _fields_ = [("version", c_uint), ("fieldId", c_ushort), ("fieldType", c_short), ("status", c_int), ("ts", c_int64),
                ("value", Union8)]
class c_dcgmFieldValue_v2(Structure):
    _fields_ = [("version", c_uint), ("entityGroupId", c_uint), ("entityId", c_uint), ("fieldId", c_ushort),
                ("fieldType", c_short), ("status", c_int), ("unused", c_uint), ("ts", c_int64), ("value", Union8)]
class c_dcgmConnectV2Params_v2(Structure):
    _fields_ = [("version", c_uint), ("persistAfterDisconnect", c_uint), ("timeoutMs", c_uint),
                ("addressIsUnixSocket", c_uint)]
class c_dcgmConnectV3Params_v1(Structure):
    _fields_ = [("version", c_uint), ("persistAfterDisconnect", c_uint), ("timeoutMs", c_uint)]
class c_dcgmGroupEntityPair_t(Structure):
    _fields_ = [("entityGroupId", c_uint32), ("entityId", c_uint32)]
def _dcgmInit(path=None): pass
"""

AGENT = r'''
import ctypes, json, os, time
import dcgm_structs as S
HERE = os.path.dirname(os.path.abspath(__file__))
dcgmFieldValueEntityEnumeration_f = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(S.c_dcgmFieldValue_v1), ctypes.c_int32,
    ctypes.c_void_p)
FACTS = {50: "Name", 54: "GPU-%d", 57: "<<<NULL>>>", 113: 1980, 160: 700.0, 250: 0x7ffffffffffffff2}
watched, groups, started = {}, {}, time.time()
def settings():
    with open(os.path.join(HERE, "settings.json")) as file: return json.load(file)
def enter(name, *shown):
    print("noise of " + name)
    for fd in (1, 2): os.write(fd, b"noise of the library\n")
    with open(os.path.join(HERE, "calls.log"), "a") as file: file.write(" ".join([name, *map(str, shown)]) + "\n")
    known = settings()
    if name in known.get("hang", []): time.sleep(600)
    if name in known.get("fail", {}): raise S.DCGMError(known["fail"][name])
    return known
def call(name):
    def wrap(function):
        if name not in settings().get("hide", []): globals()[name] = function
        return function
    return wrap
def fill(record, field, status, ts, value):
    record.fieldId, record.status, record.ts = field, status, ts
    record.fieldType = ord("d" if isinstance(value, float) else "s" if isinstance(value, str) else "i")
    if isinstance(value, float): record.value.dbl = value
    elif isinstance(value, str): record.value.str = value.encode()
    else: record.value.i64 = value
def rounds(field, known):
    """Times of the engine's readings of a field in us, and now in periods since the watch."""
    period, first = watched[field]
    period //= known.get("faster", 1)
    count = int((time.time() * 1e6 - first) // period) + 1
    if count <= known.get("skip_rounds", 0): count = 1
    return [first + k * period + field % 100 * 10 for k in range(count)]
def is_pipe(field): return field > 1000
def latest(entity, field, known):
    if field in watched and len(rounds(field, known)) > known.get("late_rounds", 0):
        return 0, rounds(field, known)[-1], (field / 1e4 if is_pipe(field) else field + entity)
    return 0, int(started * 1e6) - 5000000, (0.5 if is_pipe(field) else 7)
@call("dcgmInit")
def f(): enter("dcgmInit")
@call("dcgmShutdown")
def f(): enter("dcgmShutdown")
@call("dcgmVersionInfo")
def f():
    enter("dcgmVersionInfo")
    return type("Said", (), {"rawBuildInfoString": "version:4.2.3;arch:x86_64"})
@call("dcgmStartEmbedded")
def f(mode): enter("dcgmStartEmbedded", mode); return ctypes.c_void_p(7)
@call("dcgmStopEmbedded")
def f(handle): enter("dcgmStopEmbedded")
@call("dcgmConnect_v3")
def f(address, params):
    known = enter("dcgmConnect_v3", address, params.timeoutMs)
    return ctypes.c_void_p(known.get("handle", 7))
@call("dcgmConnect_v2")
def f(address, params):
    enter("dcgmConnect_v2", address, params.timeoutMs, params.addressIsUnixSocket); return ctypes.c_void_p(7)
@call("dcgmDisconnect")
def f(handle): enter("dcgmDisconnect")
@call("dcgmGetAllSupportedDevices")
def f(handle): enter("dcgmGetAllSupportedDevices"); return [0, 3]
if "cpus" in settings():
    @call("dcgmGetCpuHierarchy")
    def f(handle):
        known = enter("dcgmGetCpuHierarchy")
        cpus = [type("Cpu", (), {"cpuId": cpu, "ownedCores": type("Cores", (), {"bitmask": [4, 2]})})
                for cpu in known["cpus"]]
        return type("Hierarchy", (), {"numCpus": len(cpus), "cpus": cpus + [None] * 3})
@call("dcgmGroupCreate")
def f(handle, kind, name): enter("dcgmGroupCreate", kind); return ctypes.c_void_p(11)
@call("dcgmGroupAddEntity")
def f(handle, group, kind, entity): enter("dcgmGroupAddEntity", kind, entity)
@call("dcgmGroupDestroy")
def f(handle, group): enter("dcgmGroupDestroy")
@call("dcgmFieldGroupCreate")
def f(handle, fields, name):
    enter("dcgmFieldGroupCreate", *fields)
    if any(name == known[1] for known in groups.values()): raise S.DCGMError(-26)
    groups[100 + len(groups)] = (list(fields), name)
    return ctypes.c_void_p(99 + len(groups))
@call("dcgmFieldGroupDestroy")
def f(handle, group): enter("dcgmFieldGroupDestroy", *groups[group.value][0])
@call("dcgmUnwatchFields")
def f(handle, group, fields): enter("dcgmUnwatchFields", *groups[fields.value][0])
@call("dcgmWatchFields")
def f(handle, group, fields, period, age, samples):
    known = enter("dcgmWatchFields", *groups[fields.value][0], period)
    for field in groups[fields.value][0]:
        if str(field) in known.get("refuse", {}): raise S.DCGMError(known["refuse"][str(field)])
    watched.update((field, (period, int(time.time() * 1e6))) for field in groups[fields.value][0])
@call("dcgmProfGetSupportedMetricGroups")
def f(handle, entity):
    known = enter("dcgmProfGetSupportedMetricGroups", entity)
    listed = [type("Group", (), {"majorId": major, "minorId": 0, "numFieldIds": len(fields),
                             "fieldIds": fields + [0] * 9})
              for major, fields in (known.get("groups", []) if entity == 0 else [])]
    return type("Groups", (), {"numMetricGroups": len(listed), "metricGroups": listed})
@call("dcgmEntitiesGetLatestValues")
def f(handle, pairs, fields, flags):
    known = enter("dcgmEntitiesGetLatestValues", flags, *(fields if flags else []))
    if flags and any(map(is_pipe, fields)): os.abort()  # as nv-hostengine 4.6.0 does
    if set(fields) & set(known.get("unanswered", [])): raise S.DCGMError(-3)
    if pairs[0].entityGroupId == 7 and "fail_cpus" in known: raise S.DCGMError(known["fail_cpus"])
    records = (S.c_dcgmFieldValue_v2 * (len(pairs) * len(fields)))()
    for index, record in enumerate(records):
        entity, field = pairs[index // len(fields)].entityId, fields[index % len(fields)]
        record.entityGroupId, record.entityId = 1, entity
        value = FACTS.get(field, -1)
        value = value % entity if value == "GPU-%d" else value
        fill(record, field, *((0, 1, value) if flags else latest(entity, field, known)))
    return records
@call("dcgmGetValuesSince_v2")
def f(handle, group, fields, since, callback, user):
    known = enter("dcgmGetValuesSince_v2")
    for entity in (0, 3):
        for field in groups[fields.value][0]:
            for ts in rounds(field, known):
                if ts >= since:
                    record = S.c_dcgmFieldValue_v1()
                    fill(record, field, 0, ts, field / 1e4)
                    callback(1, entity, ctypes.pointer(record), 1, user)
    return 0
'''


class Package:
    """A folder with the two modules."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        (folder / "dcgm_structs.py").write_text(STRUCTS)
        (folder / "dcgm_agent.py").write_text(AGENT)
        self.set(**settings)

    def set(self, **settings: Any) -> None:
        """Replace all settings."""
        fresh = self.folder / "settings.new"
        fresh.write_text(json.dumps(settings))
        fresh.replace(self.folder / "settings.json")

    def calls(self, *names: str) -> list[str]:
        """The calls so far, with what they showed; only those of some functions if named."""
        log = self.folder / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not names or line.split()[0] in names]
