"""What the user asked of a run, as one value."""

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
        record: full, sums or no.
        json: File that gets the summary as JSON as well; None: only the run directory.
        label: The user's name for the run; may be empty.
        dtype: The number format whose peak is the bound; None: the model's default.
        quiet: No block at exit.
        forward: Which signals reach the command: auto, always or never.
        fail_under: Lowest score in points of 100 that passes; None: no gate.
        group_by: Which ranks are compared with each other (pipeline stages: rank//N).
        redact: Values that look like secrets are removed from artefacts.
    """

    source: str = "auto"
    dcgm: str | None = None
    period_s: float = 0.2
    profile: str = "train"
    out: str | None = None
    record: str = "full"
    json: str | None = None
    label: str = ""
    dtype: str | None = None
    quiet: bool = False
    forward: str = "auto"
    fail_under: float | None = None
    group_by: str = "none"
    redact: bool = True
