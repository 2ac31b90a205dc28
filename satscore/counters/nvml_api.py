"""The one door to NVML: loading, calls that return codes instead of raising, batched field values.

``pynvml`` is imported here only, and only when a source is opened (45 ms). Calls of every tick go to
the library's functions directly with reused buffers: the binding's wrappers allocate structures and
raise for every refusal. Everything here belongs to one thread.
"""

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from satscore.counters import nvml_ids as ids
from satscore.errors import CounterError

Call = Callable[..., int]
"""A function of the library; returns NVML's return code."""
Entry = tuple[int, int]
"""A field value: field id and scope id."""
Answer = tuple[int, float]
"""Return code (NVML's, or one of our own from nvml_ids) and value; NaN unless the code is OK."""

_FIELD = struct.Struct("=IIqqiiQ")
"""nvmlFieldValue_t: id, scope, timestamp us, latency us, value type, return code, 8 bytes of value."""
_BLANK_UINT = 0xFFFF_FFFF
_BLANK_ULONGLONG = 0xFFFF_FFFF_FFFF_FFFF

_OPEN_ERRORS: dict[int, tuple[str, str]] = {
    ids.LIBRARY_NOT_FOUND: (
        "NVML: libnvidia-ml.so.1 was not found: no NVIDIA driver on this machine or in this container",
        "on a GPU node 'nvidia-smi' must work; start containers with the NVIDIA runtime (--gpus all, --nv)",
    ),
    ids.DRIVER_NOT_LOADED: (
        "NVML: the NVIDIA kernel driver is not loaded",
        "'nvidia-smi' must work first; on a login node there may be no GPU at all",
    ),
    ids.LIB_RM_VERSION_MISMATCH: (
        "NVML: the driver library and the loaded kernel driver are of different versions",
        "the driver was updated without a reboot, or the container carries its own driver library",
    ),
    ids.FUNCTION_NOT_FOUND: (
        "NVML: the driver library is too old or a build stub (a function needed to start is missing)",
        "look which libnvidia-ml.so.1 is found first: 'ldconfig -p | grep nvidia-ml', LD_LIBRARY_PATH",
    ),
    ids.NO_PERMISSION: (
        "NVML: no permission to talk to the NVIDIA driver",
        "/dev/nvidiactl and /dev/nvidia* must be readable and writable for this user; ask the site",
    ),
    ids.GPU_NOT_FOUND: (
        "NVML: the driver is loaded but no NVIDIA GPU was found",
        "request a GPU from the batch system",
    ),
}


def open_error(code: int) -> CounterError:
    """Return the error, with its remedy, for a return code that kept NVML from opening."""
    fallback = (f"NVML cannot be used here: {ids.code_of(code).text}", "'nvidia-smi' must work first")
    message, hint = _OPEN_ERRORS.get(code, fallback)
    return CounterError(message, hint=hint)


class Nvml:
    """The loaded and initialised library.

    Args:
        binding: The ``pynvml`` module after nvmlInit.
    """

    def __init__(self, binding: Any) -> None:  # noqa: ANN401 - pynvml has no types
        self._binding = binding

    def ask(self, name: str, *args: Any) -> tuple[int, Any]:  # noqa: ANN401 - pynvml has no types
        """Call a wrapper of the binding; for opening and for rare calls.

        Args:
            name: The wrapper's name.
            *args: Its arguments.

        Returns:
            NVML's return code and the answer; the answer is None unless the code is OK.
        """
        wrapper = getattr(self._binding, name, None)
        if wrapper is None:
            return ids.FUNCTION_NOT_FOUND, None
        try:
            return ids.OK, wrapper(*args)
        except self._binding.NVMLError as error:
            return int(error.value), None
        except self._binding.NVMLLibraryMismatchError:
            return ids.FUNCTION_NOT_FOUND, None
        except (UnicodeDecodeError, ValueError, TypeError, AttributeError, ctypes.ArgumentError):
            return ids.UNKNOWN, None  # an answer that the binding itself cannot digest

    def raw(self, name: str, *argtypes: Any) -> Call:  # noqa: ANN401 - ctypes types
        """Return a function of the library itself; one that answers FUNCTION_NOT_FOUND if it has none.

        Args:
            name: The exported symbol.
            *argtypes: ctypes types of the arguments.
        """
        try:
            # by item: a function object of our own, so that its argtypes do not touch the binding's
            function = self._binding.nvmlLib[name]
        except (AttributeError, TypeError):
            return lambda *_: ids.FUNCTION_NOT_FOUND
        function.argtypes = argtypes
        function.restype = ctypes.c_int
        call: Call = function
        return call

    def close(self) -> None:
        """Give up our reference to the library; NVML counts them, so other users in the process live on."""
        self.ask("nvmlShutdown")


