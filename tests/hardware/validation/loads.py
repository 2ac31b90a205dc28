"""The loads of V0, V1, V4, V5, V8 and V9: each runs on the first visible GPU and counts what it did."""

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

from tests.hardware.validation.driver import DriverError, Kernel
from tests.hardware.validation.ptx import SPIN_PTX, flop_per_round, fma_ptx
from tests.hardware.validation.steady import Timing, Window, run_steady

Truth = dict[str, float | str]
DEVICE = "cuda"
BUFFER_FLOATS = 1 << 28
"""1 GiB: 32-bit indexing in torch's kernels."""
BUFFERS = 8
"""Used in turn, so that the L2 cache (up to 60 MB) holds less than 1 % of what is read next."""
FMA_BLOCKS_PER_SM, FMA_THREADS, FMA_ROUNDS = 8, 128, 16_000
SPIN_NS = 5_000_000
TINY_ELEMENTS = 4096
GRAPH_KERNELS = 1000


class SkippedError(Exception):
    """This load cannot run here, for a reason that is nobody's fault."""


def gemm_step(torch: Any, dtype: str, n: int, *, zeros: bool = False) -> Callable[[], None]:
    """Return a step of one product of n x n matrices: 2 n^3 FLOP.

    Args:
        torch: The torch module.
        dtype: bf16, fp16, tf32 or fp8.
        n: Rows and columns.
        zeros: Zeros instead of normally distributed data.
    """
    if dtype == "fp8":
        return _fp8_step(torch, n)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}[dtype]
    torch.set_float32_matmul_precision("high")  # TF32 for float32; the others do not look at it
    make = torch.zeros if zeros else torch.randn
    a, b = (make(n, n, device=DEVICE, dtype=kind) for _ in range(2))
    out = torch.empty(n, n, device=DEVICE, dtype=kind)

    def step() -> None:
        torch.mm(a, b, out=out)

    return step


def _fp8_step(torch: Any, n: int) -> Callable[[], None]:
    if not hasattr(torch, "_scaled_mm") or torch.cuda.get_device_capability() < (8, 9):
        raise SkippedError("no FP8 matrix product in this torch or on this GPU")
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=DEVICE)

    def step() -> None:
        torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)

    return step


def run_gemm(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    """Run V0 (``random``, ``zeros``) or V1 (``DTYPE-N``)."""
    dtype, _, size = ("bf16-8192" if variant in ("random", "zeros") else variant).partition("-")
    n = int(size)
    window = run_steady(torch.cuda, gemm_step(torch, dtype, n, zeros=variant == "zeros"), timing)
    return window, {"dtype": dtype, "n": n, **window.truth(flop=2.0 * n**3)}


def run_dram(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    """Run V5: bytes that must cross the memory interface, both directions added."""
    free_bytes = torch.cuda.mem_get_info()[0]
    floats = min(BUFFER_FLOATS, free_bytes // 2 // BUFFERS // 4)
    buffers = [torch.empty(floats, device=DEVICE).normal_() for _ in range(BUFFERS)]
    pairs = itertools.cycle(zip(buffers, buffers[BUFFERS // 2 :] + buffers[: BUFFERS // 2], strict=True))
    out = torch.zeros((), device=DEVICE)

    def copy() -> None:
        source, target = next(pairs)
        torch.neg(source, out=target)

    def memcpy() -> None:
        source, target = next(pairs)
        target.copy_(source)

    def memset() -> None:
        next(pairs)[0].zero_()

    def read() -> None:
        torch.sum(next(pairs)[0], dim=0, out=out)

    step, passes = {"copy": (copy, 2), "d2d": (memcpy, 2), "memset": (memset, 1), "sum": (read, 1)}[variant]
    window = run_steady(torch.cuda, step, timing)
    amount = 4.0 * floats * passes
    return window, {"buffer_bytes": 4.0 * floats, "bytes_per_step": amount, **window.truth(bytes=amount)}


def run_fma(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    """Run V4: chains of multiply-adds in the registers of every SM."""
    kernel = _kernel(torch, fma_ptx(variant), "fma")
    grid = torch.cuda.get_device_properties(0).multi_processor_count * FMA_BLOCKS_PER_SM
    out = torch.empty(grid * FMA_THREADS, device=DEVICE, dtype=torch.float64)
    arguments = (
        ctypes.c_uint64(out.data_ptr()),
        ctypes.c_uint32(FMA_ROUNDS),
        ctypes.c_float(0.999),
        ctypes.c_float(0.001),
    )
    stream = torch.cuda.current_stream().cuda_stream

    def step() -> None:
        kernel.launch(grid, FMA_THREADS, arguments, stream)

    window = run_steady(torch.cuda, step, timing)
    flop = float(grid * FMA_THREADS * FMA_ROUNDS * flop_per_round(variant))
    return window, {"dtype": variant, **window.truth(flop=flop)}


def run_spin(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    """Run V9: one warp on each of n SMs that only waits."""
    kernel = _kernel(torch, SPIN_PTX, "spin")
    sms = torch.cuda.get_device_properties(0).multi_processor_count
    grid = min(int(variant), sms)
    where = torch.full((grid,), -1, device=DEVICE, dtype=torch.int32)
    arguments = (ctypes.c_uint64(where.data_ptr()), ctypes.c_uint64(SPIN_NS))
    stream = torch.cuda.current_stream().cuda_stream

    def step() -> None:
        kernel.launch(grid, 32, arguments, stream)

    window = run_steady(torch.cuda, step, timing)
    used = len(set(where.tolist()))
    return window, {"blocks": grid, "sms_used": used, "sm_frac": used / sms, **window.truth()}


def _kernel(torch: Any, ptx: str, name: str) -> Kernel:
    torch.zeros(1, device=DEVICE)  # makes the context in which the module is loaded
    try:
        return Kernel(ptx, name)
    except DriverError as error:
        raise SkippedError(f"our own kernel could not be loaded: {error}") from error


def run_tiny(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    """Run V8: kernels of a few us, launched one by one or as a CUDA Graph."""
    x = torch.zeros(TINY_ELEMENTS, device=DEVICE)

    def step() -> None:
        x.add_(1.0)

    graph = _graph(torch, step)
    if variant == "graph":
        window = run_steady(torch.cuda, graph.replay, timing)
        return window, {"kernel_gap_us": 1e6 * window.gpu_s / window.steps / GRAPH_KERNELS} | window.truth(
            kernel=GRAPH_KERNELS
        )
    back_to_back = run_steady(torch.cuda, graph.replay, Timing(warm_s=0.5, seconds=0.5, tail_s=0.0))
    kernel_s = back_to_back.gpu_s / back_to_back.steps / GRAPH_KERNELS
    window = run_steady(torch.cuda, step, timing)
    truth = window.truth(kernel=1.0)
    busy = window.steps * kernel_s / window.gpu_s
    return window, {"kernel_s_in_graph": kernel_s, "busy_frac_about": min(1.0, busy)} | truth


def _graph(torch: Any, step: Callable[[], None]) -> Any:
    """Capture GRAPH_KERNELS steps; a side stream runs one first, as capturing wants it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_KERNELS):
            step()
    return graph
