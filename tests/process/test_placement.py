"""Whose GPUs are scored: whole runs beside real processes that the fake driver lists as computing."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from satscore.core.placement import Placement
from satscore.record.run_file import RunFile, rank_file_name
from tests.fakes.build import FakeNvml, compiler, fake_nvml
from tests.process.harness import (
    CHILDREN,
    PROGRAM,
    ROOT,
    TIMEOUT_S,
    children_of,
    environment,
    finish,
    running,
    wait_for,
)

__all__ = ["fake_nvml"]

INITIAL = str(Path("/proc/self/ns/pid").readlink()) == "pid:[4026531836]"
comparable = pytest.mark.skipif(not INITIAL, reason="in a PID namespace of its own, ids prove nothing (a container)")
SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text())
LIST = "nvmlDeviceGetComputeRunningProcesses_v3"


class Node:
    """Four fake GPUs; GPU k computes for the ids in its file.

    Args:
        fake: The driver library.
        folder: For its files, logs and runs.
        extra: More lines of its script.
    """

    def __init__(self, fake: FakeNvml, folder: Path, extra: str = "") -> None:
        self.folder = folder
        files = "\n".join(f"process {gpu} from {self.pids(gpu)}" for gpu in range(4))
        fakes = fake.environment("gh200", extra=f"{files}\n{extra}")
        self._wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}

    def pids(self, gpu: int) -> Path:
        """The file of the processes on a GPU."""
        return self.folder / f"pids-{gpu}"

    def log(self, name: str) -> Path:
        """The driver calls of one run."""
        return self.folder / f"{name}.calls"

    def command(self, name: str, *words: str) -> list[str]:
        """The words that run a command as a recorded run of this name."""
        return [*PROGRAM, "--out", str(self.folder / name), "--", *words]

    def environ(self, name: str, **added: str) -> dict[str, str]:
        """The environment of that run."""
        return environment(FAKE_NVML_LOG=str(self.log(name)), **self._wanted, **added)

    def summary(self, name: str) -> Any:
        """The summary of a run that has ended."""
        summary = json.loads((self.folder / name / "summary.json").read_text())
        jsonschema.validate(summary, SCHEMA)
        return summary

    def report(self, name: str) -> tuple[str, Any]:
        """Text and summary as ``satscore report`` makes them again."""
        target = self.folder / f"{name}.again.json"
        done = finish([*PROGRAM, "report", str(self.folder / name), "--json", str(target)], env=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip(), json.loads(target.read_text())


@pytest.fixture
def node(fake_nvml: FakeNvml, tmp_path: Path) -> Node:
    return Node(fake_nvml, tmp_path)


def idle(*gpus: int) -> str:
    """Lines of the driver's script: these GPUs have no work."""
    return "\n".join(f"series {gpu} gpm.1 0 0" for gpu in gpus)


def used(summary: Any) -> list[tuple[int, str]]:
    return [(gpu["nvml_index"], gpu["use"]) for rank in summary["ranks"] for gpu in rank["gpus"]]


def computing_on(node: Node, gpu: int, *runs: str) -> list[str]:
    """A command whose grandchild computes on a GPU until all runs, as many as compute there, have looked."""
    words = ["sh", str(CHILDREN / "looked.sh"), str(node.pids(gpu)), str(len(runs)), *(str(node.log(r)) for r in runs)]
    return ["sh", "-c", f"({shlex.join(words)}); true"]


@comparable
def test_the_gpus_that_the_command_computes_on_are_scored(fake_nvml, tmp_path):
    node = Node(fake_nvml, tmp_path, idle(0, 1, 3))
    done = finish(node.command("run", *computing_on(node, 2, "run")), env=node.environ("run"))
    assert done.returncode == 0
    summary = node.summary("run")
    assert used(summary) == [(2, "process")]
    unused = summary["ranks"][0]["gpus_unused"]
    assert [(gpu["nvml_index"], gpu["known_by"]) for gpu in unused] == [(i, "process") for i in (0, 1, 3)]
    assert summary["job"]["gpus_count"] == 1
    assert "GPU_SHARED" not in {item["id"] for item in summary["findings"] + summary["not_judged"]}
    text = done.stderr.decode().strip()
    assert "GPU 0, 1, 3 are visible but not used by the command: not scored" in text
    assert node.report("run") == (text, summary)


