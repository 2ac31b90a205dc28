"""Names of runs that all ranks of a job find alike, each from its own environment. Pure."""

import hashlib
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MOST_CHARACTERS = 120
_HASH_CHARACTERS = 10
_FIT = frozenset(string.ascii_letters + string.digits + "._-")
_MOST_DIGITS = 9


class Allocation(NamedTuple):
    """What a batch system gave the job."""

    name: str
    """Of cluster and job, as far as they are known; fit for a key after ``key_of``."""
    restart: int
    """How often the job began anew; part of the name."""


def number(text: str | None) -> int | None:
    """Return a whole number that is not negative, in ASCII digits; None: it is none, or no count of anything."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        return None
    return int(text)


def allocation(environ: Mapping[str, str]) -> Allocation | None:
    """Return the job of Slurm, LSF or PBS that we are in; None: there is none.

    The parts of a heterogeneous job of Slurm share one, the tasks of an array have one each.
    """
    job = number(environ.get("SLURM_HET_JOB_ID"))
    job = number(environ.get("SLURM_JOB_ID")) if job is None else job
    if job is not None:
        restart = number(environ.get("SLURM_RESTART_COUNT")) or 0
        return Allocation(f"{environ.get('SLURM_CLUSTER_NAME') or 'slurm'}-{job}{restart_suffix(restart)}", restart)
    if environ.get("LSB_JOBID"):
        index = number(environ.get("LSB_JOBINDEX"))
        return Allocation(f"lsf-{environ['LSB_JOBID']}" + (f".{index}" if index else ""), 0)
    if environ.get("PBS_JOBID"):
        return Allocation(f"pbs-{environ['PBS_JOBID']}", 0)
    return None


def restart_suffix(restart: int) -> str:
    """Return what a key says of a restart."""
    return f"-r{restart}" if restart else ""


def key_of(parts: Sequence[str]) -> str:
    """Return a key of some parts: letters, digits, ``.``, ``_`` and ``-``, fit for a file name, at most 120.

    Where characters had to be replaced or cut off, a digest of the whole keeps different keys different.
    """
    whole = "-".join(parts)
    fit = "".join(c if c in _FIT else "-" for c in whole).lstrip("-.")
    if fit == whole and len(fit) <= MOST_CHARACTERS:
        return fit
    digest = hashlib.sha256(whole.encode("utf-8", "backslashreplace")).hexdigest()[:_HASH_CHARACTERS]
    return f"{fit[: MOST_CHARACTERS - _HASH_CHARACTERS - 1] or 'job'}-{digest}"
