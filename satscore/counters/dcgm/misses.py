"""What a GPU's fields lack, told once: at once where it is for good, after a while where it may pass. Pure."""

from satscore.core.fields import Reading
from satscore.core.units import NS_PER_S
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.messages import BLANK_TEXT, lost_text
from satscore.counters.nvml_notes import NoteBook

PATIENCE_NS, PATIENCE_READINGS = 5 * NS_PER_S, 3
"""A value that fails for less of either is no news: the first samples of a watch are blank."""
_AT_ONCE = (nvml_ids.NOT_SUPPORTED, nvml_ids.NO_PERMISSION, nvml_ids.RANGE)


class Misses:
    """Watches the fields of one GPU for what they lack.

    Args:
        gpu: Index of the GPU in the run.
        notes: Where it is told.
    """

    def __init__(self, gpu: int, notes: NoteBook) -> None:
        self._gpu = gpu
        self._notes = notes
        self._lost_text = lost_text(gpu)
        self._since: dict[str, tuple[int, int]] = {}
        """When each lack began, and in how many readings it was seen."""

    def see(self, reading: Reading, field: str, code: int) -> None:
        """Take whether a field of a reading is known.

        Args:
            reading: The interval.
            field: The field.
            code: OK, or why it is unknown.
        """
        if code == ids.OK:
            self._since.pop(field, None)
        elif self._lasts(field, reading) or code in _AT_ONCE:
            self._tell(field, code)

    def see_all(self, reading: Reading, *, has_pipes: bool, has_clock: bool) -> None:
        """Take what a reading has at all: the clock tells whether the engine still reads the GPU."""
        lack = "" if has_pipes else BLANK_TEXT if has_clock else self._lost_text
        for text in (BLANK_TEXT, self._lost_text):
            if text != lack:
                self._since.pop(text, None)
            elif self._lasts(text, reading):
                self._notes.say(text)

    def _lasts(self, lack: str, reading: Reading) -> bool:
        """Count a reading with a lack; return whether that lasts already."""
        since_ns, count = self._since.get(lack, (reading.start_ns, 0))
        self._since[lack] = since_ns, count + 1
        return reading.end_ns - since_ns >= PATIENCE_NS and count + 1 >= PATIENCE_READINGS

    def _tell(self, field: str, code: int) -> None:
        if code in nvml_ids.CODES:
            self._notes.miss(self._gpu, field, code)
        else:
            self._notes.say(f"GPU {self._gpu}: {field}: {ids.text_of(code)}")
