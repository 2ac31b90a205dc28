"""A command that writes each signal it receives to a file.

Usage: reporter.py LOG TAKEN END STATUS

TAKEN are names of signals (TERM,INT,34) to write down, END the one that ends it with STATUS.
Signals are taken with sigwaitinfo, so that each delivery of a real-time signal counts.
"""

import os
import signal
import sys


def number(name: str) -> int:
    return int(name) if name.isdigit() else int(getattr(signal, f"SIG{name}"))


def main() -> None:
    log, names, end, status = sys.argv[1:]
    taken = {number(name) for name in [*names.split(","), end] if name}
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"ready {os.getpid()}\n".encode())
    while True:
        info = signal.sigwaitinfo(taken)
        os.write(fd, f"{info.si_signo}\n".encode())
        if info.si_signo == number(end):
            os._exit(int(status))


main()
