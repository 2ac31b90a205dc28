"""The command: checks that a GPU is there, runs the loads one by one, writes what was found."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel
from satscore.record.files import make_run_directory
from satscore.run.models import load_library
from tests.hardware.validation.analysis import Peaks, measure, peaks_of
from tests.hardware.validation.checks import checks_of, verdict_of
from tests.hardware.validation.environment import describe, find_gpu, first_visible, script
from tests.hardware.validation.plan import PLAN, TAIL_S, Workload, select
from tests.hardware.validation.results import FILE, GOOD, SCHEMA_VERSION, Item, Results, text
from tests.hardware.validation.sampling import PERIOD_S, Sampled, child_command, run_child, sample_load

EXIT_PASSED, EXIT_FAILED, EXIT_USAGE, EXIT_NO_GPU, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
SOURCE = "gpm"
BUDGET_S = 580.0
PROBE_TIMEOUT_S = 180.0
LOAD_MARGIN_S = 90.0
"""Longest time that a child may need beside its load: a cold file system, a first compilation."""

EPILOG = f"""\
cases: {", ".join(dict.fromkeys(w.case for w in PLAN))} (a workload may be named in full, as V1:fp8-8192)
exit status: 0 every load that ran passed; 1 a load failed, was inconclusive or gave an error; 2 usage;
3 no torch, no GPU or no pipe counters: nothing was written; 130 interrupted.
Clocks, power limits and modes are never changed."""


class Run:
    """One measurement of all selected loads.

    Args:
        args: The command line.
        workloads: What to run.
        gpu: The GPU under test.
        directory: Where everything is written.
        results: What is filled.
    """

    def __init__(
        self, args: argparse.Namespace, workloads: Sequence[Workload], gpu: GpuInfo, directory: Path, results: Results
    ) -> None:
        self._args = args
        self._workloads = workloads
        self._gpu = gpu
        self._models: tuple[HardwareModel, ...] = load_library({}).models
        self._directory = directory
        self._results = results
        self._began_s = time.monotonic()

    def all(self) -> None:
        """Run every load; the file is written anew after each, so that nothing measured is lost."""
        try:
            for position, workload in enumerate(self._workloads, 1):
                item = self._one(workload)
                self._results.items.append(item)
                self._write()
                place = f"[{position}/{len(self._workloads)}]"
                print(f"{place} {workload.name}: {item.status} {item.reason}".rstrip(), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            self._results.interrupted = True
        self._write()

    def _write(self) -> None:
        self._results.elapsed_s = time.monotonic() - self._began_s
        self._results.write(self._directory)

    def _one(self, workload: Workload) -> Item:
        """Run one load; whatever goes wrong with it is its own result."""
        item = Item(name=workload.name, what=workload.what, status="error")
        left_s = self._args.budget - (time.monotonic() - self._began_s)
        if not self._args.dry_run and workload.estimate_s(quick=self._args.quick) > left_s:
            item.status, item.reason = "skipped", f"no time left of --budget {self._args.budget:g} s"
            return item
        try:
            self._measure(workload, item)
        except Exception as error:  # noqa: BLE001 - a failing case is reported, the others go on
            item.status, item.reason = "error", f"{type(error).__name__}: {error}"
        return item

    def _measure(self, workload: Workload, item: Item) -> None:
        seconds = workload.length_s(quick=self._args.quick)
        timing = (workload.warm_s, seconds, TAIL_S)
        speed = self._args.speed if self._args.dry_run else None
        source = f"sim:{workload.simulated or 'gemm'},speed={speed:g}" if speed else SOURCE
        name = workload.name.replace(":", "-")
        path = self._directory / f"readings-{name}.arrows"
        command = child_command(script(), workload.name, timing, speed)
        sampled = sample_load(source, self._gpu.uuid, command, path, timeout_s=sum(timing) + LOAD_MARGIN_S)
        item.truth, item.notes, item.late_reads_count = sampled.line.truth, sampled.notes, sampled.late_reads_count
        item.recording = path.name if path.exists() else None
        if sampled.error is not None:
            item.status, item.reason, item.stderr = "error", sampled.error, sampled.stderr
        elif sampled.line.skipped is not None:
            item.status, item.reason = "skipped", sampled.line.skipped
        else:
            self._judge(item, sampled)

    def _judge(self, item: Item, sampled: Sampled) -> None:
        if sampled.table is None or sampled.window is None or sampled.header is None:
            item.reason = "the load stated no measured part"
            return
        item.window_s = (sampled.window[1] - sampled.window[0]) / 1e9
        offset = sampled.header.grid_offset_ns
        measured = measure(sampled.table, self._gpu, self._models, window=sampled.window, grid_offset_ns=offset)
        item.measured = measured
        item.checks = checks_of(item.name, item.truth, measured, self._results.peaks)
        item.status = verdict_of(item.checks)
        if self._results.peaks is None:
            item.reason = "no hardware model for this GPU: rates cannot be compared"


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[Workload]]:
    """Return the options and the loads; a wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="validate.py",
        description="Hold the counters and scores of satscore against counted work on a real GPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to create for the results")
    parser.add_argument("--quick", action="store_true", help="the most telling loads, shorter: about 4 minutes")
    parser.add_argument("--cases", default="", metavar="LIST", help="only these, separated by commas: V0,V5")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="S", help="start no load after (580 s)")
    parser.add_argument("--dry-run", action="store_true", help="simulated GPU, no torch: tries the program itself")
    parser.add_argument("--speed", type=float, default=20.0, metavar="X", help="dry run: simulated seconds per second")
    args = parser.parse_args(argv)
    wanted = [name.strip() for name in args.cases.split(",") if name.strip()]
    if args.budget <= 0 or not 0 < args.speed <= 1000:
        parser.error("--budget must be above 0, --speed above 0 and at most 1000")
    try:
        return args, select(wanted, quick=args.quick)
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str]) -> int:
    """Run the validation and return the exit status."""
    args, workloads = parse(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    gpu, torch, idle, problem = _find(args)
    if gpu is None:
        print(f"validate.py: {problem}; nothing was written", file=sys.stderr)
        return EXIT_NO_GPU
    peaks, reason = peaks_of(load_library({}).models, gpu)
    try:
        directory = make_run_directory(args.out, FILE)
        results = _results(args, gpu, torch, idle, (peaks, reason))
        Run(args, workloads, gpu, directory, results).all()
    except OSError as error:
        print(f"validate.py: cannot write {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    print(text(results))
    print(f"results: {directory / FILE}")
    if results.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_PASSED if all(item.status in GOOD for item in results.items) else EXIT_FAILED


def _interrupt(number: int, frame: object) -> None:
    """End at SIGTERM as at Ctrl-C: the running load is stopped and what was measured is written."""
    del number, frame
    raise KeyboardInterrupt


def _find(
    args: argparse.Namespace,
) -> tuple[GpuInfo | None, dict[str, float | str], dict[str, float | None], str]:
    """Return the GPU, what torch says, the idle readings, and why there is no GPU."""
    if args.dry_run:
        gpu, idle, problem = find_gpu(f"sim:gemm,speed={args.speed:g}", first_visible)
        return gpu, {}, idle, problem
    line, _ = run_child([sys.executable, str(script()), "--workload", "probe"], timeout_s=PROBE_TIMEOUT_S)
    if line.error is not None:
        return None, {}, {}, f"no GPU that torch can use: {line.error} (with {sys.executable})"
    gpu, idle, problem = find_gpu(SOURCE, first_visible)
    return gpu, line.truth, idle, f"no pipe counters: {problem}"


def _results(
    args: argparse.Namespace,
    gpu: GpuInfo,
    torch: dict[str, float | str],
    idle: dict[str, float | None],
    model: tuple[Peaks | None, str],
) -> Results:
    return Results(
        schema_version=SCHEMA_VERSION,
        data_kind="simulated" if args.dry_run else "measured",
        quick=args.quick,
        source="sim" if args.dry_run else SOURCE,
        period_s=PERIOD_S,
        environment=describe(gpu, torch, idle),
        peaks=model[0],
        model_reason=model[1],
    )
