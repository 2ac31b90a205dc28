"""Where the vendor's bindings are looked for."""

from pathlib import Path

import pytest

from satscore.counters.dcgm.bindings import BINDINGS_VARIABLE, binding_folders
from satscore.errors import CounterError

NEW = "usr/share/datacenter-gpu-manager-4/bindings/python3"
OLD = "usr/local/dcgm/bindings/python3"
OLDER = "usr/local/dcgm/bindings"


def install(folder: Path, *modules: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in modules or ("dcgm_agent.py", "dcgm_structs.py"):
        (folder / name).touch()
    return folder


def test_nothing_installed_is_no_folder(tmp_path: Path) -> None:
    assert binding_folders({}, tmp_path) == []


def test_the_newest_major_version_comes_first(tmp_path: Path) -> None:
    for name in (OLDER, OLD, NEW):
        install(tmp_path / name)
    assert binding_folders({}, tmp_path) == [tmp_path / NEW, tmp_path / OLD, tmp_path / OLDER]


@pytest.mark.parametrize("module", ["dcgm_agent.py", "dcgm_structs.py"])
def test_a_folder_with_one_of_the_modules_is_none(tmp_path: Path, module: str) -> None:
    install(tmp_path / NEW, module)
    install(tmp_path / OLD)
    assert binding_folders({}, tmp_path) == [tmp_path / OLD]


def test_the_variable_is_the_only_candidate(tmp_path: Path) -> None:
    install(tmp_path / NEW)
    mine = install(tmp_path / "mine")
    assert binding_folders({BINDINGS_VARIABLE: str(mine)}, tmp_path) == [mine]


def test_an_empty_variable_is_unset(tmp_path: Path) -> None:
    install(tmp_path / NEW)
    assert binding_folders({BINDINGS_VARIABLE: ""}, tmp_path) == [tmp_path / NEW]


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process that imports it works in another folder.
    install(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert binding_folders({BINDINGS_VARIABLE: "mine"}) == [tmp_path / "mine"]


def test_a_variable_that_names_no_bindings_says_what_is_missing(tmp_path: Path) -> None:
    install(tmp_path / NEW)
    mine = install(tmp_path / "mine", "dcgm_agent.py")
    with pytest.raises(CounterError) as caught:
        binding_folders({BINDINGS_VARIABLE: str(mine)}, tmp_path)
    assert str(mine) in caught.value.message
    assert "dcgm_structs.py" in caught.value.message
    assert "dcgm_agent.py" not in caught.value.message
    assert f"/{NEW}" in caught.value.hint


def test_a_variable_with_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(CounterError, match=r"has no dcgm_agent\.py and no dcgm_structs\.py"):
        binding_folders({BINDINGS_VARIABLE: str(tmp_path / ("x" * 300))}, tmp_path)
