"""Opening DCGM: which bindings, which engine, which GPUs, and why not."""

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from satscore.counters.clock import Clock
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.address import DEFAULT
from satscore.counters.dcgm.bindings import binding_folders
from satscore.counters.dcgm.choice import OurGpus
from satscore.counters.dcgm.client import Client
from satscore.counters.dcgm.messages import ended_before, error_of, no_bindings, reason
from satscore.counters.dcgm.source import DcgmSource, Entities, watch_of
from satscore.counters.dcgm.wire import Connect, Failed, Found, Watch, Watching
from satscore.counters.nvml import Visible
from satscore.counters.nvml_notes import NoteBook
from satscore.errors import CounterError

DEFAULT_PERIOD_S = 0.2
_VENDOR_TIMEOUT_S = 5.0
_WAIT_S = 0.05
_GRACE_S = 0.3
"""For an answer that is on its way when the command has ended."""
_OTHER_BINDINGS_STAGES = ("bindings", "library")


class _Attempt:
    """Opening one engine by one folder of bindings."""

    def __init__(
        self,
        clock: Clock,
        gpus: OurGpus,
        notes: NoteBook,
        *,
        address: str | None,
        period_s: float,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._clock = clock
        self._gpus = gpus
        self._notes = notes
        self._address = address
        self._period_s = period_s
        self._entities = Entities()
        self._refusal: CounterError | None = None

    def open(self, folder: Path) -> DcgmSource | Failed:
        """Return the source, or why this did not work.

        Raises:
            CounterError: The engine is there and has no GPU of ours.
        """
        connect = Connect(
            bindings=str(folder),
            address=self._address,
            timeout_s=_VENDOR_TIMEOUT_S,
            static_fields=list(ids.STATIC_IDS),
        )
        client = Client(connect, self._arm, period_s=self._period_s)
        try:
            outcome = self._outcome(client)
        except BaseException:
            client.close()
            raise
        if isinstance(outcome, Failed):
            client.close()
        return outcome

    def _outcome(self, client: Client) -> DcgmSource | Failed:
        give_up_s = math.inf
        while time.monotonic() < give_up_s:  # ends by the client's deadlines
            for event in client.poll():
                if self._refusal is not None:
                    raise self._refusal
                if isinstance(event, Failed):
                    return event
                if isinstance(event, Watching):
                    return self._source(client, event)
            if self._stop.is_set() and give_up_s == math.inf:
                give_up_s = time.monotonic() + _GRACE_S
            client.wait(_WAIT_S)
        raise ended_before(self._address)

    def _arm(self, found: Found) -> Watch:
        try:
            self._entities.update(self._gpus.match(found.gpus, self._address))
        except CounterError as error:
            self._refusal = error
            raise
        return watch_of(self._entities.matched, self._period_s)

    def _source(self, client: Client, watching: Watching) -> DcgmSource:
        return DcgmSource(
            client,
            watching,
            self._entities,
            self._clock,
            self._notes,
            address=self._address,
            period_s=self._period_s,
        )


def open_dcgm(
    clock: Clock,
    visible: Visible | None = None,
    *,
    address: str | None = None,
    period_s: float = DEFAULT_PERIOD_S,
    environ: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> DcgmSource:
    """Open a host engine of DCGM.

    Args:
        clock: The run's clock.
        visible: Chooses driver indices of GPUs; None for all.
        address: ``HOST:PORT`` or ``unix://PATH``, and no other then; None: the usual address of this machine,
            else an engine inside the process that reads.
        period_s: Time between samples, s.
        environ: Where SATSCORE_DCGM_BINDINGS is looked up; None: our environment.
        stop: Set when nobody waits any longer.

    Raises:
        CounterError: There are no bindings, no engine, no GPU of ours or no pipe counters; with the remedy.
    """
    folders = binding_folders(os.environ if environ is None else environ)
    if not folders:
        raise no_bindings()
    notes = NoteBook()
    gpus = OurGpus(visible, notes)
    first: Failed | None = None
    for place in (DEFAULT, None) if address is None else (address,):
        attempt = _Attempt(clock, gpus, notes, address=place, period_s=period_s, stop=stop or threading.Event())
        outcome = _by_any(folders, attempt)
        if isinstance(outcome, DcgmSource):
            return outcome
        if place is None and first is not None:
            error = error_of(outcome, None)
            raise CounterError(f"{error.message}; at {DEFAULT}: {reason(first)}", hint=error.hint)
        if address is not None or outcome.stage != "connect":
            raise error_of(outcome, place)
        first = outcome
    raise AssertionError("unreachable")


def _by_any(folders: Sequence[Path], attempt: _Attempt) -> DcgmSource | Failed:
    """Open by the first bindings that have their library and speak the engine's version."""
    outcome: DcgmSource | Failed | None = None
    for folder in folders:
        last = attempt.open(folder)
        if isinstance(last, DcgmSource):
            return last
        is_of_bindings = last.stage in _OTHER_BINDINGS_STAGES or last.status == ids.VERSION
        if outcome is None or not is_of_bindings:
            outcome = last
        if not is_of_bindings:
            break
    assert outcome is not None
    return outcome
