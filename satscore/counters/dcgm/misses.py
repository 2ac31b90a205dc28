"""What a GPU's fields lack, told once: at once where it is for good, after a while where it may pass. Pure."""

from satscore.core.fields import Reading
from satscore.core.units import NS_PER_S
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.nvml_notes import NoteBook

PATIENCE_NS = 5 * NS_PER_S
"""A value that fails for less is no news: the first samples of a watch are blank."""
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
        self._since_ns: dict[str, int] = {}

    def see(self, reading: Reading, field: str, code: int) -> None:
        """Take whether a field of a reading is known.

        Args:
            reading: The interval.
            field: The field.
            code: OK, or why it is unknown.
        """
        if code == ids.OK:
            self._since_ns.pop(field, None)
        elif code in _AT_ONCE or reading.end_ns - self._since_ns.setdefault(field, reading.start_ns) >= PATIENCE_NS:
            self._tell(field, code)

    def _tell(self, field: str, code: int) -> None:
        if code in nvml_ids.CODES:
            self._notes.miss(self._gpu, field, code)
        else:
            self._notes.say(f"GPU {self._gpu}: {field}: {ids.text_of(code)}")
