"""Folders of hardware models: which file wins, what is said of the others, and the command that shows it."""

import re
from pathlib import Path

import pytest

from satscore.cli.models import main
from satscore.core.bounds import resolve
from satscore.core.hwmodel import match
from satscore.run.models import find_folders, folder_to_add, load_library
from satscore.run.module_cap import with_module_caps
from tests.unit.test_hwmodel_match import CHIPS, gpu

ROOT = Path(__file__).parents[2]
CAP = "power_w.module_cap"
SHIPPED = sorted(path.stem for path in (ROOT / "hwmodels").glob("*.toml"))

# --- folders


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def cap_file(folder: Path, watts: int) -> Path:
    number = f'{{ value = {watts}, unit = "W", kind = "assumed", uncertainty_frac = 0.0, source = "s", note = "n" }}'
    source = 'title = "t"\nwhere = "w"\nread = "2026-09"'
    text = f'extends = "gh200-96"\n[source.s]\n{source}\n[power]\nmodule_cap_w = {number}\n'
    return write(folder, "gh200-96", text)


def cap_of(environ: dict[str, str]) -> float | None:
    library = load_library(environ)
    assert library.notes() == []
    return next(m for m in library.models if m.id == "gh200-96").power_w.get("module_cap")


def test_later_folders_win(tmp_path: Path):
    one, two, config = tmp_path / "one", tmp_path / "two", tmp_path / "home" / ".config"
    cap_file(one, 610), cap_file(two, 620), cap_file(config / "satscore" / "hwmodels", 630)
    cap_file(tmp_path / "xdg" / "satscore" / "hwmodels", 640)
    home = {"HOME": str(tmp_path / "home")}
    assert cap_of({}) is None
    assert cap_of({"SATSCORE_HWMODELS": f"{one}"}) == 610
    assert cap_of({"SATSCORE_HWMODELS": f"{one}:{two}:"}) == 620
    assert cap_of({"SATSCORE_HWMODELS": f"{two}:{one}"}) == 610
    assert cap_of({"SATSCORE_HWMODELS": f"{one}", **home}) == 630
    assert cap_of({**home, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == 640
    assert cap_of({**home, "XDG_CONFIG_HOME": "relative"}) == 630


def test_a_folder_named_twice_is_read_once_where_it_weighs_most(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    cap_file(one, 610), cap_file(two, 620)
    environ = {"SATSCORE_HWMODELS": f"{one}:{two}:{one}//"}
    assert [folder.path.name for folder in find_folders(environ)][1:] == ["two", "one"]
    assert cap_of(environ) == 610


def test_a_missing_site_folder_is_said_and_a_missing_user_folder_is_normal(tmp_path: Path):
    plain = write(tmp_path, "plain", "")
    environ = {"SATSCORE_HWMODELS": f"{tmp_path / 'no'}:{plain}", "HOME": str(tmp_path / "nobody")}
    library = load_library(environ)
    assert library.notes() == [
        f"hardware models: SATSCORE_HWMODELS: {tmp_path / 'no'}: cannot be read: No such file or directory",
        f"hardware models: SATSCORE_HWMODELS: {plain}: cannot be read: Not a directory",
    ]
    assert [m.id for m in library.models] == SHIPPED


def test_a_user_folder_that_cannot_be_read_is_said(tmp_path: Path):
    (tmp_path / "satscore").mkdir()
    (tmp_path / "satscore" / "hwmodels").symlink_to("hwmodels")
    library = load_library({"XDG_CONFIG_HOME": str(tmp_path)})
    where = tmp_path / "satscore" / "hwmodels"
    assert library.notes() == [f"hardware models: {where}: cannot be read: Too many levels of symbolic links"]
    assert [m.id for m in library.models] == SHIPPED


def test_unreadable_files_cost_no_other_model(tmp_path: Path):
    write(tmp_path, "a", "no toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.toml").mkdir()
    write(tmp_path, "d", "")
    (tmp_path / "notes.txt").write_text("not a model")
    library = load_library({"SATSCORE_HWMODELS": str(tmp_path)})
    assert [re.search(r"/(\w)\.toml: (\S+ \S+)", note).groups() for note in library.notes()] == [  # type: ignore[union-attr]
        ("a", "is not"),
        ("b", "is not"),
        ("c", "cannot be"),
        ("d", "schema: missing"),
    ]
    assert [m.id for m in library.models] == SHIPPED


def test_the_folder_to_add_to_is_the_one_that_is_read(tmp_path: Path):
    home, xdg = tmp_path / "home", tmp_path / "xdg"
    for environ, shown in (
        ({"HOME": str(home)}, "~/.config/satscore/hwmodels"),
        ({"HOME": str(home), "XDG_CONFIG_HOME": str(xdg)}, f"{xdg}/satscore/hwmodels"),
        ({"HOME": str(home), "XDG_CONFIG_HOME": f"{home}/cfg"}, "~/cfg/satscore/hwmodels"),
    ):
        assert folder_to_add(environ) == shown
        cap_file(Path(shown.replace("~", str(home))), 630)
        assert cap_of(environ) == 630
    assert "SATSCORE_HWMODELS" in folder_to_add({})


# --- the command


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    cap_file(folder, 610)
    monkeypatch.setenv("SATSCORE_HWMODELS", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


def test_check_says_which_file_wins(site: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    shipped = ROOT / "hwmodels" / "gh200-96.toml"
    assert f"ok   {shipped}; {site}/gh200-96.toml wins\n" in out
    assert f"ok   {site}/gh200-96.toml extends {shipped}\n" in out
    assert out.endswith(f"{len(SHIPPED) + 1} files, all valid\n")


def test_check_fails_for_a_missing_folder_and_a_wrong_file(
    site: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SATSCORE_HWMODELS", f"{site}:{site}/no")
    assert main(["check"]) == 1
    out = capfd.readouterr().out
    assert f"FAIL SATSCORE_HWMODELS: {site}/no: cannot be read" in out
    monkeypatch.setenv("SATSCORE_HWMODELS", str(site))
    write(site, "gh300", 'extends = "gh200"\nnvml_names = 3\n')
    assert main(["check"]) == 1
    assert f"FAIL {site}/gh300.toml: nvml_names: must be a list, not 3\n" in capfd.readouterr().out


def test_a_name_that_lacks_only_the_vendor_is_the_same_name(site: Path, capfd: pytest.CaptureFixture[str]):
    twin = 'extends = "h200-sxm"\nid = "my-h200"\nnvml_names = ["H200"]\nnvml_names_source = "s"\n'
    write(site, "my-h200", twin + '[source.s]\ntitle = "t"\nwhere = "w"\nread = "2026-09"\n')
    assert main(["check"]) == 1
    assert f"FAIL {site}/my-h200.toml: nvml_names: 'H200' is also in " in capfd.readouterr().out
    library = load_library({"SATSCORE_HWMODELS": str(site)})
    found = match(library.models, gpu("NVIDIA H200", CHIPS["h200-sxm"]))
    assert found.model is not None
    assert found.model.id == "h200-sxm"


def test_check_of_a_given_overlay_builds_on_all_folders(site: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    mine = cap_file(tmp_path / "mine", 600)
    assert main(["check", str(mine)]) == 0
    shipped = ROOT / "hwmodels" / "gh200-96.toml"
    assert capfd.readouterr().out == (
        f"ok   {mine} extends {site}/gh200-96.toml extends {shipped}\n1 files, all valid\n"
    )
    # A file that stands in a folder already does not build on itself.
    assert main(["check", str(site / "gh200-96.toml")]) == 0
    assert f"ok   {site}/gh200-96.toml extends {shipped}\n" in capfd.readouterr().out


def test_list_and_show_say_where_an_entry_comes_from(site: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    out = capfd.readouterr().out
    shipped = ROOT / "hwmodels" / "gh200-96.toml"
    assert out.endswith(f"\n\ngh200-96 is from site: {site}/gh200-96.toml extends {shipped}\n")
    whole = (ROOT / "hwmodels" / "h200-sxm.toml").read_text(encoding="utf-8")
    write(site, "h200-sxm", whole)
    assert main(["show", "h200-sxm"]) == 0
    out = capfd.readouterr().out
    assert f"file: {site}/h200-sxm.toml, overrides {ROOT}/hwmodels/h200-sxm.toml\n" in out
    assert "] from " not in out
    assert main(["show", "gh200-96"]) == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if "] from " in line]
    assert line.startswith("power_w.module_cap ")
    assert line.endswith(f" from {site}/gh200-96.toml")


def test_list_says_what_is_left_out(site: Path, capfd: pytest.CaptureFixture[str]):
    write(site, "gh300", "id = 3\n")
    assert main(["list"]) == 0
    printed = capfd.readouterr()
    assert f"satscore: hardware model left out: {site}/gh300.toml: id: must be text, not 3 (and " in printed.err
    assert "gh300" not in printed.out


# --- the documents


def test_the_examples_of_the_documentation_are_valid(tmp_path: Path):
    text = (ROOT / "docs" / "hwmodels.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n# (\S+)\.toml\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["gh200-96", "h200-sxm"]
    for name, content in blocks:
        write(tmp_path, name, content)
    library = load_library({"SATSCORE_HWMODELS": str(tmp_path)})
    assert library.notes() == []
    models = {model.id: model for model in library.models}
    # What they state is in force on GPUs as drivers report them: without a vBoost level.
    gh200 = gpu("NVIDIA GH200 120GB", CHIPS["gh200-96"], power_limit_gpu_w=900.0, power_limit_module_w=1000.0)
    [capped], _ = with_module_caps([gh200], library.models, {})
    assert (capped.module_limit_w, capped.module_cap_source) == (660, models["gh200-96"].numbers[CAP].source.label)
    bounds = resolve(models["h200-sxm"], gpu("NVIDIA H200", CHIPS["h200-sxm"], power_limit_gpu_w=699.9))
    assert bounds.attainable_frac["tensor"] == 0.79
    assert not bounds.ceilings_at_other_cap