@comparable
def test_a_gpu_that_worked_where_nobody_was_seen_is_scored_and_said(fake_nvml, tmp_path):
    """As of a process that came after the last look, or that a daemon started and the driver hides."""
    node = Node(fake_nvml, tmp_path, idle(0, 1))
    done = finish(node.command("run", *computing_on(node, 2, "run")), env=node.environ("run"))
    summary = node.summary("run")
    assert used(summary) == [(2, "process"), (3, "visible")]
    assert "GPU 3 worked, but no process of the command was seen there: it is scored" in summary["notes"]
    assert [gpu["engine_active_frac"] for gpu in summary["ranks"][0]["gpus_unused"]] == [0, 0]
    assert node.report("run") == (done.stderr.decode().strip(), summary)


@comparable
def test_two_runs_on_one_gpu_see_each_other(fake_nvml, tmp_path):
    node = Node(fake_nvml, tmp_path, idle(0, 2, 3))
    both = ("one", "other")
    with contextlib.ExitStack() as stack:
        command = computing_on(node, 1, *both)
        processes = [
            stack.enter_context(running(node.command(name, *command), env=node.environ(name))) for name in both
        ]
        # Two looks of each: with pauses of up to 10 s between them that can take longer than usual.
        texts = [process.communicate(timeout=3 * TIMEOUT_S)[1].decode() for process in processes]
    for name, text in zip(both, texts, strict=True):
        summary = node.summary(name)
        assert used(summary) == [(1, "process")]
        (finding,) = [item for item in summary["findings"] if item["id"] == "GPU_SHARED"]
        assert finding["severity"] == "info"
        assert finding["evidence"][0]["value"] == 1
        assert summary["job"]["score"]["grade"] == "C"
        assert "GPU 1: processes of others compute there too" in text


@comparable
def test_a_killed_run_reports_the_same(fake_nvml, tmp_path):
    node = Node(fake_nvml, tmp_path, idle(0, 1, 2))
    forever = ["sh", "-c", f"echo $$ > {node.pids(3)}; exec sleep 600"]
    with running(node.command("run", *forever), env=node.environ("run")) as wrapper:
        file = node.folder / "run" / "run.json"

        def known() -> list[str]:
            text = file.read_text() if file.exists() else ""  # empty: the name is taken, nothing is written yet
            placement = json.loads(text)["placement"] if text else None
            return [gpu["uuid"] for gpu in placement["gpus"] if gpu["computes"]] if placement else []

        wait_for(known, "the knowledge in run.json")
        report = [*PROGRAM, "report", str(file.parent)]
        wait_for(lambda: finish(report, env=environment()).returncode == 0, "the first readings on the disk")
        wrapper.kill()
        wrapper.wait(TIMEOUT_S)
        os.kill(int(node.pids(3).read_text()), signal.SIGKILL)  # no child of ours any more
    text, summary = node.report("run")
    assert used(summary) == [(3, "process")]
    assert "GPU 0, 1, 2 are visible but not used" in text
    assert not summary["run"]["finished"]


@pytest.mark.parametrize("command", [["sleep", "60"], []], ids=["run", "watch"])
def test_that_the_order_was_assumed_survives_a_kill(fake_nvml, tmp_path, command):
    """Of different GPUs CUDA counts the fastest first; the driver need not list any process."""
    node = Node(fake_nvml, tmp_path, f"set 0 name NVIDIA H100 80GB HBM3\nerror {LIST} 4")
    words = node.command("run", *command) if command else [*PROGRAM, "watch", "--out", str(tmp_path / "run")]
    with running(words, env=node.environ("run", CUDA_VISIBLE_DEVICES="1")) as wrapper:
        report = [*PROGRAM, "report", str(tmp_path / "run")]
        wait_for(lambda: finish(report, env=environment()).returncode == 0, "the first readings on the disk")
        left = children_of(wrapper.pid)
        wrapper.kill()
        wrapper.wait(TIMEOUT_S)
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # no child of ours any more
    _, summary = node.report("run")
    assert used(summary) == [(1, "assumed")]
    assert any("is assumed from" in note for note in summary["notes"])


@comparable
@pytest.mark.slow
def test_a_command_on_a_gpu_that_is_not_read(node):
    """As after CUDA_VISIBLE_DEVICES was set anew below us."""
    environ = node.environ("run", CUDA_VISIBLE_DEVICES="0,1")
    done = finish(node.command("run", *computing_on(node, 3, "run")), env=environ)
    summary = node.summary("run")
    assert summary["headline"]["reason"] == "the command does not use the GPUs that were read (GPU 0, 1)"
    assert used(summary) == []
    assert any("uses GPU 3 (GPU-" in note and "nobody reads" in note for note in summary["notes"])
    assert node.report("run") == (done.stderr.decode().strip(), summary)


