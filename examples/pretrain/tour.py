"""Run the training under satscore: as it should be, then with each mistake. Is each one found?

    python tour.py                         # on GPUs: real counters, minutes each; else: simulated, 20 s each
    python tour.py --cases base,fp32 --out tour-h200

On GPUs this holds satscore's findings against mistakes that are known to be there. Without a GPU the
training is real and the counters are those of a simulated scenario: that shows the output, no more.

Exit status: 0 if every case has its expected finding on top, 1 if one has not, 2 on wrong usage.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
MINUTES_SIMULATED = 0.25
MINUTES_GPU = 2.5
"""Loading torch and warming up are then a small part, and 120 windows make a whole run of it."""
START_LIMIT_S = 300.0
NOTHING = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to train, and what satscore should say of it."""

    name: str
    flags: tuple[str, ...] = ()
    scenario: str
    """Simulated in its place where there is no GPU."""
    expected: tuple[str, ...]
    """Findings of which one must be on top."""
    processes: int = 1


CASES = (
    Case(name="base", scenario="llm", expected=("MEMORY_MIX", "MEMORY_BOUND", "POWER_CAPPED", NOTHING)),
    Case(name="slow-loader", flags=("--slow-loader", "900"), scenario="llm-stall", expected=("HOST_STALL",)),
    Case(name="fp32", flags=("--fp32",), scenario="fp32", expected=("TENSOR_UNUSED",)),
    Case(name="tiny-batch", flags=("--tiny-batch",), scenario="launch-bound", expected=("HOST_GAPS",)),
    Case(name="sync-logging", flags=("--sync-logging",), scenario="duty-50", expected=("HOST_GAPS", "HOST_STALL")),
    Case(
        name="no-overlap",
        flags=("--no-overlap",),
        scenario="llm-comm,gpus=2",
        expected=("COMM_EXPOSED", "COMM_WAIT"),
        processes=2,
    ),
)


def gpus_for(count: int) -> str:
    """Return CUDA_VISIBLE_DEVICES with the first GPUs: satscore must not score those that stay idle."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(k) for k in range(torch.cuda.device_count())]
    return ",".join(names[:count])


def command_of(case: Case, minutes: float, folder: Path, *, on_gpu: bool) -> list[str]:
    """Return satscore, its options, and the training."""
    source = "auto" if on_gpu else f"sim:{case.scenario}"
    files = ("--out", str(folder / case.name), "--json", str(folder / f"{case.name}.json"))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)]
    training = [*(launcher if case.processes > 1 else ()), str(HERE / "train.py"), *case.flags]
    watcher = [sys.executable, "-m", "satscore", "--source", source, "--label", case.name, *files, "--"]
    return [*watcher, sys.executable, *training, "--minutes", str(minutes)]


def run_case(case: Case, minutes: float, folder: Path, *, on_gpu: bool) -> tuple[str, bool]:
    """Run one case; its output goes to files.

    Returns:
        Its line, and whether it is as expected (True where it cannot run on this machine).
    """
    if on_gpu and torch.cuda.device_count() < case.processes:
        return f"{case.name:13} skipped: needs {case.processes} GPUs", True
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus_for(case.processes)} if on_gpu else {})
    log = folder / f"{case.name}.log"
    command = command_of(case, minutes, folder, on_gpu=on_gpu)
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            status = process.wait(60 * minutes + START_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # satscore passes it on: a kill would leave the training running
            status = process.wait()
    summary = folder / f"{case.name}.json"
    if status or not summary.exists():
        lines = log.read_text(errors="replace").splitlines()
        return f"{case.name:13} no result, status {status}: {lines[-1] if lines else 'no output'}", False
    return judge(case, json.loads(summary.read_text()))


def judge(case: Case, summary: dict[str, Any]) -> tuple[str, bool]:
    """Return a case's line, and whether the expected finding is on top."""
    headline, findings = summary["headline"], summary["findings"]
    top, points = (findings[0]["id"], findings[0]["points_pct"]) if findings else (NOTHING, 0.0)
    if headline["score_pct"] is None:
        return f"{case.name:13} no score: {headline['reason']}", False
    tied = findings[0].get("tied_with", []) if findings else []  # which of them is the larger one cannot be told
    good = any(found in case.expected for found in (top, *tied))
    expected = " or ".join(case.expected)
    verdict = "ok" if good else "NOT OK"
    return f"{case.name:13} {headline['score_pct']:5.1f}  {top:14} {points:5.1f}  {verdict:7} {expected}", good


def parse_options(*, on_gpu: bool) -> argparse.Namespace:
    """Return the options, with the chosen cases in ``cases``."""
    parser = argparse.ArgumentParser(description="Is each mistake found?")
    names = [case.name for case in CASES]
    minutes = MINUTES_GPU if on_gpu else MINUTES_SIMULATED
    parser.add_argument("--cases", default=",".join(names), help="some of: %(default)s")
    parser.add_argument("--minutes", type=float, default=minutes, help="of each case; default here: %(default)s")
    parser.add_argument("--out", type=Path, help="keep recordings, summaries and logs in this new folder")
    options = parser.parse_args()
    chosen = options.cases.split(",")
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"no case {unknown[0]!r}: there are {', '.join(names)}")
    options.cases = [case for case in CASES if case.name in chosen]
    return options


def main() -> int:
    """Run the cases in order and return the exit status."""
    on_gpu = torch.cuda.is_available()
    options = parse_options(on_gpu=on_gpu)
    counters = f"counters of {torch.cuda.get_device_name()}" if on_gpu else "SIMULATED counters: no GPU here"
    print(f"{counters}, {options.minutes:g} min each\n{'case':13} score  {'top finding':14}   pts          expected")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=folder == Path(temporary))
        all_good = True
        for case in options.cases:
            line, good = run_case(case, options.minutes, folder, on_gpu=on_gpu)
            print(line, flush=True)
            all_good = all_good and good
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
