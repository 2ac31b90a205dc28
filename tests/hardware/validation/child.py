"""One load in a process of its own: runs it and prints one line of JSON with its counted truth."""

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.hardware.validation.duty import run_duty
from tests.hardware.validation.loads import (
    SkippedError,
    gemm_step,
    run_dram,
    run_fma,
    run_gemm,
    run_spin,
    run_tiny,
)
from tests.hardware.validation.pretend import run_pretended
from tests.hardware.validation.steady import Timing, Window, run_steady
from tests.hardware.validation.training import Shape, training_step

PROBE = "probe"
DUTY_N = 4096
Truth = dict[str, float | str]


def main(argv: Sequence[str]) -> int:
    """Run one workload; return 0, or 1 with the error in the line of JSON."""
    parser = argparse.ArgumentParser(description="run one load and print its counted truth as one line of JSON")
    parser.add_argument("--workload", required=True, help="a workload of the plan, or 'probe'")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the measured part")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds before it")
    parser.add_argument("--tail", type=float, default=0.6, help="seconds after it")
    parser.add_argument("--pretend", type=float, help="no GPU: sleep, at so many simulated seconds per second")
    args = parser.parse_args(argv)
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr: stdout holds one line
    timing = Timing(warm_s=args.warm, seconds=args.seconds, tail_s=args.tail)
    answer, code = _answer(args.workload, timing, args.pretend)
    with line:
        line.write(json.dumps({"workload": args.workload, **answer}) + "\n")
    return code


def _answer(name: str, timing: Timing, speed: float | None) -> tuple[dict[str, Any], int]:
    try:
        if name == PROBE:
            return {"truth": probe()}, 0
        window, truth = run_pretended(name, timing, speed) if speed else run_on_gpu(name, timing)
    except SkippedError as reason:
        return {"skipped": str(reason)}, 0
    except Exception as error:  # noqa: BLE001 - every failure of a load is reported in the same way
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:500]}, 1
    return {"start_ns": window.start_ns, "end_ns": window.end_ns, "truth": truth}, 0


def load_torch() -> Any:
    """Return torch with the first visible GPU.

    Raises:
        RuntimeError: torch sees no GPU.
        ImportError: There is no torch.
    """
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no CUDA device")
    torch.cuda.set_device(0)
    return torch


def probe() -> Truth:
    """Return what torch is and which GPU it sees first."""
    torch = load_torch()
    properties = torch.cuda.get_device_properties(0)
    major, minor = torch.cuda.get_device_capability(0)
    torch.zeros(1, device="cuda")
    return {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "gpu_name": torch.cuda.get_device_name(0),
        "gpu_uuid": str(getattr(properties, "uuid", "")),
        "gpu_count": torch.cuda.device_count(),
        "compute_capability": f"{major}.{minor}",
        "sm_count": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
    }


def run_on_gpu(name: str, timing: Timing) -> tuple[Window, Truth]:
    """Run a workload of the plan.

    Raises:
        SkippedError: It cannot run here.
        ValueError: There is none of that name.
    """
    case, _, variant = name.partition(":")
    runners: dict[str, Callable[[Any, str, Timing], tuple[Window, Truth]]] = {
        "V0": run_gemm,
        "V1": run_gemm,
        "V4": run_fma,
        "V5": run_dram,
        "V7": _run_duty,
        "V8": run_tiny,
        "V9": run_spin,
        "TRAIN": _run_training,
    }
    if case not in runners:
        raise ValueError(f"no workload {name!r}")
    return runners[case](load_torch(), variant, timing)


def _run_duty(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    percent, period = variant.removesuffix("ms").split("-")
    step = gemm_step(torch, "bf16", DUTY_N)
    window, truth = run_duty(torch.cuda, step, duty_frac=int(percent) / 100, period_s=int(period) / 1000, timing=timing)
    return window, {"dtype": "bf16", "n": DUTY_N} | window.truth(flop=2.0 * DUTY_N**3) | truth


def _run_training(torch: Any, variant: str, timing: Timing) -> tuple[Window, Truth]:
    del variant
    shape = Shape()
    window = run_steady(torch.cuda, training_step(torch, shape), timing)
    rates = window.truth(flop=shape.flop_6n(), attention_flop=shape.flop_attention(), tokens=float(shape.tokens))
    return window, {"dtype": "bf16", "matmul_parameters": shape.matmul_parameters} | rates


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
