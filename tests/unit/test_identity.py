"""Which rank of which job: every launcher with its traps, and keys that all ranks of a run find alike."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.launch.identity import identify
from satscore.launch.request import Identity

SAFE_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")
ALONE = Identity()


def job(**more: str) -> dict[str, str]:
    """The shell of a batch job of 4 nodes x 4 tasks: the numbers of a rank, and no step."""
    shell = {
        "SLURM_JOB_ID": "4711",
        "SLURM_CLUSTER_NAME": "daint",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS": "16",
    }
    return {**shell, **more}


def step(rank: int = 5, tasks: int = 16, per_node: int = 4, **more: str) -> dict[str, str]:
    """A task of a step."""
    task = {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank % per_node),
        "SLURM_NODEID": str(rank // per_node),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": f"{per_node}(x{tasks // per_node})",
    }
    return job(**{**task, **more})


def torch(rank: int = 5, world: int = 8, local: int = 4, **more: str) -> dict[str, str]:
    """A worker of torchrun."""
    worker = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % local),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(local),
        "GROUP_RANK": str(rank // local),
        "MASTER_ADDR": "nid001",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    return {**worker, **more}


def ompi(rank: int = 5, world: int = 8, local: int = 4, **more: str) -> dict[str, str]:
    """A rank of mpirun (Open MPI 4.1.4)."""
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(world),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank % local),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(local),
        "OMPI_MCA_orte_hnp_uri": "1381695488.0;tcp://192.0.2.2,10.213.0.254:34645;tcp6://[fd00::2]:39705",
        "PMIX_RANK": str(rank),
        "PMIX_NAMESPACE": "1381695489",
        **more,
    }


def rank(launcher: str, place: tuple[int, int, int | None, int | None], key: str | None, restart: int = 0) -> Identity:
    number, world, local_rank, local_world = place
    return Identity(
        launcher=launcher,
        rank=number,
        world=world,
        local_rank=local_rank,
        local_world=local_world,
        key=key,
        restart=restart,
    )


ORTED = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "1(x3)", "SLURM_STEP_ID": "2"}
UNREAL = ["4294967291", "4294967290", "4294967293", "4294967292", "4294967294"]
CASES = [
    ("nothing", {}, ALONE),
    ("empty values", dict.fromkeys(["RANK", "LOCAL_RANK", "SLURM_STEP_ID", "PMI_RANK"], ""), ALONE),
    # Slurm
    ("batch shell", job(), ALONE),
    *((f"step id {number}", step(SLURM_STEP_ID=number), ALONE) for number in UNREAL),
    ("step", step(), rank("slurm", (5, 16, 1, 4), "daint-4711.0")),
    ("another step of it", step(SLURM_STEP_ID="1"), rank("slurm", (5, 16, 1, 4), "daint-4711.1")),
    ("requeued", step(SLURM_RESTART_COUNT="2"), rank("slurm", (5, 16, 1, 4), "daint-4711.0-r2", 2)),
    ("no cluster's name", step(SLURM_CLUSTER_NAME=""), rank("slurm", (5, 16, 1, 4), "slurm-4711.0")),
    (
        "array",
        step(SLURM_ARRAY_JOB_ID="4700", SLURM_ARRAY_TASK_ID="3"),
        rank("slurm", (5, 16, 1, 4), "daint-4711.0"),
    ),
    (
        "heterogeneous, second part",
        step(3, 4, SLURM_HET_JOB_ID="4710", SLURM_HET_SIZE="2", SLURM_NTASKS="8", SLURM_PROCID="7"),
        rank("slurm", (7, 8, 3, 4), "daint-4710.0"),
    ),
    ("one task", step(0, 1, 1), rank("slurm", (0, 1, 0, 1), "daint-4711.0")),
    (
        "uneven",
        step(9, SLURM_STEP_TASKS_PER_NODE="4(x2),8", SLURM_NODEID="2", SLURM_LOCALID="1"),
        rank("slurm", (9, 16, 1, 8), "daint-4711.0"),
    ),
    ("node not said", step(SLURM_NODEID=""), rank("slurm", (5, 16, 1, None), "daint-4711.0")),
    ("tasks not said", step(SLURM_STEP_NUM_TASKS=""), rank("slurm", (5, 16, 1, 4), "daint-4711.0")),
    ("srun --mpi=pmix", step(PMIX_RANK="5", PMIX_NAMESPACE="slurm.pmix.4711.0"), "daint-4711.0"),
    ("after MPI_Init of it", {**step(), **ompi(5, 16, PMIX_NAMESPACE="slurm.pmix.4711.0")}, "daint-4711.0"),
    ("srun --mpi=pmi2", step(PMI_RANK="5", PMI_SIZE="16", PMI_JOBID="4711.0", PMI_FD="3"), "daint-4711.0"),
    ("pmi2, a task a node", step(2, 4, 1, PMI_RANK="2", PMI_SIZE="4"), "daint-4711.0"),
    ("cray_shasta", step(PALS_RANKID="5", PALS_APID="4711.0", PALS_NODEID="1"), "daint-4711.0"),
    ("newer cray_shasta", step(PALS_RANKID="5", PALS_LOCAL_RANKID="1", PALS_APID="4711.0"), "daint-4711.0"),
    (
        "after MPI_Init, a task a node",
        {**step(2, 4, 1), **ompi(2, 4, 1, PMIX_NAMESPACE="slurm.pmix.4711.0")},
        "daint-4711.0",
    ),
    ("RANK only", step(RANK="5", WORLD_SIZE="16"), "daint-4711.0"),
    # torchrun
    ("torchrun", torch(), rank("torchrun", (5, 8, 1, 4), "torchrun-nid001-29500")),
    (
        "with an id, again",
        torch(TORCHELASTIC_RUN_ID="8b", TORCHELASTIC_RESTART_COUNT="3"),
        rank("torchrun", (5, 8, 1, 4), "torchrun-8b-nid001-29500-r3", 3),
    ),
    (
        "loopback",
        torch(1, 4, MASTER_ADDR="127.0.0.1"),
        rank("torchrun", (1, 4, 1, 4), "torchrun-thishost-29500"),
    ),
    (
        "under srun, both workers of a node share SLURM_PROCID",
        {**step(1, 2, 1, SLURM_RESTART_COUNT="1"), **torch(TORCHELASTIC_RESTART_COUNT="1")},
        rank("torchrun", (5, 8, 1, 4), "daint-4711.0-r1-nid001-29500-r1", 2),
    ),
    ("in a batch shell", {**job(), **torch(1, 4)}, rank("torchrun", (1, 4, 1, 4), "daint-4711-nid001-29500")),
    ("below Open MPI", {**ompi(0, 2, 1), **torch()}, rank("torchrun", (5, 8, 1, 4), "torchrun-nid001-29500")),
    (
        "export RANK=$SLURM_PROCID",
        step(RANK="5", LOCAL_RANK="1", WORLD_SIZE="16", MASTER_ADDR="nid001"),
        rank("slurm", (5, 16, 1, 4), "daint-4711.0"),
    ),
    (
        "in an order of their own, a task a node",
        step(2, 4, 1, RANK="3", LOCAL_RANK="0", WORLD_SIZE="4", MASTER_ADDR="nid001"),
        rank("slurm", (3, 4, 0, 1), "daint-4711.0"),
    ),
    (
        "RANK and LOCAL_RANK of a script, several a task",
        {**step(1, 4, 1), "RANK": "6", "LOCAL_RANK": "2", "WORLD_SIZE": "16", "MASTER_ADDR": "nid001"},
        rank("torchrun", (6, 16, 2, None), "daint-4711.0-nid001-"),
    ),
    ("DeepSpeed", {**torch(TORCHELASTIC_RUN_ID="", LOCAL_WORLD_SIZE=""), "LOCAL_SIZE": "4", "CROSS_RANK": "1"},
     rank("deepspeed", (5, 8, 1, 4), "deepspeed-nid001-29500")),
    # Open MPI
    ("mpirun", ompi(), rank("openmpi", (5, 8, 1, 4), "openmpi-192.0.2.2-34645-1381695489")),
    ("mpirun 5", ompi(PMIX_NAMESPACE="prterun-n1-77@1", OMPI_MCA_orte_hnp_uri=""),
     rank("openmpi", (5, 8, 1, 4), "openmpi-prterun-n1-77-1-")),
    ("mpirun in a batch job", {**job(), **ompi()}, rank("openmpi", (5, 8, 1, 4), "daint-4711-1381695489")),
    ("on another node of it", {**job(), **ORTED, **ompi()}, rank("openmpi", (5, 8, 1, 4), "daint-4711-1381695489")),
    ("fewer ranks than nodes", {**job(), **ORTED, **ompi(1, 2, 1)},
     rank("openmpi", (1, 2, 0, 1), "daint-4711-1381695489")),
    ("in an LSF job", ompi(LSB_JOBID="99", LSB_JOBINDEX="0"), rank("openmpi", (5, 8, 1, 4), "lsf-99-1381695489")),
    ("in an LSF array", ompi(LSB_JOBID="99", LSB_JOBINDEX="7"), rank("openmpi", (5, 8, 1, 4), "lsf-99.7-1381695489")),
    ("in a PBS job", ompi(PBS_JOBID="12.pbs01"), rank("openmpi", (5, 8, 1, 4), "pbs-12.pbs01-1381695489")),
    # others
    (
        "PALS",
        {"PALS_RANKID": "5", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "4", "PMI_SIZE": "8", "PALS_APID": "ab-cd"},
        rank("pals", (5, 8, 1, 4), "pals-ab-cd"),
    ),
    ("jsrun", {"JSM_NAMESPACE_RANK": "5", "JSM_NAMESPACE_SIZE": "8", "JSM_NAMESPACE_LOCAL_RANK": "1",
               "LSB_JOBID": "99", "PMIX_NAMESPACE": "3"}, rank("lsf", (5, 8, 1, None), "lsf-99-3")),
    ("Flux", {"FLUX_TASK_RANK": "5", "FLUX_JOB_SIZE": "8", "FLUX_TASK_LOCAL_ID": "1", "FLUX_JOB_ID": "ƒ3ETxsR9H",
              "PMI_RANK": "5", "PMI_SIZE": "8"}, rank("flux", (5, 8, 1, None), "flux-f3ETxsR9H")),
    ("Flux, one node", {"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "4", "FLUX_JOB_NNODES": "1", "FLUX_JOB_ID": "f1"},
     rank("flux", (1, 4, None, 4), "flux-f1")),
    ("Flux, with PALS' variables", {"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "4", "FLUX_JOB_ID": "f1",
                                    "PALS_RANKID": "1"}, rank("flux", (1, 4, None, None), "flux-f1")),
    (
        "Intel MPI",
        {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4", "I_MPI_HYDRA_UUID": "9d-0"},
        rank("mpich", (5, 8, 1, 4), "mpich-9d-0"),
    ),
    (
        "Hydra's proxies in a step",
        {**job(), **ORTED, "PMI_RANK": "1", "PMI_SIZE": "3", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1",
         "I_MPI_HYDRA_UUID": "9d"},
        rank("mpich", (1, 3, 0, 1), "daint-4711-9d"),
    ),
    (
        "Kubeflow",
        {"PET_NODE_RANK": "2", "PET_NNODES": "4", "PET_MASTER_ADDR": "job-worker-0", "PET_MASTER_PORT": "23456"},
        rank("kubernetes", (2, 4, None, None), "kubernetes-job-worker-0-23456"),
    ),
    ("torchrun in its pod", torch(PET_NODE_RANK="1", PET_NNODES="2"), "torchrun-nid001-29500"),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_launcher(environ: Mapping[str, str], expected: Identity | str) -> None:
    found = identify(environ, "thishost")
    if isinstance(expected, str):
        assert found.key == expected
    elif expected.key and expected.key.endswith("-1-"):
        assert found.key is not None
        assert found.key.startswith(expected.key)
    else:
        assert found == expected
    assert found.notes == ()
    if found.launcher == "slurm" and "RANK" not in environ:
        assert (found.rank, found.local_rank) == (int(environ["SLURM_PROCID"]), int(environ["SLURM_LOCALID"]))


STALE = [
    ("mpirun -n 1 bash, then srun", {**step(), **ompi(0, 1, 1)}, "OMPI_COMM_WORLD_RANK says rank 0 of 1"),
    ("RANK=0 of an image", step(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1"), "RANK says rank 0 of 1"),
    ("mpiexec.hydra, then srun", step(PMI_RANK="0", PMI_SIZE="1", MPI_LOCALRANKID="0"), "PMI_RANK says rank 0 of 1"),
]


@pytest.mark.parametrize(("environ", "told"), [case[1:] for case in STALE], ids=[case[0] for case in STALE])
def test_a_step_with_several_tasks_on_a_node_is_believed(environ, told):
    found = identify(environ)
    assert (found.launcher, found.rank, found.key) == ("slurm", 5, "daint-4711.0")
    assert told in found.notes[0]
    assert "left over" in found.notes[0]


GARBAGE = ["x", "-1", "8", "10" * 15, "٣", "²", "1.0", " 1", "1e0", "0x1", "+1", "\udcff"]


@pytest.mark.parametrize("wrong", GARBAGE)
@pytest.mark.parametrize("variable", ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "FLUX_TASK_RANK", "PET_NODE_RANK"])
def test_a_wrong_number_falls_to_the_next_launcher_and_is_said(variable, wrong):
    all_eight = {
        **torch(),
        **ompi(),
        "PMI_RANK": "5", "PMI_SIZE": "8", "FLUX_TASK_RANK": "5", "FLUX_JOB_SIZE": "8",
        "PET_NODE_RANK": "5", "PET_NNODES": "8",
    }  # fmt: skip
    order = {
        "RANK": "torchrun", "OMPI_COMM_WORLD_RANK": "openmpi", "FLUX_TASK_RANK": "flux", "PMI_RANK": "mpich",
        "PET_NODE_RANK": "kubernetes",
    }  # fmt: skip
    names = list(order)
    at = names.index(variable)
    environ = {name: value for name, value in all_eight.items() if name not in names[:at]} | {variable: wrong}
    found = identify(environ)
    assert found.launcher == ([*order.values(), "none"])[at + 1]
    assert variable in found.notes[0]
    assert "\udcff" not in found.notes[0]


@pytest.mark.parametrize("world", ["", "0", "5", "x"])
def test_a_rank_outside_its_world_is_none(world):
    found = identify(torch(5, WORLD_SIZE=world))
    assert found.launcher == "none"
    assert "WORLD_SIZE" in found.notes[0]


@pytest.mark.parametrize("wrong", ["", "x", "16", "99"])
def test_a_step_without_a_right_number_is_none(wrong):
    found = identify(step(SLURM_PROCID=wrong))
    assert (found.launcher, found.key, found.world) == ("none", None, 1)
    assert "SLURM_PROCID" in found.notes[0]


def test_a_wrong_place_on_the_node_is_left_out():
    for wrong in ({"LOCAL_RANK": "4"}, {"LOCAL_WORLD_SIZE": "9"}, {"LOCAL_WORLD_SIZE": "0"}, {"LOCAL_RANK": "6"}):
        found = identify({**torch(), **wrong})
        assert (found.rank, found.world, found.local_rank, found.local_world) == (5, 8, None, None)
        assert "place on the node" in found.notes[0]
    found = identify(step(SLURM_LOCALID="4"))
    assert (found.rank, found.local_rank, found.local_world) == (5, None, None)
    assert "SLURM_LOCALID" in found.notes[0]


def test_rank_without_local_rank_is_ambiguous():
    found = identify({"RANK": "1", "WORLD_SIZE": "2"})
    assert (found.launcher, found.world) == ("none", 1)
    assert "RANK without LOCAL_RANK" in found.notes[0]


def test_a_pod_of_a_job_of_unknown_size_is_alone():
    found = identify({"JOB_COMPLETION_INDEX": "3"})
    assert (found.launcher, found.rank, found.world, found.key) == ("kubernetes", 0, 1, None)
    assert "pod '3'" in found.notes[0]


@pytest.mark.parametrize(
    "environ",
    [
        {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1"},
        {**job(), "PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1"},
        torch(MASTER_ADDR="", MASTER_PORT=""),
        ompi(PMIX_NAMESPACE=""),
    ],
)
def test_without_anything_unique_there_is_no_key_and_that_is_said(environ):
    found = identify(environ)
    assert found.world > 1
    assert found.key is None
    assert "of its own" in found.notes[-1]


# --- keys

NAMES = sorted({name for _, environ, _ in CASES for name in environ} | {"LSB_JOBID", "PBS_JOBID", "SLURM_HET_JOB_ID"})
NUMBERS = st.integers(-1, 20).map(str)
TEXT = st.text(st.characters(), max_size=30)


@given(st.dictionaries(st.sampled_from(NAMES), NUMBERS | NUMBERS | TEXT, max_size=25), TEXT)
def test_any_environment_gives_a_rank_and_a_safe_key(environ, hostname):
    found = identify(environ, hostname)
    assert 0 <= found.rank < found.world
    assert found.local_rank is None or 0 <= found.local_rank <= found.rank
    assert found.local_world is None or (found.local_rank or 0) < found.local_world <= found.world
    assert found.restart >= 0
    assert found.key is None or SAFE_KEY.fullmatch(found.key)
    assert found.launcher != "none" or (found.world, found.key) == (1, None)
    assert all(note.isprintable() for note in found.notes)


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300))
def test_odd_names_give_safe_keys_that_stay_different(one, other):
    keys = [identify(torch(TORCHELASTIC_RUN_ID=f"{text}/x")).key for text in (one, other)]
    assert all(key and SAFE_KEY.fullmatch(key) for key in keys)
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize("odd", ["..", ".", "-rf", "/etc/passwd", "a b", "\n", "x" * 500, "ü"])
def test_a_cluster_cannot_choose_where_files_go(odd):
    key = identify(step(SLURM_CLUSTER_NAME=odd)).key
    assert key
    assert SAFE_KEY.fullmatch(key)
    assert key != identify(step(SLURM_CLUSTER_NAME=f"{odd}-")).key


def jobs(which: tuple[str, str, str], world: int) -> list[list[dict[str, str]]]:
    """Return the environments of all ranks of one run, of several launchers."""
    job_id, step_id, restart = which
    slurm = {"SLURM_JOB_ID": job_id, "SLURM_STEP_ID": step_id, "SLURM_RESTART_COUNT": restart}
    other = {"TORCHELASTIC_RESTART_COUNT": restart, "TORCHELASTIC_RUN_ID": f"id{job_id}.{step_id}"}
    return [
        [{**step(r, world, 1), **slurm} for r in range(world)],
        [{**step(r // 4, (world + 3) // 4, 1), **slurm, **torch(r, world, 1), **other} for r in range(world)],
        [{**torch(r, world, 1), **other} for r in range(world)],
        [ompi(r, world, 1, PMIX_NAMESPACE=f"{job_id}.{step_id}.{restart}") for r in range(world)],
    ]


WHICH = st.tuples(st.integers(0, 30).map(str), st.integers(0, 30).map(str), st.integers(0, 3).map(str))


@given(WHICH, WHICH, st.integers(1, 9))
def test_ranks_of_a_run_have_one_key_and_other_runs_another(one, other, world):
    for mine, theirs in zip(jobs(one, world), jobs(other, world), strict=True):
        found = [identify(environ) for environ in mine]
        assert len({each.key for each in found}) == 1
        assert [each.rank for each in found] == list(range(world))
        assert {each.world for each in found} == {world}
        assert (found[0].key == identify(theirs[0]).key) == (one == other)
