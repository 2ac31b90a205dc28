"""Which GPUs are mine: what CUDA would show the command, found from its environment alone (pure)."""

from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from satscore.launch.request import Identity

    class ListedGpu(Protocol):
        """A GPU as the driver lists it."""

        @property
        def name(self) -> str | None:
            """The name of its model."""

        @property
        def uuid(self) -> str | None:
            """The driver's stable name of the GPU, ``GPU-...``."""

        @property
        def mig_devices(self) -> tuple[str, ...]:
            """The names of its slices, ``MIG-...``."""


VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"
PER_TASK_VARIABLE = "SLURM_GPUS_PER_TASK"
_DRIVERS_ORDER = "PCI_BUS_ID"
_OLD_SLICE = "mig-gpu-"


def visible_gpus(setting: str | None, gpus: "Sequence[ListedGpu]") -> tuple[list[int], str | None]:
    """Return the positions of the GPUs that the command can use, and a note where that is unclear.

    CUDA's rules: unset shows all, empty shows none, and the list ends at the first entry that is
    invalid or a repetition. A slice of a GPU stands for the whole GPU here, and the note says so.

    Args:
        setting: CUDA_VISIBLE_DEVICES, or None if it is not set. (NVIDIA_VISIBLE_DEVICES speaks to the
            container runtime: it decided which GPUs are here at all.)
        gpus: The driver's list, in its order. Ordinals are taken in that order, see ``counts_otherwise``.
    """
    if setting is None:
        return list(range(len(gpus))), None
    chosen: list[int] = []
    slices: list[str] = []
    for entry in (part.strip().lower() for part in setting.split(",")):
        is_slice = entry.startswith("mig-")
        position = _parent(entry, gpus) if is_slice else _position(entry, gpus)
        if is_slice and position is None:
            return chosen, f"{VISIBLE_VARIABLE}={setting!r} names a MIG slice that is not here: slices cannot be scored"
        if position is None or entry in slices or (position in chosen and not is_slice):
            break
        slices += [entry] if is_slice else []
        chosen += [] if position in chosen else [position]
    if slices:
        return chosen, f"{VISIBLE_VARIABLE}={setting!r} names a MIG slice: slices cannot be scored, whole GPUs are read"
    if chosen:
        return chosen, None
    text = f"{VISIBLE_VARIABLE}={setting!r} shows satscore and the command no GPU"
    return [], f"{text}: a command that sets it for itself is read if satscore is started without it"


def counts_otherwise(setting: str | None, order: str | None, gpus: "Sequence[ListedGpu]") -> bool:
    """Return whether CUDA may mean other GPUs than ``visible_gpus`` chose.

    CUDA counts the fastest GPU first unless CUDA_DEVICE_ORDER is PCI_BUS_ID, which is the driver's
    order; among GPUs of one model both are the same.

    Args:
        setting: CUDA_VISIBLE_DEVICES, or None if it is not set.
        order: CUDA_DEVICE_ORDER, or None if it is not set.
        gpus: As for ``visible_gpus``.
    """
    models = {gpu.name for gpu in gpus}
    if setting is None or order == _DRIVERS_ORDER or (len(models) <= 1 and None not in models):
        return False
    chosen, _ = visible_gpus(setting, gpus)
    return has_numbers(setting) and 0 < len(chosen) < len(gpus)


def has_numbers(setting: str | None) -> bool:
    """Return whether a setting names GPUs by numbers, which count the devices that its process is shown.

    Args:
        setting: CUDA_VISIBLE_DEVICES, or None if it is not set.
    """
    return setting is not None and any(_is_number(part.strip()) for part in setting.split(","))


def local_choice(
    environ: "Mapping[str, str]", identity: "Identity", visible_count: int, machine_count: int
) -> int | None:
    """Return which of the visible GPUs a rank picks by its number on the node; None: all of them are its own.

    That is by agreement only: programs take the GPU of their local rank where nothing binds them to one. GPUs that
    were bound to the rank are its own: Slurm says so, or all ranks of the node can have as many each.

    Args:
        environ: Our environment.
        identity: Which rank we are.
        visible_count: GPUs that we see.
        machine_count: GPUs that the driver lists.
    """
    rank, ranks = identity.local_rank, identity.local_world
    if identity.world <= 1 or rank is None or ranks == 1 or visible_count <= 1:
        return None
    is_divided = ranks is not None and visible_count < machine_count and visible_count * ranks <= machine_count
    per_task = environ.get(PER_TASK_VARIABLE, "").rpartition(":")[2]
    if is_divided or (_is_number(per_task) and per_task == str(visible_count)):
        return None
    return rank % visible_count


def _is_number(entry: str) -> bool:
    return entry.isascii() and entry.isdigit()


def _position(entry: str, gpus: "Sequence[ListedGpu]") -> int | None:
    """Return the GPU that a number, a full or an abbreviated UUID in lower case names alone."""
    if _is_number(entry):
        return int(entry) if int(entry) < len(gpus) else None
    if not entry.startswith("gpu-"):
        return None
    matching = [i for i, gpu in enumerate(gpus) if (gpu.uuid or "").lower().startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _parent(entry: str, gpus: "Sequence[ListedGpu]") -> int | None:
    """Return the GPU of a slice: by the driver's list, or by the older name that has it in full."""
    names = [(i, name.lower()) for i, gpu in enumerate(gpus) for name in gpu.mig_devices]
    matching = [i for i, name in names if name.startswith(entry)]
    if len(matching) == 1:
        return matching[0]
    if not entry.startswith(_OLD_SLICE):
        return None
    uuid = entry.removeprefix("mig-").partition("/")[0]
    return next((i for i, gpu in enumerate(gpus) if (gpu.uuid or "").lower() == uuid), None)
