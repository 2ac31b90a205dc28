"""The process that speaks to DCGM: one attempt, from Connect to a failure or the end of its input.

``python -P -m satscore.counters.dcgm.worker``, with wire.py's lines on its standard input and output.
It ends when its input does, within END_S also while a call into DCGM hangs; signals of a terminal or
of a batch system are not for it. It ends its process itself, past the exit handlers of the vendor's
library, which may hang as well.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import BinaryIO

import msgspec

from satscore.counters.dcgm.engine import Engine
from satscore.counters.dcgm.library import AttemptError, Library
from satscore.counters.dcgm.samples import Unseen, median_step_us
from satscore.counters.dcgm.wire import Connect, Failed, Found, Message, Samples, Value, Watch

END_S = 2.0
"""How long leaving the engine may take after the end of the input or a failure."""

_LOOK_AFTER, _LOOK_EVERY, _LOOK_BACK = 20, 300, 10
"""In periods: when to look first and again at how often the engine samples, and over which time.

It is a call of tens of ms with many GPUs.
"""
_PARENT_CHECK_MS = 5000
_NOT_FOR_US = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


class Channel:
    """The two pipes to satscore."""

    def __init__(self, requests: BinaryIO, answers_fd: int) -> None:
        self._requests = requests
        self._answers_fd = answers_fd
        self._encoder = msgspec.json.Encoder()

    def request(self) -> bytes:
        """Return the next line, or nothing at the end of the input."""
        return self._requests.readline()

    def ends_within(self, seconds: float) -> bool:
        """Wait; return at once, and whether that is so, when the input ends."""
        readable, _, _ = select.select([self._requests], [], [], max(0.0, seconds))
        return bool(readable) and not os.read(self._requests.fileno(), 65536)

    def say(self, message: Message) -> None:
        """Write a line; waits while nobody reads.

        Raises:
            BrokenPipeError: Nobody will read any more.
        """
        rest = memoryview(self._encoder.encode(message) + b"\n")
        while rest:
            rest = rest[os.write(self._answers_fd, rest) :]


def main() -> None:
    """Make the attempt and end the process with status 0."""
    for number in _NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(sys.stdin.buffer, _claim_output())
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    with contextlib.ExitStack() as leaving, contextlib.suppress(BrokenPipeError):
        try:
            _serve(channel, leaving)
        except AttemptError as failure:
            channel.say(failure.message())
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails here, satscore is told
            channel.say(Failed(stage="defect", status=None, text=f"{type(error).__name__}: {error}"))
        threading.Thread(target=_end_after_grace, daemon=True).start()
    os._exit(0)


def _claim_output() -> int:
    """Return a descriptor of our own for the protocol: bindings and library print to 1 and 2."""
    answers_fd = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return answers_fd


def _end_with_parent(parent: int) -> None:
    """End the process, however deep it is in a call, some time after its input or its parent has ended.

    Not by PR_SET_PDEATHSIG: that comes as soon as the thread ends that started us.
    """
    hang_up = select.poll()
    hang_up.register(sys.stdin.fileno(), 0)
    while not hang_up.poll(_PARENT_CHECK_MS) and os.getppid() == parent:
        pass
    _end_after_grace()


def _end_after_grace() -> None:
    time.sleep(END_S)
    os._exit(0)


def _serve(channel: Channel, leaving: contextlib.ExitStack) -> None:
    """Answer Connect and Watch, then send samples until the input ends.

    Raises:
        AttemptError: The attempt failed.
    """
    line = channel.request()
    if not line:
        return
    connect = msgspec.json.decode(line, type=Connect)
    library = Library.load(connect.bindings)
    engine = Engine.connect(library, connect.address, connect.timeout_s)
    leaving.callback(engine.close)
    channel.say(Found(bindings_version=library.version(), gpus=engine.gpus(connect.static_fields)))
    line = channel.request()
    if not line:
        return
    watch = msgspec.json.decode(line, type=Watch)
    before, watching = engine.watch(watch)
    channel.say(watching)
    _sample(channel, engine, Unseen(before, watch.pipe_fields, watch.period_us), watch.period_us / 1e6)


def _sample(channel: Channel, engine: Engine, unseen: Unseen, period_s: float) -> None:
    # The engine has just read and reads once a period: we fetch half a period away from that.
    begun_s = time.monotonic()
    deadline_s, look_s = begun_s + period_s / 2, begun_s + _LOOK_AFTER * period_s
    while not channel.ends_within(deadline_s - time.monotonic()):
        if time.monotonic() < deadline_s:
            continue
        values = engine.latest()
        missed_since_us = unseen.missed_since_us(values)
        if missed_since_us is not None:
            values = sorted([*engine.pipes_since(missed_since_us), *values], key=lambda value: value.ts_us)
        taken = unseen.take(values)
        step_us = None
        if taken and time.monotonic() >= look_s:
            look_s = time.monotonic() + _LOOK_EVERY * period_s
            newest_us = max(value.ts_us for value in taken)
            step_us = median_step_us(engine.pipes_since(newest_us - round(_LOOK_BACK * period_s * 1e6)))
        channel.say(_samples(taken, step_us))
        # Its period is a little longer than asked, so that in time we fetch while it reads: step aside.
        aside = unseen.are_two_rounds(taken)
        deadline_s = next_deadline_s(deadline_s, time.monotonic(), period_s, aside=aside)


def next_deadline_s(deadline_s: float, now_s: float, period_s: float, *, aside: bool) -> float:
    """Return when to fetch next: a period after the last deadline, half of one to step aside; never in the past."""
    deadline_s += period_s / 2 if aside else period_s
    if deadline_s > now_s:
        return deadline_s
    return deadline_s + period_s * (1 + (now_s - deadline_s) // period_s)


def _samples(values: list[Value], step_us: int | None) -> Samples:
    return Samples(
        fetched_ns=time.monotonic_ns(),
        wall_ns=time.time_ns(),
        cpu_s=time.process_time(),
        rss_bytes=_peak_resident_bytes(),
        values=values,
        step_us=step_us,
    )


def _peak_resident_bytes() -> int:
    """Return VmHWM; ru_maxrss would begin with the memory of the process that started us."""
    with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123 - five times a second
        _, found, rest = file.read(4096).partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


if __name__ == "__main__":
    main()
