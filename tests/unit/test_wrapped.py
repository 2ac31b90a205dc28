"""Commands that start their work elsewhere, and where satscore belongs then."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.launch.wrapped import advice, wraps_launcher

LAUNCHERS = [
    ("srun -N4 python train.py", "srun"),
    ("/usr/bin/srun -N4 python train.py", "srun"),
    ("env A=1 B=2 srun x", "srun"),
    ("env -i -u HOME A=1 srun x", "srun"),
    ("nice srun x", "srun"),
    ("nice -n 5 srun x", "srun"),
    ("nice -5 srun x", "srun"),
    ("numactl -N 0 --membind=0 mpirun x", "mpirun"),
    ("stdbuf -oL srun x", "srun"),
    ("stdbuf -o L srun x", "srun"),
    ("time -p srun x", "srun"),
    ("timeout 60 srun x", "srun"),
    ("timeout -k 5 -s INT 60 srun x", "srun"),
    ("timeout --foreground 60 nohup setsid mpiexec x", "mpiexec"),
    ("taskset -c 0-3 aprun x", "aprun"),
    ("env -- srun x", "srun"),
    ("mpiexec.hydra -n 2 x", "mpiexec.hydra"),
    ("jsrun -n 6 x", "jsrun"),
    ("flux run -n 4 x", "flux run"),
    ("flux alloc -n 4 x", "flux alloc"),
    ("sbatch job.sh", "sbatch"),
    ("salloc -N1 srun x", "salloc"),
    ("ssh node1 python x", "ssh"),
    ("kubectl exec pod -- python x", "kubectl"),
]
OTHERS = [
    "",
    "python train.py",
    "torchrun --nproc-per-node 4 train.py",
    "accelerate launch train.py",
    "deepspeed train.py",
    "python srun.py",
    "python -m srun",
    "echo srun",
    "timeout srun",  # what is left is no command
    "timeout 60",
    "env",
    "env A=1",
    "nice -n",
    "flux",
    "flux top",
]


@pytest.mark.parametrize(("command", "launcher"), LAUNCHERS)
def test_a_launcher_is_recognised_behind_what_runs_it(command, launcher):
    assert wraps_launcher(shlex.split(command)) == launcher
    line = advice(shlex.split(command))
    assert f"before {launcher} " in line
    assert "\n" not in line


@pytest.mark.parametrize("command", OTHERS)
def test_what_works_on_this_node_is_none(command):
    assert wraps_launcher(shlex.split(command)) is None
    assert advice(shlex.split(command)) == ""


SPLIT = [
    ("srun -N4 --ntasks-per-node=4 python t.py", "srun -N4 --ntasks-per-node=4 satscore -- python t.py"),
    ("srun -N 4 -n 16 --exclusive -l python t.py", "srun -N 4 -n 16 --exclusive -l satscore -- python t.py"),
    ("srun python t.py --lr 1 --wd 2", "srun satscore -- python t.py --lr ..."),
    ("srun -N 4 -- python t.py", "srun -N 4 -- satscore -- python t.py"),
    ("timeout 60 srun -N1 'my prog'", "srun -N1 satscore -- 'my prog'"),
    ("mpirun -np 4 --bind-to none python t.py", "mpirun -np 4 --bind-to none satscore -- python t.py"),
    ("/opt/bin/mpiexec -n 2 -x A=1 ./a.out", "/opt/bin/mpiexec -n 2 -x A=1 satscore -- ./a.out"),
    # Where options end cannot be told:
    ("srun --nodes 4 python t.py", "srun ARGS satscore -- CMD"),
    ("srun --mpi pmix python t.py", "srun ARGS satscore -- CMD"),
    ("srun --multi-prog conf", "srun ARGS satscore -- CMD"),
    ("srun -N4", "srun ARGS satscore -- CMD"),
    ("srun -N", "srun ARGS satscore -- CMD"),
    ("mpirun -np4 x", "mpirun ARGS satscore -- CMD"),
    ("mpirun -n 1 a : -n 2 b", "mpirun ARGS satscore -- CMD"),
    ("mpirun --mca btl tcp x", "mpirun ARGS satscore -- CMD"),
    ("jsrun -n 6 x", "jsrun ARGS satscore -- CMD"),
]


@pytest.mark.parametrize(("command", "told"), SPLIT)
def test_advice_has_the_users_own_words_where_options_surely_end(command, told):
    assert advice(shlex.split(command)).endswith(f" put it behind: {told}")


def test_secrets_are_not_repeated():
    line = advice(["srun", "--export=API_KEY=abc123456", "python", "--token=abc123456"])
    assert "abc123456" not in line
    assert "python" in line


WORDS = st.sampled_from(["srun", "env", "timeout", "mpirun", "-n", "4", "--", "A=1", "-N4", ":", "x", "nice", "", "-"])


@given(st.lists(WORDS, max_size=8))
def test_no_command_is_too_odd(command):
    launcher = wraps_launcher(command)
    assert bool(advice(command)) == (launcher is not None)
    assert launcher is None or launcher in command


@pytest.mark.parametrize("command", ["srun -N4 satscore -- python train.py", "ssh node1 /opt/bin/satscore python x"])
def test_the_satscore_behind_the_launcher_is_the_one_that_scores(command):
    assert "leave this one out" in advice(shlex.split(command))
