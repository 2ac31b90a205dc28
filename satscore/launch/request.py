"""What the user asked of a run, and which rank of a job it is, as one value each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a run, checked.

    Attributes:
        source: Where counters come from: auto, gpm, dcgm, nvml, both, sim, sim:SCENARIO or replay:FILE.
        dcgm: Address of DCGM's host engine: HOST:PORT or unix://PATH; None: the usual one of this machine.
        period_s: Nominal time between two reads in s, at least 0.12.
        profile: The resources that may saturate: train, hpc or tensor.
        out: The run directory; None: chosen from the time and the label.
        record: full, sums or no; None: full up to 64 ranks, else sums.
        json: File that gets the summary as JSON as well; None: only the run directory.
        label: The user's name for the run; may be empty.
        dtype: The number format whose peak is the bound; None: the model's default.
        quiet: Whether there is no block at exit; None: the rank that speaks for the job prints one.
        forward: Which signals reach the command: auto, always or never.
        fail_under: Lowest score in points of 100 that passes; None: no gate.
        group_by: Which ranks are compared with each other (pipeline stages: rank//N).
        redact: Values that look like secrets are removed from artefacts.
        collector: Where the ranks of the job meet, HOST:PORT; None: through the run directory.
        collector_key: File with their common secret; None: it lies in the run directory.
    """

    source: str = "auto"
    dcgm: str | None = None
    period_s: float = 0.2
    profile: str = "train"
    out: str | None = None
    record: str | None = None
    json: str | None = None
    label: str = ""
    dtype: str | None = None
    quiet: bool | None = None
    forward: str = "auto"
    fail_under: float | None = None
    group_by: str = "none"
    redact: bool = True
    collector: str | None = None
    collector_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which process of which job this is, from the environment that its launcher made.

    Attributes:
        launcher: none, slurm, torchrun, openmpi, pmix, mpich, pals, lsf, flux, deepspeed or kubernetes.
        rank: From 0; without a launcher 0.
        world: Ranks of the job.
        local_rank: Number of the rank on its node; None: not known.
        local_world: Ranks on its node; None: not known.
        key: The same in all ranks of this job's step and in no other, fit for a file name; None: there is no
            launcher, or nothing that tells its runs apart.
        restart: How often the job, or torchrun's workers, began anew; part of the key.
        notes: What was ambiguous, and what was assumed.
    """

    launcher: str = "none"
    rank: int = 0
    world: int = 1
    local_rank: int | None = None
    local_world: int | None = None
    key: str | None = None
    restart: int = 0
    notes: tuple[str, ...] = ()