def load() -> Nvml:
    """Load and initialise NVML.

    Raises:
        CounterError: There is no usable binding, library or driver; says which and what to do.
    """
    try:
        import pynvml  # noqa: PLC0415 - 45 ms, and only where counters are wanted
    except ImportError as error:
        hint = "pip install nvidia-ml-py"
        raise CounterError(f"NVML: the Python module pynvml cannot be imported ({error})", hint=hint) from error
    if not hasattr(pynvml, "NVMLError") or not hasattr(pynvml, "NVMLLibraryMismatchError"):
        raise CounterError(
            f"NVML: the module pynvml at {getattr(pynvml, '__file__', '?')} is not NVIDIA's binding",
            hint="pip uninstall pynvml; pip install nvidia-ml-py",
        )
    api = Nvml(pynvml)
    code, _ = api.ask("nvmlInit")
    if code != ids.OK:
        raise open_error(code)
    return api


def decode(kind: int, raw: int) -> float:
    """Return the number in a field value.

    Args:
        kind: nvmlValueType_t (0 double, 1 uint, 2 ulong, 3 ulonglong, 4 longlong, 5 int, 6 ushort).
        raw: The union's 8 bytes as an unsigned number.

    Returns:
        The value, an int for integer types (counters of ns outgrow a float's exactness); NaN for
        NVML's 'not available' or an unknown type.
    """
    if kind in (2, 3):
        return math.nan if raw == _BLANK_ULONGLONG else raw
    if kind == 1:
        low = raw & _BLANK_UINT
        return math.nan if low == _BLANK_UINT else low
    if kind == 0:
        return float(struct.unpack("=d", raw.to_bytes(8, "little"))[0])
    if kind == 4:
        return raw - (1 << 64) if raw >> 63 else raw
    if kind == 5:
        low = raw & _BLANK_UINT
        return low - (1 << 32) if low >> 31 else low
    return raw & 0xFFFF if kind == 6 else math.nan


class FieldBatch:
    """Field values of one GPU, read by one call into one reused buffer.

    Args:
        api: The library.
        handle: The GPU.
        entries: (field id, scope id) pairs in the order of the answers.
    """

    def __init__(self, api: Nvml, handle: int, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._handle = handle
        self._call = api.raw("nvmlDeviceGetFieldValues", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._asked = list(self.entries)
        self._dropped: dict[Entry, int] = {}
        self._allocate()

    def _allocate(self) -> None:
        # An entry that the driver leaves untouched must not look like an answer: the template says error.
        rows = (_FIELD.pack(field, scope, 0, 0, 3, ids.UNKNOWN, 0) for field, scope in self._asked)
        self._template = b"".join(rows)
        self._buffer = ctypes.create_string_buffer(self._template, max(1, len(self._template)))

    def read(self) -> tuple[int, dict[Entry, Answer]]:
        """Read all entries now.

        Entries that are refused for good are not asked again; their code is repeated from memory.

        Returns:
            The call's return code; and per entry its own return code (OK, or NO_VALUE for a blank)
            and value in NVML's unit (NaN unless OK). If the call fails, every entry has its code.
        """
        answers = {entry: (code, math.nan) for entry, code in self._dropped.items()}
        if not self._asked:
            return ids.OK, answers
        ctypes.memmove(self._buffer, self._template, len(self._template))
        code = self._call(self._handle, len(self._asked), self._buffer)
        if code != ids.OK:
            answers.update((entry, (code, math.nan)) for entry in self._asked)
            if ids.code_of(code).permanent:
                self._drop(dict.fromkeys(self._asked, code))
            return code, answers
        gone: dict[Entry, int] = {}
        rows = _FIELD.iter_unpack(memoryview(self._buffer)[: len(self._template)])
        for entry, (_, _, _, _, kind, status, raw) in zip(self._asked, rows, strict=True):
            value = decode(kind, raw) if status == ids.OK else math.nan
            answers[entry] = (ids.NO_VALUE if status == ids.OK and value != value else status, value)  # noqa: PLR0124
            if status == ids.INVALID_ARGUMENT or ids.code_of(status).permanent:
                gone[entry] = status
        if gone:
            self._drop(gone)
        return ids.OK, answers

    def _drop(self, gone: dict[Entry, int]) -> None:
        self._dropped.update(gone)
        self._asked = [entry for entry in self._asked if entry not in gone]
        self._allocate()


class Query:
    """One call for one GPU with a reused output, not repeated once it was refused for good.

    Args:
        call: The library's function.
        out: The output, passed last by reference.
        *args: The arguments before it.
    """

    def __init__(self, call: Call, out: Any, *args: int) -> None:  # noqa: ANN401 - ctypes types
        self.out = out
        self._call = call
        self._args = (*args, ctypes.byref(out))
        self._refused = ids.OK

    def ask(self) -> int:
        """Call now; return NVML's return code. ``out`` is valid only if it is OK."""
        if self._refused != ids.OK:
            return self._refused
        code = self._call(*self._args)
        if code != ids.OK and ids.code_of(code).permanent:
            self._refused = code
        return code

    def number(self) -> Answer:
        """Call now; return the code and the number in ``out``, NaN unless the code is OK."""
        code = self.ask()
        return (code, self.out.value) if code == ids.OK else (code, math.nan)
