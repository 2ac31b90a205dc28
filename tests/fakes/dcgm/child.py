"""What code on the fake DCGM starts with: ``from child import *`` (see tests/fakes/build.py)."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.fakes.build import FakeDcgm

sys.path.insert(0, os.environ["SATSCORE_DCGM_BINDINGS"])  # the vendor's has a package "tests" of its own

import dcgm_agent as agent
import dcgm_structs as structs

__all__ = ["Client", "agent", "change", "connect", "emit", "init", "os", "row", "status_of", "structs", "sys", "time"]


def status_of(function: Any, *args: Any) -> int:
    """Return the status with which a call of the bindings ends, 0 if it ends well."""
    try:
        function(*args)
    except structs.DCGMError as error:
        return int(error.value)
    return 0


def init() -> None:
    structs._dcgmInit()
    agent.dcgmInit()


def connect(address: str = "127.0.0.1:5555", timeout_ms: int = 300) -> Any:
    """Connect by the newest call that the bindings have; a unix socket is unix://PATH."""
    path = address.removeprefix("unix://")
    if hasattr(agent, "dcgmConnect_v3"):
        newer = structs.c_dcgmConnectV3Params_v1()
        newer.timeoutMs = timeout_ms
        return agent.dcgmConnect_v3(address if path != address else f"tcp://{address}", newer)
    older = structs.c_dcgmConnectV2Params_v2()
    older.timeoutMs, older.addressIsUnixSocket = timeout_ms, int(path != address)
    return agent.dcgmConnect_v2(path, older)


def change(extra: str, script: str = "h200") -> None:
    """Change the script of this process."""
    FakeDcgm.change(Path(os.environ["FAKE_DCGM_SCRIPT"]), script, extra)


def row(entity: int, value: Any) -> dict[str, Any]:
    """Return a value for JSON: a double that JSON cannot hold as text."""
    kind = chr(value.fieldType)
    held = value.value.dbl if kind == "d" else value.value.i64 if kind == "i" else value.value.str
    held = str(held) if kind == "d" and held != held else held
    return {"gpu": entity, "field": value.fieldId, "type": kind, "status": value.status, "ts": value.ts, "value": held}


class Client:
    """A connection with one group and what it watches."""

    def __init__(self, gpus: tuple[int, ...] = (0,), handle: Any = None) -> None:
        self.handle = handle or connect()
        self.group = agent.dcgmGroupCreate(self.handle, structs.DCGM_GROUP_EMPTY, "of-the-test")
        self.names = 0
        for gpu in gpus:
            agent.dcgmGroupAddDevice(self.handle, self.group, gpu)

    def fields(self, ids: list[int]) -> Any:
        self.names += 1
        return agent.dcgmFieldGroupCreate(self.handle, ids, f"of-the-test-{self.names}")

    def watch(self, ids: list[int], period_s: float = 0.02, keep_s: float = 60.0) -> Any:
        field_group = self.fields(ids)
        agent.dcgmWatchFields(self.handle, self.group, field_group, round(period_s * 1e6), keep_s, 0)
        return field_group

    def since(self, field_group: Any, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        rows: list[dict[str, Any]] = []

        def take(group: int, entity: int, values: Any, count: int, _: Any) -> int:
            rows.extend(row(entity, values[i]) for i in range(count))
            return 0

        callback = agent.dcgmFieldValueEntityEnumeration_f(take)
        following = agent.dcgmGetValuesSince_v2(self.handle, self.group, field_group, since, callback, None)
        return rows, following

    def latest(self, ids: list[int], gpus: tuple[int, ...] = (0,), *, live: bool = False) -> list[dict[str, Any]]:
        pairs = [structs.c_dcgmGroupEntityPair_t(1, gpu) for gpu in gpus]
        found = agent.dcgmEntitiesGetLatestValues(self.handle, pairs, ids, int(live))
        return [row(value.entityId, value) for value in found]


def emit(value: Any) -> None:
    """Hand a value to the test."""
    json.dump(value, sys.stdout, allow_nan=False)
