"""Which GPUs a command can use: CUDA's own rules for CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.launch.placement import counts_otherwise, local_choice, visible_gpus
from satscore.launch.request import Identity


@dataclass(frozen=True)
class Gpu:
    uuid: str | None
    name: str | None = "NVIDIA H100"
    mig_devices: tuple[str, ...] = ()


FOUR = [Gpu("GPU-aa11"), Gpu("GPU-aa22"), Gpu("GPU-bb33"), Gpu("GPU-cc44")]
CUT = [Gpu("GPU-aa11"), Gpu("GPU-bb33", mig_devices=("MIG-5a-1", "MIG-5a-2", "MIG-77")), Gpu("GPU-cc44")]
MIXED = [Gpu("GPU-aa11", "NVIDIA T4"), Gpu("GPU-bb33", "NVIDIA H100"), Gpu("GPU-cc44", "NVIDIA H100")]
CASES = [
    (None, [0, 1, 2, 3]),
    ("0", [0]),
    ("00", [0]),
    ("2,0", [2, 0]),
    (" 1 , 3 ", [1, 3]),
    ("\t2\n", [2]),
    ("3,2,1,0", [3, 2, 1, 0]),
    ("0,9,1", [0]),
    ("0,-1,1", [0]),
    ("1,x,2", [1]),
    ("1,,2", [1]),
    ("1,", [1]),
    ("1,1,2", [1]),
    ("1;2", []),
    ("0-3", []),
    ("+1", []),
    ("1.0", []),
    ("0x1", []),
    ("GPU-bb33", [2]),
    ("GPU-BB33", [2]),
    ("gpu-bb33", [2]),
    ("GPU-bb", [2]),
    ("GPU-aa1", [0]),
    ("GPU-cc44,GPU-aa11", [3, 0]),
    ("GPU-bb33,0", [2, 0]),
    ("GPU-bb33,2,0", [2]),
    ("0,GPU-aa11,1", [0]),
    ("0,GPU-a,1", [0]),
    ("0,GPU-zz", [0]),
    ("0,bb33", [0]),
    ("0,GPU-bb33x", [0]),
]
NONE = ["", " ", ",", "-1", "9", "NoDevFiles", "none", "all", "void", "GPU-a", "GPU-", "GPU-zz", "x", "²", "٣"]


@pytest.mark.parametrize(("setting", "expected"), CASES)
def test_visible_gpus(setting, expected):
    chosen, note = visible_gpus(setting, FOUR)
    assert chosen == expected
    assert (note is None) == bool(expected)


@pytest.mark.parametrize("setting", NONE)
def test_no_gpu_is_said(setting):
    chosen, note = visible_gpus(setting, FOUR)
    assert chosen == []
    assert note is not None
    assert repr(setting) in note


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("MIG-5a-1", [1]),
        ("mig-5A-1", [1]),
        ("MIG-7", [1]),
        ("MIG-5a-1,MIG-77", [1]),
        ("MIG-5a-1,MIG-5a-1,2", [1]),
        ("MIG-77,2", [1, 2]),
        ("0,MIG-77", [0, 1]),
        ("1,MIG-77,0", [1, 0]),
        ("MIG-GPU-bb33/1/0", [1]),
        ("MIG-GPU-BB33/1/0", [1]),
        ("MIG-GPU-aa11/7/0", [0]),
    ],
)
def test_a_slice_stands_for_its_gpu_and_that_is_said(setting, expected):
    chosen, note = visible_gpus(setting, CUT)
    assert chosen == expected
    assert note is not None
    assert "slices cannot be scored" in note
    assert repr(setting) in note


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("MIG-aa", []),
        ("0,MIG-aa,1", [0]),
        ("MIG-5a", []),
        ("MIG-GPU-bb/1/0", []),
        ("MIG-GPU-dd55/1/0", []),
        ("MIG-", []),
    ],
)
def test_a_slice_that_is_not_here_is_named_as_what_it_is(setting, expected):
    chosen, note = visible_gpus(setting, CUT)
    assert chosen == expected
    assert note is not None
    assert "MIG slice that is not here" in note


def test_a_node_without_gpus():
    assert visible_gpus(None, []) == ([], None)
    assert visible_gpus("0", [])[0] == []


def test_gpus_without_a_uuid_are_found_by_number_only():
    unnamed = [Gpu(None), Gpu(None)]
    assert visible_gpus("1", unnamed) == ([1], None)
    assert visible_gpus("GPU-aa", unnamed)[0] == []
    assert visible_gpus("MIG-GPU-/0/0", unnamed)[0] == []


@given(st.text(alphabet="0123459,-GPUMIGabc/ \t", max_size=20))
def test_any_setting_gives_different_gpus_that_exist(setting):
    chosen, note = visible_gpus(setting, CUT)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= {0, 1, 2}
    assert chosen or note


@pytest.mark.parametrize(
    ("setting", "order", "gpus", "expected"),
    [
        ("0", None, MIXED, True),
        ("0", "FASTEST_FIRST", MIXED, True),
        ("0", "pci_bus_id", MIXED, True),
        ("0", "PCI_BUS_ID", MIXED, False),
        (None, None, MIXED, False),
        ("0,1,2", None, MIXED, False),
        ("GPU-bb33", None, MIXED, False),
        ("GPU-bb33,0", None, MIXED, True),
        ("9", None, MIXED, False),
        ("", None, MIXED, False),
        ("0", None, FOUR, False),
        ("0", None, FOUR[:1], False),
        ("0", None, [Gpu("GPU-aa11", None), Gpu("GPU-bb33", None)], True),
    ],
)
def test_cuda_may_count_different_gpus_otherwise(setting, order, gpus, expected):
    assert counts_otherwise(setting, order, gpus) is expected


CHOICES = [
    ("4 visible, 4 ranks", {"local_rank": 2, "local_world": 4}, {}, 4, 4, 2),
    ("more ranks than GPUs", {"local_rank": 5, "local_world": 8}, {}, 4, 4, 1),
    ("ranks on the node not known", {"local_rank": 3}, {}, 4, 4, 3),
    ("the first rank, others not known", {"local_rank": 0}, {}, 4, 4, 0),
    ("half of the node, all of its ranks see it", {"local_rank": 1, "local_world": 4}, {}, 2, 4, 1),
    ("one visible", {"local_rank": 2, "local_world": 4}, {}, 1, 1, None),
    ("none visible", {"local_rank": 2, "local_world": 4}, {}, 0, 4, None),
    ("one rank a node", {"local_rank": 0, "local_world": 1}, {}, 4, 4, None),
    ("the place on the node not known", {"local_world": 4}, {}, 4, 4, None),
    ("no launcher", {"local_rank": 0, "local_world": 4, "world": 1}, {}, 4, 4, None),
    ("two of eight for each of four", {"local_rank": 2, "local_world": 4}, {}, 2, 8, None),
    ("--gpus-per-task=2", {"local_rank": 1, "local_world": 2}, {"SLURM_GPUS_PER_TASK": "2"}, 2, 2, None),
    ("--gpus-per-task=h100:2", {"local_rank": 1, "local_world": 2}, {"SLURM_GPUS_PER_TASK": "h100:2"}, 2, 2, None),
    ("per task, not bound", {"local_rank": 1, "local_world": 4}, {"SLURM_GPUS_PER_TASK": "1"}, 4, 4, 1),
    ("odd", {"local_rank": 1, "local_world": 2}, {"SLURM_GPUS_PER_TASK": "x"}, 2, 2, 1),
]


@pytest.mark.parametrize(
    ("identity", "environ", "visible", "machine", "chosen"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_ranks_that_see_the_same_gpus_pick_one_each(identity, environ, visible, machine, chosen):
    rank = Identity(**{"launcher": "slurm", "rank": 5, "world": 8, **identity})
    assert local_choice(environ, rank, visible, machine) == chosen
