"""A stand-in for torch: a GPU on which every operation takes one millisecond and nothing is computed."""

import time
from types import SimpleNamespace

__version__ = "0.0+fake"
OPERATION_NS = 1_000_000
_free_ns = 0


def _work(*_: object, **__: object) -> "Tensor":
    global _free_ns  # noqa: PLW0603 - one GPU
    _free_ns = max(_free_ns, time.monotonic_ns()) + OPERATION_NS
    return Tensor()


def _make(*_: object, **__: object) -> "Tensor":
    return Tensor()


class Tensor:
    """Has the methods that the loads use."""

    add_ = copy_ = zero_ = _work
    normal_ = to = t = _make

    def data_ptr(self) -> int:
        return 4096

    def tolist(self) -> list[int]:
        return list(range(16))


class Event:
    def __init__(self, *, enable_timing: bool, blocking: bool) -> None:
        self.at_ns = 0

    def record(self) -> None:
        self.at_ns = max(time.monotonic_ns(), _free_ns)

    def synchronize(self) -> None:
        time.sleep(max(0, self.at_ns - time.monotonic_ns()) / 1e9)

    def elapsed_time(self, other: "Event") -> float:
        return (other.at_ns - self.at_ns) / 1e6


class Stream:
    cuda_stream = 0

    def wait_stream(self, other: "Stream") -> None:
        pass


class _Context:
    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class CUDAGraph:
    replay = _work


def _synchronize() -> None:
    time.sleep(max(0, _free_ns - time.monotonic_ns()) / 1e9)


mm = neg = sum = _scaled_mm = _work  # noqa: A001 - torch's name
zeros = randn = empty = ones = full = _make
bfloat16 = float16 = float32 = float64 = int32 = float8_e4m3fn = None
set_float32_matmul_precision = print
version = SimpleNamespace(cuda="0.0")
cuda = SimpleNamespace(
    Event=Event,
    Stream=Stream,
    CUDAGraph=CUDAGraph,
    graph=_Context,
    stream=_Context,
    current_stream=Stream,
    synchronize=_synchronize,
    is_available=lambda: True,
    set_device=lambda index: None,
    device_count=lambda: 1,
    get_device_name=lambda index: "fake",
    get_device_capability=lambda index=0: (9, 0),
    get_device_properties=lambda index: SimpleNamespace(multi_processor_count=132, total_memory=1, uuid="fake"),
    mem_get_info=lambda: (1 << 33, 1 << 33),
)
