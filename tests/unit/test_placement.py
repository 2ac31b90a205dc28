"""Which GPUs a command can use: CUDA's own rules for CUDA_VISIBLE_DEVICES."""

from dataclasses import dataclass

import pytest

from satscore.launch.placement import visible_gpus


@dataclass(frozen=True)
class Gpu:
    uuid: str | None


FOUR = [Gpu("GPU-aa11"), Gpu("GPU-aa22"), Gpu("GPU-bb33"), Gpu("GPU-cc44")]
CASES = [
    (None, [0, 1, 2, 3]),
    ("0", [0]),
    ("2,0", [2, 0]),
    (" 1 , 3 ", [1, 3]),
    ("3,2,1,0", [3, 2, 1, 0]),
    ("0,9,1", [0]),
    ("0,-1,1", [0]),
    ("1,x,2", [1]),
    ("1,,2", [1]),
    ("1,1,2", [1]),
    ("GPU-bb33", [2]),
    ("GPU-bb", [2]),
    ("GPU-cc44,GPU-aa11", [3, 0]),
    ("GPU-bb33,0", [2, 0]),
    ("0,GPU-aa11,1", [0]),
    ("0,GPU-a,1", [0]),
    ("0,GPU-zz", [0]),
    ("0,bb33", [0]),
]
NONE = ["", " ", "-1", "9", "NoDevFiles", "GPU-a", "GPU-zz", "x", "²", "٣"]


@pytest.mark.parametrize(("setting", "expected"), CASES)
def test_visible_gpus(setting, expected):
    assert visible_gpus(setting, FOUR) == (expected, None)


@pytest.mark.parametrize("setting", NONE)
def test_no_gpu_is_said(setting):
    chosen, note = visible_gpus(setting, FOUR)
    assert chosen == []
    assert note is not None
    assert repr(setting) in note


@pytest.mark.parametrize(("setting", "expected"), [("MIG-aa", []), ("0,MIG-aa,1", [0])])
def test_a_slice_is_named_as_what_it_is(setting, expected):
    chosen, note = visible_gpus(setting, FOUR)
    assert chosen == expected
    assert note is not None
    assert "MIG-aa" in note


def test_a_node_without_gpus():
    assert visible_gpus(None, []) == ([], None)
    assert visible_gpus("0", [])[0] == []


def test_gpus_without_a_uuid_are_found_by_number_only():
    unnamed = [Gpu(None), Gpu(None)]
    assert visible_gpus("1", unnamed) == ([1], None)
    assert visible_gpus("GPU-aa", unnamed)[0] == []
