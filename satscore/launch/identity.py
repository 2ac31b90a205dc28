"""Which rank of which job this process is, from the environment that its launcher made. Pure.

The variables of each launcher, and what was measured of them: docs/launchers.md.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from satscore.launch.job_key import Allocation, allocation, key_of, number
from satscore.launch.request import Identity
from satscore.launch.slurm_step import Step, step_of

_SLURMS_PMIX = "slurm.pmix."
_LOOPBACK = ("localhost", "127.", "::1")
_SHOWN = 40
_INSIDE_STEPS = ("torchrun", "deepspeed")
"""Launchers that run in each task of a step: the step is that of all ranks. A mpirun has one on some nodes only."""


class _Names(NamedTuple):
    """The variables in which a launcher states a rank's place; of several the first one that is there."""

    rank: str
    world: str
    local_rank: tuple[str, ...] = ()
    local_world: tuple[str, ...] = ()


_TORCH = _Names("RANK", "WORLD_SIZE", ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"))
_OPENMPI = _Names(
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_LOCAL_SIZE",)
)
_PALS = _Names(
    "PALS_RANKID", "PMI_SIZE", ("PALS_LOCAL_RANKID", "PMI_LOCAL_RANK"), ("PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE")
)
_LSF = _Names("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", ("JSM_NAMESPACE_LOCAL_RANK",), ("JSM_NAMESPACE_LOCAL_SIZE",))
_FLUX = _Names("FLUX_TASK_RANK", "FLUX_JOB_SIZE", ("FLUX_TASK_LOCAL_ID",))
_MPICH = _Names("PMI_RANK", "PMI_SIZE", ("MPI_LOCALRANKID", "PMI_LOCAL_RANK"), ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"))
_KUBEFLOW = _Names("PET_NODE_RANK", "PET_NNODES")


def identify(environ: Mapping[str, str], hostname: str = "") -> Identity:
    """Return the identity of this process; never raises.

    Precedence: torchrun (RANK with LOCAL_RANK), Open MPI, Flux, LSF, PALS, MPICH, a Slurm step, Kubernetes: what
    starts ranks inside something else knows more of them. A launcher whose numbers are wrong is passed over with a
    note. A Slurm step goes first where it made the other's variables itself (``srun --mpi=...``), and where they
    are left over from elsewhere: a step with several tasks on a node was made by the user's srun, not by a mpirun
    that starts its one daemon per node.

    Args:
        environ: Our environment.
        hostname: Of this node: part of the key where ranks meet at a loopback address.
    """
    found = _Environment(environ, hostname)
    for read in (_torch, _openmpi, _flux, _lsf, _pals, _mpich, _slurm, _kubernetes):
        identity = read(found)
        if identity is not None:
            break
    else:
        identity = Identity()
        if found.text("RANK") and not found.text("LOCAL_RANK"):
            found.notes.append("RANK without LOCAL_RANK may be of a process or of a whole node: it is not used")
    if identity.world > 1 and identity.key is None:
        found.notes.append(
            f"nothing in the environment of {identity.launcher} tells this run from others: every rank keeps a "
            "run directory of its own and is summed up alone"
        )
    return replace(identity, notes=tuple(found.notes))


class _Place(NamedTuple):
    """A rank's place in its job."""

    rank: int
    world: int
    local_rank: int | None
    local_world: int | None


class _Environment:
    """The variables, and what is read from them more than once.

    Args:
        environ: As for ``identify``.
        hostname: As for ``identify``.
    """

    def __init__(self, environ: Mapping[str, str], hostname: str) -> None:
        self.notes: list[str] = []
        self.hostname = hostname
        self._environ = environ
        self.allocation: Allocation | None = allocation(environ)
        self.step: Step | None = step_of(environ, self.notes)

    def text(self, *names: str) -> str | None:
        """Return the first of some variables that is set and not empty."""
        return next((self._environ[name] for name in names if self._environ.get(name)), None)

    def place(self, names: _Names) -> _Place | None:
        """Return the place that some variables state; None: they are not there, or wrong, which is noted."""
        rank_text, world_text = self.text(names.rank), self.text(names.world)
        if rank_text is None:
            return None
        rank, world = number(rank_text), number(world_text)
        if rank is None or world is None or rank >= world:
            stated = f"{names.rank}={_short(rank_text)} and {names.world}={_short(world_text)}"
            self.notes.append(f"{stated} name no rank of a job: they are not used")
            return None
        local_rank, local_world = number(self.text(*names.local_rank)), number(self.text(*names.local_world))
        if (local_rank or 0) > rank or (local_world is not None and not (local_rank or 0) < local_world <= world):
            self.notes.append(f"the place on the node that {names.local_rank[0]} states cannot be: it is not used")
            local_rank = local_world = None
        return _Place(rank, world, local_rank, local_world)

    def is_left_over(self, place: _Place, what: str) -> bool:
        """Return whether a place contradicts a Slurm step that was made for these ranks, which is noted."""
        step = self.step
        if step is None or not step.is_packed:
            return False
        if (place.rank, place.world) != (step.rank, step.world):
            self.notes.append(
                f"{what} says rank {place.rank} of {place.world}, the Slurm step rank {step.rank} of {step.world}: "
                "the step is believed, the others are taken for left over"
            )
        return True

    def identity(self, launcher: str, place: _Place, *parts: str | None, restart: int = 0) -> Identity:
        """Return an identity whose key has these parts, behind job or step where there is one; of none, without."""
        known = [part for part in parts if part]
        around = self.allocation
        base = self.step.key if self.step and launcher in _INSIDE_STEPS else around.name if around else launcher
        key = key_of([base, *known, *([f"r{restart}"] if restart else [])]) if known else None
        return Identity(
            launcher=launcher, **place._asdict(), key=key, restart=restart + (around.restart if around else 0)
        )


def _torch(found: _Environment) -> Identity | None:
    """Read torchrun, DeepSpeed, or RANK and LOCAL_RANK that a script has set."""
    place = found.place(_TORCH) if found.text("LOCAL_RANK") else None
    if place is None:
        return None
    run_id, step = found.text("TORCHELASTIC_RUN_ID"), found.step
    launcher = "torchrun" if run_id or not found.text("CROSS_RANK", "LOCAL_SIZE") else "deepspeed"
    if run_id is None and launcher == "torchrun" and step is not None:
        if place.world == step.world:  # export RANK=$SLURM_PROCID: the step knows the rest
            place = place._replace(local_world=place.local_world or step.local_world)
            return Identity(launcher="slurm", **place._asdict(), key=step.key, restart=step.restart)
        if found.is_left_over(place, "RANK"):
            return None
    address = found.text("MASTER_ADDR")
    if address and address.startswith(_LOOPBACK):
        address = found.hostname
    at = f"{address}-{found.text('MASTER_PORT') or ''}" if address else None
    restart = number(found.text("TORCHELASTIC_RESTART_COUNT")) or 0
    return found.identity(launcher, place, run_id if run_id != "none" else None, at, restart=restart)


def _openmpi(found: _Environment) -> Identity | None:
    place, namespace = found.place(_OPENMPI), found.text("PMIX_NAMESPACE")
    if place is None or found.is_left_over(place, "OMPI_COMM_WORLD_RANK"):
        return None
    if found.step is not None and namespace and namespace.startswith(_SLURMS_PMIX):
        return None
    if namespace and found.allocation is None:
        # The numbers of Open MPI 4 are not unique in time; the port of its mpirun makes them so.
        namespace = f"{_mpirun_at(found.text('OMPI_MCA_orte_hnp_uri') or '')}{namespace}"
    return found.identity("openmpi", place, namespace)


def _mpirun_at(uri: str) -> str:
    """Return address and port of the mpirun above the ranks, from ``ID;tcp://ADDRESS,ADDRESS:PORT;...``."""
    server = uri.partition("tcp://")[2].partition(";")[0]
    addresses, _, port = server.rpartition(":")
    return f"{addresses.partition(',')[0]}-{port}-" if addresses else ""


def _pals(found: _Environment) -> Identity | None:
    application, step = found.text("PALS_APID"), found.step
    if step is not None and (application == f"{step.job}.{step.number}" or not found.text("PALS_LOCAL_RANKID")):
        return None  # srun --mpi=cray_shasta
    place = found.place(_PALS)
    return found.identity("pals", place, application) if place else None


def _lsf(found: _Environment) -> Identity | None:
    place = found.place(_LSF)
    return found.identity("lsf", place, found.text("PMIX_NAMESPACE")) if place else None


def _flux(found: _Environment) -> Identity | None:
    place = found.place(_FLUX)
    if place is None:
        return None
    nodes = number(found.text("FLUX_JOB_NNODES"))
    if nodes in (1, place.world):
        place = place._replace(local_world=place.world // nodes)
    job = (found.text("FLUX_JOB_ID") or "").replace("\N{LATIN SMALL LETTER F WITH HOOK}", "f")
    return found.identity("flux", place, job)


def _mpich(found: _Environment) -> Identity | None:
    if found.step is not None and not found.text(*_MPICH.local_rank[:1], *_MPICH.local_world[:1]):
        return None  # srun --mpi=pmi2
    place = found.place(_MPICH)
    if place is None or found.is_left_over(place, "PMI_RANK"):
        return None
    return found.identity("mpich", place, found.text("I_MPI_HYDRA_UUID"))


def _slurm(found: _Environment) -> Identity | None:
    step = found.step
    if step is None:
        return None
    place = _Place(step.rank, step.world, step.local_rank, step.local_world)
    return Identity(launcher="slurm", **place._asdict(), key=step.key, restart=step.restart)


def _kubernetes(found: _Environment) -> Identity | None:
    """Read the number of a pod: one wrapper in it sees all its GPUs, so there is no place on the node."""
    place = found.place(_KUBEFLOW)
    if place is not None:
        address, port = found.text("PET_MASTER_ADDR", "MASTER_ADDR"), found.text("PET_MASTER_PORT", "MASTER_PORT")
        return found.identity("kubernetes", place, f"{address}-{port or ''}" if address else None)
    index = found.text("JOB_COMPLETION_INDEX")
    if index is None:
        return None
    found.notes.append(f"pod {_short(index)} of an indexed Job, whose size is not known: it is summed up alone")
    return Identity(launcher="kubernetes")


def _short(text: str | None) -> str:
    return "(not set)" if text is None else ascii(text[:_SHOWN])
