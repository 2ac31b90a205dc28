"""The block at exit: its size, its marks, and that it says nothing that the summary does not say."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from satscore.core.fields import FIELDS
from satscore.core.gpu import GpuInfo
from satscore.core.summary import Summary, encode
from satscore.counters.simulated import SCENARIOS
from satscore.run.results import summarise
from satscore.views.text import MAX_LINES, WIDTH, render
from tests.unit.runs import COMMAND, H200_INFO, Run, measured, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import four_ranks, no_gpu, one_process, run_end, run_file, run_start

GOLDEN = Path(__file__).parents[1] / "golden" / "block.txt"
REGENERATE = "SATSCORE_REGENERATE_GOLDEN"
"""Set this environment variable to 1 to write tests/golden/block.txt anew; then read the diff."""
PIPES = [f.name for f in FIELDS if f.name.endswith("_active_frac")]
UNKNOWN_GPU = GpuInfo(index=0, name="NVIDIA Q9999 \x1b[31mSuper", sm_count=64, memory_bus_bits=4096)
NASTY = ["python\n", "-c", "\x1b[31mprint(1)\x07\r\n" * 20, "--name", "ü模型" * 30, "\udcff"]
LONG_NOTES = [f"note {i}: {'the driver refused to say anything about it ' * 4}" for i in range(12)]


def partly(share: float) -> Run:
    """Return a run that has lost its tensor counter for a share of its time."""
    lost = round(20 * share)
    missing, good = measured([(1.0, E1)] * lost, unknown=["T"]), measured([(1.0, E1)] * 20)
    table = good.table
    table.values[:lost], table.quality[:lost] = missing.table.values, missing.table.quality
    return Run(header=good.header, table=table)


def eight() -> Run:
    gpus = [msgspec.structs.replace(H200_INFO, index=i, uuid=f"GPU-{i}") for i in range(8)]
    return measured([(1.0, E1), (0.5, IDLE)] * 6, gpus=gpus)


def by_nvml() -> Run:
    gauges = {"power_gpu_w": 612.0, "power_limit_gpu_w": 700.0, "gpu_util_frac": 1.0, "temp_gpu_c": 61.0}
    return measured([(10, E1 | gauges)], unknown=PIPES, source="nvml", has_pipe_counters=False)


def killed() -> Summary:
    summary = simulated("sim:llm", 30).summary()
    run = msgspec.structs.replace(
        summary.run, finished=False, exit_code=None, duration_s=None, label="l\n" * 80, command=NASTY
    )
    return msgspec.structs.replace(summary, run=run, notes=LONG_NOTES)


def cases() -> dict[str, Summary]:
    out = {name: simulated(f"sim:{name}", 30).summary() for name in SCENARIOS}
    out |= {
        "nvml": by_nvml().summary(),
        "nvml, all notes": by_nvml().summary(end=run_end(10, LONG_NOTES)),
        "unknown GPU": measured(gpus=[UNKNOWN_GPU]).summary(),
        "MIG": measured(gpus=[msgspec.structs.replace(H200_INFO, mig_enabled=True)]).summary(),
        "low coverage": partly(0.6).summary(),
        "partial": partly(0.3).summary(),
        "killed": killed(),
        "eight": eight().summary(),
        "eight, all notes": eight().summary(end=run_end(9, LONG_NOTES)),
        "nasty command": measured().summary(start=run_start(NASTY[:-1], label="x" * 300)),
        "long scenario": simulated("sim:gh200x4,seed=12345678901234567890,speed=20.25", 10).summary(),
        "engine and SM unknown": measured(unknown=["g", "sm"]).summary(),
        "no source": no_gpu(COMMAND),
        "four ranks": four_ranks(20, COMMAND),
        "by a signal": measured().summary(
            end=msgspec.structs.replace(run_end(10, []), exit_code=None, exit_signal="SIGRTMIN+13")
        ),
    }
    return out


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_it_fits(name):
    lines = render(CASES[name]).split("\n")
    assert lines[0] == ""
    assert len(lines) <= MAX_LINES == 25
    for line in lines:
        assert line.isprintable()
        assert len(line) <= WIDTH == 100 or line.startswith("files "), line


@pytest.mark.parametrize("name", CASES)
def test_only_simulated_numbers_are_marked(name):
    summary = CASES[name]
    title = render(summary).split("\n")[1]
    assert ("SIMULATED" in title) == (summary.data_kind == "simulated")
    replayed = msgspec.structs.replace(summary, data_kind="replay")
    assert "REPLAY" in render(replayed).split("\n")[1]


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def printable_numbers(summary: Summary) -> set[str]:
    """Return every number of the JSON as it may be printed: rounded, as percent, in ms, k, h, M, G, T."""
    out: set[str] = set()
    for leaf in leaves(msgspec.json.decode(encode(summary))):
        if isinstance(leaf, str):
            out |= set(NUMBER.findall(leaf))
        elif isinstance(leaf, int | float):
            for scale in (1, 100, 1e3, 1e-3, 1 / 3600, 1e-6, 1e-9, 1e-12):
                out |= {format(leaf * scale, kind) for kind in (".0f", ".1f", ".2f", ".2g", ".3g")}
    return out


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("killed", "nasty command")])
def test_every_number_is_one_of_the_summary(name):
    summary = CASES[name]
    allowed = printable_numbers(summary) | {"100"}
    body = [line for line in render(summary).split("\n")[2:] if "not (wholly) shown" not in line]
    unknown = [(number, line) for line in body for number in NUMBER.findall(line) if number not in allowed]
    assert unknown == []


@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].headline.score_pct is not None])
def test_the_first_line_has_score_bracket_attainable_grade_and_coverage(name):
    summary = CASES[name]
    score = summary.job.score
    line = next(line for line in render(summary).split("\n") if line.startswith("saturation"))
    assert f"{score.score_pct:.1f} of 100 (..{score.score_hi_pct:.1f})" in line
    assert f"{score.score_attainable_pct:.1f} of attainable" in line
    assert f"grade {score.grade}" in line
    assert f"coverage {100 * score.coverage_frac:.0f} %" in line
    assert ("partial" in line) == score.partial
    text = render(summary)
    assert "H100 whitepaper" in text  # the source of the bound
    assert re.search(r"\d{4}-\d{2}", text)  # and when it was read


@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].headline.score_pct is None])
def test_without_a_score_it_says_why_and_prints_none(name):
    summary = CASES[name]
    text = " ".join(render(summary).split())
    assert "score none: " in text
    assert "of 100" not in text
    reason = " ".join((summary.headline.reason or "").split()).replace("\x1b", "?")
    assert reason[:200] in text


def test_a_run_without_pipe_counters_shows_what_was_achieved():
    text = render(CASES["nvml"])
    assert "util 100 %" in text
    assert "612 W" in text


def test_an_unknown_gpu_is_told_which_file_to_add():
    assert "add q9999-" in " ".join(render(CASES["unknown GPU"]).split())


@pytest.mark.parametrize("name", ["partial", "low coverage"])
def test_missing_time_shows_the_bounds_of_the_score(name):
    score = CASES[name].job.score
    assert score.score_min_pct is not None
    assert score.score_max_pct is not None
    line = next(line for line in render(CASES[name]).split("\n") if "whatever was missing" in line)
    assert f"{score.score_min_pct:.1f}" in line
    assert f"{score.score_max_pct:.1f}" in line


def test_parts_that_cannot_be_told_apart_say_so():
    assert "cannot tell: counters missing" in render(CASES["engine and SM unknown"])


def test_eight_gpus_show_worst_and_best():
    summary = simulated("sim:gh200x4,seed=2", 30).summary()
    job = summary.job
    assert job.worst is not None
    assert job.best is not None
    line = next(line for line in render(summary).split("\n") if line.startswith("GPUs"))
    assert f"worst {job.worst.score_pct:.1f} (GPU {job.worst.gpu_index})" in line
    assert f"best {job.best.score_pct:.1f} (GPU {job.best.gpu_index})" in line
    assert line.split()[1] == "4:"


def test_several_ranks_are_named_by_rank():
    assert re.search(r"worst \d+\.\d \(rank \d\)", render(CASES["four ranks"]))


def test_at_most_three_findings_largest_first():
    text = render(CASES["gh200x4"])
    ids = [finding.id for finding in CASES["gh200x4"].findings]
    shown = [name for name in ids if name in text]
    assert shown == ids[:3]


def test_notes_that_do_not_fit_are_counted():
    for name in ("killed", "nvml, all notes", "eight, all notes"):
        text = render(CASES[name])
        assert "note 0:" in text
        assert re.search(r'\d+ not \(wholly\) shown: "notes" in summary\.json', text), name


def test_the_simulators_own_note_is_not_repeated():
    run = simulated("sim:llm", 30)
    text = render(run.summary(end=run_end(30, ["SIMULATED: no GPU is read", "another note"])))
    assert "no GPU is read" not in text
    assert "another note" in text


def test_a_killed_run_says_so():
    run = simulated("sim:llm", 30)
    session = run.session()
    summary = summarise(run_file(run_start(COMMAND), None, version="0"), [(run.header, session)], directory=None)
    text = render(summary)
    assert "30.0 s observed | not finished" in text
    assert "satscore was killed" in text


def test_how_it_ended_stands_in_the_title():
    for changes, told in (
        ({"exit_code": 0}, "| exit 0 "),
        ({"exit_code": 137}, "| exit 137 "),
        ({"exit_code": None, "exit_signal": "SIGTERM"}, "| SIGTERM "),
    ):
        end = msgspec.structs.replace(run_end(10, []), **changes)
        assert told in render(measured().summary(end=end)).split("\n")[1]


def test_a_run_of_two_minutes_is_not_short():
    assert "short run" in render(measured([(119.0, E1)]).summary())
    assert "short run" not in render(measured([(120.0, E1)]).summary())


def test_the_block_of_a_simulated_node_is_a_visible_diff():
    summary = simulated("sim:gh200x4", 60).summary(end=run_end(60.4, ["a note for the user"]))
    text = render(summary).lstrip("\n") + "\n"
    if os.environ.get(REGENERATE) == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), f"the block changed; if on purpose, set {REGENERATE}=1"


@pytest.mark.parametrize("width", [60, 80, 99])
def test_a_narrow_terminal_gets_narrow_lines(width):
    lines = render(one_process("sim:gh200x4", 20, ["python", "pretrain.py"]), width=width).splitlines()
    assert max(len(line) for line in lines if not line.startswith("files")) <= width
    assert any(line.startswith("saturation") for line in lines)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("scenario", ["sim:gh200x4", "sim:llm", "sim:fp32"])
def test_commands_and_the_headline_are_whole_at_any_width(scenario, width):
    summary = one_process(scenario, 20, ["python", "pretrain.py"])
    text = render(summary, width=width)
    commands = {finding.next_command for finding in summary.findings}
    shown = [line.split("next: ")[1] for line in text.splitlines() if "next: " in line]
    assert shown
    assert set(shown) <= commands
    assert re.search(r"coverage 100 %( \||\n)", text)
    assert len(text.splitlines()) <= MAX_LINES
