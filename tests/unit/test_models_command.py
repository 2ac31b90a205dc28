"""``satscore models`` and the loader behind it: both installs, broken files, exit codes."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import satscore
from satscore.cli.models import main, quantity, show_lines
from satscore.errors import EXIT_OURS, ModelError, UsageError
from satscore.run.models import check_library, find_folder, load_library, read_toml

ROOT = Path(__file__).parents[2]
IDS = sorted(path.stem for path in (ROOT / "hwmodels").glob("*.toml"))


@pytest.fixture(autouse=True)
def shipped_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep folders of the machine that runs the tests out of them."""
    monkeypatch.delenv("SATSCORE_HWMODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def copy_models(folder: Path) -> Path:
    shutil.copytree(ROOT / "hwmodels", folder)
    return folder


# --- where the files are


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "satscore"
    inside = copy_models(package / "hwmodels")
    copy_models(tmp_path / "site-packages" / "hwmodels")
    assert find_folder(package) == inside


def test_an_editable_install_has_them_beside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "src" / "satscore"
    package.mkdir(parents=True)
    beside = copy_models(tmp_path / "src" / "hwmodels")
    assert find_folder(package) == beside
    (package / "hwmodels").mkdir()
    assert find_folder(package) == beside, "an empty folder in the package does not hide the real one"


def test_an_installation_without_them_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "satscore" / "hwmodels"))) as caught:
        find_folder(tmp_path / "satscore")
    assert "Reinstall" in caught.value.hint


def test_this_checkout_loads() -> None:
    assert find_folder().parent in (Path(satscore.__file__).parent, Path(satscore.__file__).parent.parent)
    assert [model.id for model in load_library({}).models] == IDS


@pytest.mark.slow
def test_a_built_wheel_carries_and_finds_its_models(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    program = "from satscore.run import models as m; print(m.find_folder(), *[x.id for x in m.load_library({}).models])"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(place)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == [str(place / "satscore" / "hwmodels"), *IDS]


# --- broken files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id = ", "is not TOML"),
        (b"a = 1\nb = [", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x = " + b"9" * 5000, "is not TOML"),
        (b"x = " + b"[" * 5000, "is not TOML"),
        (b"", "schema: missing"),
    ],
)
def test_a_broken_file_is_a_model_error_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    [entry] = check_library({}, [path])[1]
    assert message in entry.problems[0].message
    assert entry.problems[0].message.startswith(str(path))


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_toml(tmp_path / "x.toml")
    with pytest.raises(ModelError, match="cannot be read"):
        read_toml(tmp_path)


def test_a_wrong_file_of_a_folder_is_named_by_the_check(tmp_path: Path) -> None:
    folder = copy_models(tmp_path / "hwmodels")
    shutil.copy(folder / "b200.toml", folder / "b300.toml")
    environ = {"SATSCORE_HWMODELS": str(folder)}

    def problems() -> list[str]:
        return [problem.message for entry in check_library(environ)[1] for problem in entry.problems]

    assert problems() == [f"{folder}/b300.toml: id: 'b200' must be the name of the file: b200.toml"]
    text = (folder / "b200.toml").read_text(encoding="utf-8")
    (folder / "b300.toml").write_text(text.replace('id = "b200"', 'id = "b300"'), encoding="utf-8")
    [message] = problems()
    assert message.startswith(f"{folder}/b300.toml: nvml_names: 'NVIDIA B200' is also in {folder}/b200.toml")
    (folder / "b200.toml").unlink()
    [message] = problems()
    assert message.startswith(f"{folder}/b300.toml: nvml_names: 'NVIDIA B200' is also in ")


# --- the command


def test_list_is_the_default_and_has_one_row_per_model(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    plain = capfd.readouterr().out
    assert main(["list"]) == 0
    assert capfd.readouterr().out == plain
    rows = plain.splitlines()
    assert [row.split()[0] for row in rows] == ["id", *IDS]
    assert all(row == row.rstrip() for row in rows)
    assert "660 W module" in plain
    assert max(len(row) for row in rows) <= 100


@pytest.mark.parametrize("model_id", IDS)
def test_show_prints_every_number_with_unit_kind_uncertainty_and_source(
    model_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = load_library({}).catalogue.winners[model_id]
    found = entry.model
    assert found is not None
    assert main(["show", model_id]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines == list(show_lines(entry))
    for key, number in found.numbers.items():
        [line] = [text for text in lines if text.startswith(f"{key} ")]
        assert quantity(number.value, number.unit) in line
        assert f"{number.kind} " in line
        assert f"+-{number.uncertainty_frac * 100:g} %" in line
        index = line.rpartition("  ")[2]
        assert f"  {index} {number.source.label}" in "\n".join(lines)
        assert not number.note or f"    {number.note}" in lines
    assert all(f"  {text}" in lines for text in found.open_checks)


def test_show_takes_the_name_of_the_gpu_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "NVIDIA GH200 480GB"]) == 0
    assert capfd.readouterr().out.startswith("gh200-96: ")
    assert main(["show", "A100-SXM4-40GB"]) == 0, "as drivers before R470 print it"
    assert capfd.readouterr().out.startswith("a100-sxm-40: ")


def test_an_unknown_model_or_flag_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nearest is 'h200-nvl'") as caught:
        main(["show", "h200"])
    assert caught.value.exit_code == EXIT_OURS
    assert "h100-sxm" in caught.value.hint
    assert "add <id>.toml to " in caught.value.hint
    assert f"{os.environ['XDG_CONFIG_HOME']}/satscore/hwmodels (docs/hwmodels.md)" in caught.value.hint
    for argv in (["show"], ["--frobnicate"], ["delete"], ["list", "extra"], ["check", "--strict"]):
        with pytest.raises(UsageError):
            main(argv)


def test_help_has_examples(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "satscore models check my-gpu.toml" in capfd.readouterr().out


def test_check_validates_the_shipped_files(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert out.count("ok   ") == len(IDS)
    assert out.endswith(f"{len(IDS)} files, all valid\n")


def test_check_prints_every_problem_with_file_and_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b200.toml"
    text = (ROOT / "hwmodels" / "b200.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("[power]", "[powr]").replace('bound = "derived"', 'bound = "best"'), encoding="utf-8")
    good = ROOT / "hwmodels" / "h100-sxm.toml"
    assert main(["check", str(path), str(good)]) == 1
    assert capfd.readouterr().out.splitlines() == [
        f"FAIL {path}: powr: unknown key; nearest valid key is 'power'",
        f"FAIL {path}: dram.bound: must be one of 'datasheet', 'derived', not 'best'",
        f"FAIL {path}: power: missing",
        f"ok   {good}",
        "2 files, 1 wrong",
    ]
