"""Launching our own kernels through the CUDA driver, in the context that torch has made."""

import ctypes
from collections.abc import Sequence
from typing import Any

LIBRARY = "libcuda.so.1"
_SUCCESS = 0
_LOG_BYTES = 4096
_JIT_ERROR_LOG_BUFFER = 5
_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6


class DriverError(RuntimeError):
    """The driver refused a call; says which and why."""


class Kernel:
    """One kernel of a PTX module.

    Args:
        ptx: The module's text; the driver compiles it for the GPU of the present context.
        name: The kernel's name in it.
        library: Path of the driver's library.

    Raises:
        DriverError: There is no driver, or it refuses the module.
    """

    def __init__(self, ptx: str, name: str, library: str = LIBRARY) -> None:
        try:
            self._cuda = ctypes.CDLL(library)
        except OSError as error:
            raise DriverError(f"{library}: {error}") from error
        self._declare()
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._load(ptx)
        self._check("cuModuleGetFunction", ctypes.byref(self._function), self._module, name.encode())

    def _declare(self) -> None:
        pointer, uint = ctypes.c_void_p, ctypes.c_uint
        signatures: dict[str, list[Any]] = {
            "cuModuleLoadDataEx": [pointer, ctypes.c_char_p, uint, pointer, pointer],
            "cuModuleGetFunction": [pointer, pointer, ctypes.c_char_p],
            "cuLaunchKernel": [pointer, *[uint] * 7, pointer, pointer, pointer],
            "cuGetErrorString": [ctypes.c_int, pointer],
        }
        for name, arguments in signatures.items():
            function = getattr(self._cuda, name)
            function.argtypes, function.restype = arguments, ctypes.c_int

    def _load(self, ptx: str) -> None:
        """Compile the module; the compiler's own message is part of the error."""
        log = ctypes.create_string_buffer(_LOG_BYTES)
        options = (ctypes.c_int * 2)(_JIT_ERROR_LOG_BUFFER, _JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        code = self._cuda.cuModuleLoadDataEx(ctypes.byref(self._module), ptx.encode(), 2, options, values)
        if code != _SUCCESS:
            detail = log.value.decode(errors="replace").strip()
            raise DriverError(f"cuModuleLoadDataEx: {self._text(code)} {detail}".strip())

    def launch(self, grid: int, block: int, arguments: Sequence[Any], stream: int) -> None:
        """Queue the kernel.

        Args:
            grid: Thread blocks.
            block: Threads per block.
            arguments: ctypes values of exactly the kernel's parameter types; copied by the driver.
            stream: CUDA stream as an address.

        Raises:
            DriverError: The driver refuses the launch.
        """
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
        self._check("cuLaunchKernel", self._function, grid, 1, 1, block, 1, 1, 0, stream, addresses, None)

    def _check(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code != _SUCCESS:
            raise DriverError(f"{name}: {self._text(code)}")

    def _text(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorString(code, ctypes.byref(text))
        return f"error {code} ({(text.value or b'unknown').decode(errors='replace')})"
