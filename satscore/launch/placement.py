"""Which GPUs are mine: what CUDA would show the command, found from its environment alone (pure)."""

from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class HasUuid(Protocol):
        """A GPU as the driver lists it."""

        @property
        def uuid(self) -> str | None:
            """The driver's stable name of the GPU, ``GPU-...``."""


def visible_gpus(setting: str | None, gpus: "Sequence[HasUuid]") -> tuple[list[int], str | None]:
    """Return the positions of the GPUs that the command can use, and a note where that is unclear.

    CUDA's rules: unset shows all, empty shows none, and the list ends at the first entry that is
    invalid or a repetition.

    Args:
        setting: CUDA_VISIBLE_DEVICES, or None if it is not set.
        gpus: The driver's list, in its order. Ordinals are taken in that order, which is CUDA's for
            identical GPUs.
    """
    if setting is None:
        return list(range(len(gpus))), None
    chosen: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        position = _position(entry, gpus)
        if position is None or position in chosen:
            if entry.startswith("MIG-"):
                return chosen, f"CUDA_VISIBLE_DEVICES names a MIG slice ({entry}): slices cannot be scored"
            break
        chosen.append(position)
    if not chosen:
        return [], f"CUDA_VISIBLE_DEVICES={setting!r} shows the command no GPU"
    return chosen, None


def _position(entry: str, gpus: "Sequence[HasUuid]") -> int | None:
    if entry.isascii() and entry.isdigit():
        return int(entry) if int(entry) < len(gpus) else None
    matching = [i for i, gpu in enumerate(gpus) if entry.startswith("GPU-") and (gpu.uuid or "").startswith(entry)]
    return matching[0] if len(matching) == 1 else None
