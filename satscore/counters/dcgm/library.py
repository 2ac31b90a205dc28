"""The vendor's bindings and library, loaded once per process, and the one way to call them.

Only ``dcgm_agent`` and ``dcgm_structs`` are used: the classes around them (``pydcgm``, ``DcgmReader``)
hold connections that never close, reconnect by themselves and turn statuses into missing values.
"""

import importlib
import os
import sys
import warnings
from types import ModuleType
from typing import Any, Self, TypeAlias

from satscore.counters.dcgm.wire import Failed

FUNCTION_NOT_FOUND = -20
"""DCGM_ST_FUNCTION_NOT_FOUND: the bindings or the library lack a function."""


Vendor: TypeAlias = Any
"""A module or object of the bindings, which have no types."""


class AttemptError(Exception):
    """The attempt cannot go on.

    Args:
        stage: As in ``wire.Failed``.
        status: DCGM's status, or None.
        text: What was said.
    """

    def __init__(self, stage: str, status: int | None, text: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.status = status
        self.text = text

    def message(self) -> Failed:
        """Return the last line of the process."""
        return Failed(stage=self.stage, status=self.status, text=self.text)


class Library:
    """The loaded bindings with their library."""

    def __init__(self, agent: Vendor, structs: Vendor) -> None:
        self.agent = agent
        self.structs = structs

    @classmethod
    def load(cls, folder: str) -> Self:
        """Import the bindings of a folder and load their library.

        Raises:
            AttemptError: Stage ``bindings`` if they cannot be imported, ``library`` if there is no
                library of their major version or it cannot be started.
        """
        # An embedded engine would write to a file under /var/log.
        os.environ.setdefault("__DCGM_DBG_LVL", "NONE")
        try:
            structs, agent = _import(folder, "dcgm_structs"), _import(folder, "dcgm_agent")
        except (Exception, SystemExit) as error:
            raise AttemptError("bindings", None, f"{folder}: {type(error).__name__}: {error}") from error
        library = cls(agent, structs)
        library.attempt("library", "_dcgmInit", structs)
        library.call("library", "dcgmInit")
        return library

    def call(self, stage: str, function: str, *arguments: Vendor) -> Vendor:
        """Call a function of ``dcgm_agent``, by position: its decorator drops keyword arguments.

        Raises:
            AttemptError: With DCGM's status; FUNCTION_NOT_FOUND also where the bindings lack it.
        """
        return self.attempt(stage, function, self.agent, *arguments)

    def attempt(self, stage: str, function: str, module: Vendor, *arguments: Vendor) -> Vendor:
        """Call a function of one of the two modules; see ``call``."""
        called = getattr(module, function, None)
        if called is None:
            raise AttemptError(stage, FUNCTION_NOT_FOUND, f"{function}: the bindings lack it")
        try:
            return called(*arguments)
        except self.structs.DCGMError as error:
            raise AttemptError(stage, int(error.value), f"{function}: {error}") from error

    def connect(self, address: str, timeout_ms: int) -> Vendor:
        """Connect to an engine by the newest call that bindings and library both have.

        Args:
            address: ``HOST:PORT`` or ``unix://PATH``.
            timeout_ms: The vendor's own limit.

        Returns:
            A handle; of a login that the engine did not answer one on which every call fails.

        Raises:
            AttemptError: Stage ``connect``.
        """
        path = address.removeprefix("unix://") if address.startswith("unix://") else None
        if hasattr(self.agent, "dcgmConnect_v3"):
            newer = self.structs.c_dcgmConnectV3Params_v1()
            newer.timeoutMs = timeout_ms
            try:
                return self.call("connect", "dcgmConnect_v3", f"tcp://{address}" if path is None else address, newer)
            except AttemptError as failure:
                if failure.status != FUNCTION_NOT_FOUND:
                    raise
        older = self.structs.c_dcgmConnectV2Params_v2()
        older.timeoutMs = timeout_ms
        older.addressIsUnixSocket = int(path is not None)
        return self.call("connect", "dcgmConnect_v2", address if path is None else path, older)

    def version(self) -> str | None:
        """Return the library's version (``4.2.3``), or None if it does not say."""
        try:
            said = self.call("library", "dcgmVersionInfo").rawBuildInfoString
        except AttemptError:
            return None
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        entries = dict(entry.split(":", 1) for entry in text.split(";") if ":" in entry)
        return entries.get("version")


def _import(folder: str, name: str) -> ModuleType:
    """Import a module of the folder; afterwards nothing else is found there, and nothing was written."""
    sys.path.insert(0, folder)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with warnings.catch_warnings():
            # Text of the vendor that a newer Python frowns upon.
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(folder)
