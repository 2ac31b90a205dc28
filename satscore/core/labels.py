"""Names of the phases of a run and the user's overrides of them (docs/method.md, "Phases")."""

import enum
from dataclasses import dataclass


class Label(enum.IntEnum):
    """What a window of the job belongs to; the numbers are those of label arrays and of recordings."""

    STARTUP = 0
    """Before the GPUs first work: imports, data staging, building the model."""
    WARMUP = 1
    """From first work until the level no longer depends on the start: compilation, caches, clocks settling."""
    STEADY = 2
    """The run's own level: what the headline is taken from."""
    DIP = 3
    """A passing low stretch inside the run: checkpoint, evaluation, waiting for data."""
    TAIL = 4
    """After the last work: final checkpoint, shutdown."""

    @property
    def text(self) -> str:
        """Return the name as marks and outputs spell it, in lower case."""
        return self.name.lower()


ALL_LABELS = frozenset(Label)
STEADY_LABELS = frozenset((Label.STEADY,))


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """A user's word that a phase begins.

    Attributes:
        index: Window at which it takes effect, on the same numbering as the labels that it overrides.
        label: The label from there on until the next mark; None returns to automatic labels.
    """

    index: int
    label: Label | None
