"""Where the vendor's Python bindings are: they come with DCGM's packages and are on no package index."""

from collections.abc import Mapping
from pathlib import Path

from satscore.errors import CounterError

BINDINGS_VARIABLE = "SATSCORE_DCGM_BINDINGS"
"""Names the folder where the packages put it elsewhere; then no other is tried."""

# In this order: where the bindings of 4.x cannot load their library, the caller tries those of 3.x.
_FOLDERS = (
    "usr/share/datacenter-gpu-manager-4/bindings/python3",
    "usr/local/dcgm/bindings/python3",
    "usr/local/dcgm/bindings",
)
_MODULES = ("dcgm_agent.py", "dcgm_structs.py")


def binding_folders(environment: Mapping[str, str], root: Path = Path("/")) -> list[Path]:
    """Return the folders with bindings that are here, the newest major version of DCGM first.

    Args:
        environment: Where the variable SATSCORE_DCGM_BINDINGS is looked up; empty is unset.
        root: The machine's root folder.

    Raises:
        CounterError: The variable names a folder without bindings.
    """
    named = environment.get(BINDINGS_VARIABLE, "")
    if not named:
        return [folder for folder in (root / name for name in _FOLDERS) if not _missing(folder)]
    folder = Path(named)
    missing = _missing(folder)
    if missing:
        raise CounterError(
            f"{BINDINGS_VARIABLE} names {named}, which has no {' and no '.join(missing)}",
            hint="name the folder of DCGM's Python bindings (usually "
            + " or ".join(f"/{name}" for name in _FOLDERS[:2])
            + "), or unset the variable",
        )
    return [folder.absolute()]


def _missing(folder: Path) -> list[str]:
    """Return the modules that a folder lacks; one that may not be looked into lacks all."""
    missing = []
    for name in _MODULES:
        try:
            found = (folder / name).is_file()
        except OSError:
            found = False
        if not found:
            missing.append(name)
    return missing