@comparable
@pytest.mark.slow
def test_ranks_that_took_each_others_gpu_for_theirs_change_places(node):
    """Two ranks see all GPUs: each is taken to use that of its number, until its process shows on another one."""
    where = {0: 1, 1: 0}
    with contextlib.ExitStack() as stack:
        for rank, gpu in where.items():
            step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NODEID": "0"}
            step |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
            step |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
            script = f"until test -e {node.folder}/go; do sleep 0.1; done; echo $$ > {node.pids(gpu)}; exec sleep 600"
            words = ["sh", "-c", script]
            stack.enter_context(running(node.command("run", *words), env=node.environ(f"run-{rank}", **step)))
        hostname = socket.gethostname()
        files = {rank: node.folder / "run" / rank_file_name(hostname, rank) for rank in where}

        def placements() -> dict[int, Placement]:
            """What the ranks know so far."""
            texts = {rank: path.read_bytes() if path.exists() else b"" for rank, path in files.items()}
            known = {rank: msgspec.json.decode(text, type=RunFile).placement for rank, text in texts.items() if text}
            return {rank: placement for rank, placement in known.items() if placement}

        def numbers(uuids: Sequence[str]) -> list[int]:
            return [int(uuid[-1]) for uuid in uuids]

        wait_for(lambda: len(placements()) == 2, "the ranks to begin")
        assert {rank: numbers(known.local_choice) for rank, known in placements().items()} == {0: [0], 1: [1]}
        (node.folder / "go").touch()

        def settled() -> bool:
            known = placements()
            return all(
                [i for i, gpu in enumerate(known[rank].gpus) if known[rank].use_of(gpu.uuid, worked=True)] == [gpu_at]
                for rank, gpu_at in where.items()
            )

        # A look in up to 10 s, and one more of the rank that found its GPU still held.
        wait_for(settled, "each rank to count the GPU of its process", 3 * TIMEOUT_S)


def test_a_list_that_hangs_hurts_nobody(fake_nvml, tmp_path):
    node = Node(fake_nvml, tmp_path, f"hang {LIST}")
    until_asked = f'until grep -q "{LIST}" "$FAKE_NVML_LOG" 2>/dev/null; do sleep 0.05; done; exit 7'
    done = finish(node.command("run", "sh", "-c", until_asked), env=node.environ("run"))
    assert done.returncode == 7
    summary = node.summary("run")
    assert used(summary) == [(i, "visible") for i in range(4)]
    assert summary["job"]["score"]["coverage_frac"] == 1.0
    assert {item["id"]: item["missing"] for item in summary["not_judged"]}["GPU_SHARED"] == ["process ids on the GPU"]


# --- in a PID namespace of its own, as in a container


def namespace() -> Sequence[str]:
    """The words that run a command in a PID namespace with its own /proc; skips where that is not allowed."""
    tool = shutil.which("unshare")
    for user in ((), ("--user", "--map-root-user")):
        words = (str(tool), *user, "--pid", "--fork", "--mount-proc")
        if tool and finish([*words, "true"]).returncode == 0:
            return words
    pytest.skip("no PID namespace can be made here (unshare --pid --mount-proc)")


def test_where_the_list_has_ids_of_another_namespace_environment_tells(node):
    if compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang): the library cannot be built")
    words = namespace()
    (node.folder / "empty.c").write_text("int nothing;\n")
    library = node.folder / "libcuda.so.1"
    subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-o", library, node.folder / "empty.c"], check=True)
    outer = "".join(f"{os.getpid() + 100_000 * i}\n" for i in (1, 2))
    for gpu in range(4):
        node.pids(gpu).write_text(outer)
    looked = shlex.join(["sh", str(CHILDREN / "looked.sh"), str(node.folder / "mine"), "1", str(node.log("run"))])
    code = f"import ctypes, os; ctypes.CDLL({str(library)!r}); os.system({looked!r})"
    below = f"CUDA_VISIBLE_DEVICES=1 {shlex.join([sys.executable, '-S', '-c', code])}; true"
    done = finish([*words, *node.command("run", "sh", "-c", below)], env=node.environ("run"))
    assert done.returncode == 0, done.stderr
    summary = node.summary("run")
    assert used(summary) == [(1, "environment")]
    assert [gpu["known_by"] for gpu in summary["ranks"][0]["gpus_unused"]] == ["environment"] * 3
    assert {item["id"]: item["missing"] for item in summary["not_judged"]}["GPU_SHARED"] == ["process ids on the GPU"]
    assert summary["ranks"][0]["gpus"][0]["shared_frac"] is None
