"""The Slurm step that this process is a task of, from its environment alone. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from satscore.launch.job_key import allocation, key_of, number, restart_suffix

_FIRST_UNREAL = 0xFFFFFFF0
"""From here on step ids stand for no step of srun: batch script, interactive shell, extern (slurm.h)."""


class Step(NamedTuple):
    """A task's place in its step."""

    job: int
    """As the task's own part of the job has it."""
    number: int
    rank: int
    world: int
    local_rank: int | None
    local_world: int | None
    is_packed: bool
    """Whether a node has several tasks."""
    key: str
    restart: int


def step_of(environ: Mapping[str, str], notes: list[str]) -> Step | None:
    """Return the step; None outside of one: the shell of a batch job has the numbers of a rank and is none.

    Args:
        environ: Our environment.
        notes: Gets what is wrong with it.
    """
    step_text = environ.get("SLURM_STEP_ID", "")
    step = int(step_text) if step_text.isascii() and step_text.isdigit() and len(step_text) <= 10 else None
    around = allocation({name: value for name, value in environ.items() if name.startswith("SLURM_")})
    if step is None or step >= _FIRST_UNREAL or around is None:
        if step_text and (step is None or step < _FIRST_UNREAL):
            notes.append("SLURM_STEP_ID without a job, or no number: Slurm's variables are not used")
        return None
    rank, world = number(environ.get("SLURM_PROCID")), _world(environ)
    if rank is None or world is None or rank >= world:
        notes.append("SLURM_PROCID and SLURM_STEP_NUM_TASKS name no task of a step: Slurm's variables are not used")
        return None
    layout = _layout(environ)
    local_world = _tasks_of_node(layout, number(environ.get("SLURM_NODEID")), world)
    local_rank = number(environ.get("SLURM_LOCALID"))
    if local_rank is not None and (local_rank > rank or (local_world is not None and local_rank >= local_world)):
        notes.append("SLURM_LOCALID and SLURM_STEP_TASKS_PER_NODE contradict each other: neither is used")
        local_rank = local_world = None
    name = around.name.removesuffix(restart_suffix(around.restart))
    return Step(
        job=number(environ.get("SLURM_JOB_ID")) or 0,
        number=step,
        rank=rank,
        world=world,
        local_rank=local_rank,
        local_world=local_world,
        is_packed=max((tasks for tasks, _ in layout), default=1) > 1,
        key=key_of([f"{name}.{step}{restart_suffix(around.restart)}"]),
        restart=around.restart,
    )


def _world(environ: Mapping[str, str]) -> int | None:
    """Return the tasks of the step; of one over the parts of a heterogeneous job those of all."""
    step, whole = number(environ.get("SLURM_STEP_NUM_TASKS")), number(environ.get("SLURM_NTASKS"))
    if step is None or whole is None:
        return whole if step is None else step
    return max(step, whole) if environ.get("SLURM_HET_JOB_ID") else step


def _layout(environ: Mapping[str, str]) -> list[tuple[int, int]]:
    """Return tasks per node and on how many nodes in turn, from ``4(x2),3``; empty: not known."""
    text = environ.get("SLURM_STEP_TASKS_PER_NODE") or ""
    found = []
    for part in text.split(",") if text else ():
        tasks, times, nodes = part.partition("(x")
        counts = number(tasks), number(nodes.removesuffix(")") if times else "1")
        if counts[0] is None or counts[1] is None:
            return []
        found.append((counts[0], counts[1]))
    return found


def _tasks_of_node(layout: list[tuple[int, int]], node: int | None, world: int) -> int | None:
    """Return the tasks on a node; None: not known."""
    before = 0
    for tasks, nodes in layout:
        if node is None:
            break
        if node < before + nodes:
            return tasks if 0 < tasks <= world else None
        before += nodes
    return None
