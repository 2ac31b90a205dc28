"""Start satscore by another Python than the one that was found first, or say why that cannot be.

Part of the bundle, beside the archives. The syntax is that of Python 3.6.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

EXIT_OURS = 125
CHOSEN = "satscore_chosen"  # as -X option: this Python was looked for by us; do not look again


def start_again(script: str, archive: str, *, fits: bool) -> None:
    """Become a Python of a version that the bundle is for, without what is set up for the command.

    Exits with status 125 if there is none.

    Args:
        script: What to run.
        archive: What there would be for this Python.
        fits: Whether there is; then only the options of this Python are not those that are needed.
    """
    if fits:
        _become(sys.executable or "/proc/self/exe", script)
    tags = _tags(os.path.dirname(archive))  # noqa: PTH120
    if CHOSEN not in sys._xoptions:  # noqa: SLF001 - the only way to ask
        for python in _others(tags):
            _become(python, script, "-X", CHOSEN)
    _refuse(script, archive, tags)


def _become(python: str, script: str, *options: str) -> None:
    """Replace this process, in the environment that it was given; return if that cannot be."""
    environment = dict(os.environb)
    try:
        # Not our own, in which the interpreter may have set LC_CTYPE (PEP 538).
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123
            entries = [entry.partition(b"=") for entry in file.read().split(b"\0")]
        environment = {name: value for name, equals, value in entries if name and equals}
    except OSError:
        pass
    try:
        os.execve(python, [python, "-BIS", *options, script, *sys.argv[1:]], environment)  # noqa: S606
    except OSError:
        return


def _tags(folder: str) -> "list[str]":
    """Return what the bundle has archives for."""
    try:
        return sorted(name[:-4] for name in os.listdir(folder) if name.endswith(".zip"))  # noqa: PTH208
    except OSError:
        return []


def _others(tags: "list[str]") -> "list[str]":
    """Return the paths on PATH of other versions that there are archives for, newest first."""
    minors = {int(tag.split("-")[1][1:]) for tag in tags} - {sys.version_info[1]}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    places = [f"{folder}/python3.{minor}" for minor in sorted(minors, reverse=True) for folder in folders if folder]
    return [place for place in places if os.access(place, os.X_OK)]


def _refuse(script: str, archive: str, tags: "list[str]") -> None:
    """Say what was looked for and what there is; exit."""
    hint = f"put one of these versions on PATH, or name it: /path/to/python3 {script}"
    if sys.version_info < (3, 11):  # noqa: UP036 - this file may meet one
        hint = "Python 3.11 or newer is needed: " + hint
    elif "musl" in EXTENSION_SUFFIXES[0]:
        hint = "an image with glibc is needed: the compiled packages are not made for musl (Alpine)"
    lines = [
        "satscore: error: the bundle has no parts for the Python that was found",
        f"  looked for: {archive}",
        f"  for Python: {sys.version.split()[0]} ({sys.executable})",
        f"  there are:  {', '.join(tags) or 'none'}",
        f"satscore: hint: {hint}",
    ]
    os.write(2, ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
    sys.exit(EXIT_OURS)
