"""The options of a run: one table for the command line, the environment and the help.

Imported before the command starts, hence no argparse (12 ms) and no dataclass (17 ms): the values
checked here become a ``RunOptions`` once the command runs.
"""

from satscore.cli.values import (
    DTYPES,
    HELP_HINT,
    MAX_PERIOD_S,
    MIN_PERIOD_S,
    POLICIES,
    PROFILES,
    RECORDS,
    collector,
    engine,
    grouping,
    json_file,
    nearest,
    one_of,
    period,
    points,
    some_text,
    source,
)
from satscore.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from satscore.launch.request import RunOptions as RunOptions  # noqa: PLC0414 - re-export

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Option:
    """One option of a run.

    Args:
        name: The flag without its dashes; upper case after SATSCORE_ it is the variable.
        field: The attribute of RunOptions.
        check: Turns the text into the value or raises UsageError; None for a switch.
        metavar: The value's name in the help.
        text: What it does, for the help, with the default in words.
    """

    __slots__ = ("check", "field", "flag", "metavar", "name", "text", "variable")

    def __init__(
        self, name: str, field: str, check: "Callable[[str], str | float] | None", metavar: str, text: str
    ) -> None:
        self.name = name
        self.field = field
        self.check = check
        self.metavar = metavar
        self.text = text
        self.flag = f"--{name}"
        self.variable = f"SATSCORE_{name.upper().replace('-', '_')}"


OPTIONS = (
    Option("source", "source", source, "SOURCE", "auto (default), gpm, dcgm, nvml, both, sim[:SCENARIO], replay:FILE"),
    Option("dcgm", "dcgm", engine, "ADDRESS", "DCGM's host engine: HOST:PORT or unix://PATH (127.0.0.1:5555)"),
    Option("period", "period_s", period, "S", f"seconds between reads (0.2; {MIN_PERIOD_S} to {MAX_PERIOD_S:g})"),
    Option("profile", "profile", one_of(PROFILES), "NAME", "what may saturate: train (default), hpc, tensor"),
    Option("dtype", "dtype", one_of(DTYPES), "TYPE", f"format of the bound: {' '.join(DTYPES)}"),
    Option("out", "out", some_text, "DIR", "run directory (default: satscore-runs/<time>-<label>)"),
    Option(
        "record",
        "record",
        one_of(RECORDS),
        "HOW",
        "what to keep: full (every reading; default up to 64 ranks), sums, no",
    ),
    Option("json", "json", json_file, "FILE", "write the summary as JSON to FILE as well"),
    Option("label", "label", some_text, "TEXT", "a name for this run in reports"),
    Option("forward", "forward", one_of(POLICIES), "WHICH", "signals passed on: auto (default), always, never"),
    Option("fail-under", "fail_under", points, "S", "exit 3 if the score is below S, 5 if there is no whole one"),
    Option(
        "group-by",
        "group_by",
        grouping,
        "HOW",
        "compare ranks within: none (default), host, local_rank, rank//N, rank%N",
    ),
    Option("collector", "collector", collector, "ADDRESS", "where the ranks meet, HOST:PORT of rank 0 (run directory)"),
    Option("collector-key", "collector_key", some_text, "FILE", "their common secret, with --collector"),
    Option("quiet", "quiet", None, "", "no block at exit, only failures; --no-quiet: every rank of a job prints one"),
    Option("redact", "redact", None, "", "hide what looks like a secret in files (default); --no-redact"),
)
_PREFIX = "SATSCORE_"
_OTHER_VARIABLES = {"DCGM_BINDINGS", "DEBUG", "DURATION", "EXIT_WAIT_S", "HWMODELS", "MARKS", "MODULE_CAP_W", "PARENT"}
_VALUED = {option.flag: option for option in OPTIONS if option.check}
_SWITCHES = {f"--{no}{option.name}": (option, not no) for option in OPTIONS if not option.check for no in ("", "no-")}
_ACTIONS = {"-h": "help", "--help": "help", "--version": "version"}
FLAGS = (*_VALUED, *_SWITCHES, *_ACTIONS)


class Invocation:
    """A command line, taken apart.

    Args:
        values: Fields of RunOptions that a flag or a variable set.
        command: The command and its arguments; may be empty.
        separated: The command stood after ``--``.
        action: run, help or version.
    """

    __slots__ = ("action", "command", "separated", "values")

    def __init__(self, values: "dict[str, Any]", command: list[str], *, separated: bool, action: str = "run") -> None:
        self.values = values
        self.command = command
        self.separated = separated
        self.action = action


def parse(words: list[str], environ: "Mapping[str, str]", more: "tuple[Option, ...]" = ()) -> Invocation:
    """Take the options off the front; from the first other word on, all is the command's.

    A flag wins over its variable; a wrong variable is an error even then, for it would strike in
    the next run.

    Args:
        words: The words after the program's or subcommand's name.
        environ: Where the variables stand.
        more: Options with a value that a subcommand has beside those of a run.

    Raises:
        UsageError: An unknown flag or a wrong value; names the flag or the variable.
    """
    values: dict[str, Any] = {}
    index, separated = 0, False
    while index < len(words):
        word = words[index]
        if word == "--":
            index, separated = index + 1, True
            break
        if not word.startswith("-") or word == "-":
            break
        if word in _ACTIONS:
            return Invocation({}, [], separated=False, action=_ACTIONS[word])
        index += _take(words, index, values, _VALUED | {option.flag: option for option in more})
    return Invocation(_from_environment(environ, (*OPTIONS, *more)) | values, words[index:], separated=separated)


def _take(words: list[str], index: int, values: "dict[str, Any]", valued: "Mapping[str, Option]") -> int:
    """Store the option at this place; return how many words it took."""
    flag, equals, text = words[index].partition("=")
    if flag in _SWITCHES:
        if equals:
            raise UsageError(f"{flag} takes no value", hint=HELP_HINT)
        option, value = _SWITCHES[flag]
        values[option.field] = value
        return 1
    if flag not in valued:
        hint = nearest(flag, (*valued, *FLAGS)) or "options of the command go after it: satscore [OPTIONS] -- CMD ..."
        raise UsageError(f"unknown option {flag}", hint=hint)
    option = valued[flag]
    if not equals:
        if index + 1 == len(words) or words[index + 1].startswith("--"):
            raise UsageError(f"{flag} needs a value: {flag} {option.metavar}", hint=HELP_HINT)
        text = words[index + 1]
    values[option.field] = _checked(option, text, flag)
    return 1 if equals else 2


def _from_environment(environ: "Mapping[str, str]", options: "tuple[Option, ...]") -> "dict[str, Any]":
    values: dict[str, Any] = {}
    for option in options:
        text = environ.get(option.variable, "")
        if text:
            values[option.field] = _checked(option, text, option.variable)
    return values


def misspelt(environ: "Mapping[str, str]") -> list[str]:
    """Return a line for each variable that is nearly one of ours: it does nothing, and a gate may hang on it."""
    known = {option.variable.removeprefix(_PREFIX) for option in OPTIONS} | _OTHER_VARIABLES
    names = [name.removeprefix(_PREFIX) for name in environ if name.startswith(_PREFIX)]
    hints = {name: nearest(name, known) for name in names if name not in known}
    return [
        f"{_PREFIX}{name} is not known, {hint.replace('mean ', f'mean {_PREFIX}')}"
        for name, hint in hints.items()
        if hint
    ]


def _checked(option: Option, text: str, where: str) -> "str | float | bool":
    try:
        return option.check(text) if option.check else _switch(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None


def _switch(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise UsageError(f"{text!r} is neither yes nor no", hint="write 1 or 0")
    return text.lower() in _TRUE


def run_options(values: "dict[str, Any]") -> "RunOptions":
    """Return the options of a run with their defaults; not before the command runs (17 ms)."""
    from satscore.launch.request import RunOptions  # noqa: PLC0415

    return RunOptions(**values)


_EXAMPLES = """\
examples:
  satscore -- python pretrain.py --lr 3e-4         run, then say how full the GPUs were
  satscore -- torchrun --nproc-per-node 4 train.py one wrapper around the launcher of a node
  satscore --json score.json --label nightly -- ./train.sh
  satscore --source sim -- sleep 20                try it without a GPU
  satscore report satscore-runs/...                the same text again, from the recording

exit codes:
    3  --fail-under: the command succeeded, its score is too low
    5  --fail-under: the command succeeded, there is no score or a partial one
  125  wrong usage, or a failure of satscore before the command started
  126  the command cannot be executed
  127  the command is not found
  otherwise the command's own; died of a signal: satscore dies of the same
"""


def option_lines(options: "Iterable[Option]") -> "list[str]":
    """Return a line of help per option."""
    return [f"  {option.flag + ' ' + option.metavar:<22}{option.text}" for option in options]


def help_text() -> str:
    """Return the help: usage, options, examples, exit codes."""
    lines = [
        usage_text(),
        "",
        "Run CMD unchanged and say how close its GPUs came to their bounds.",
        "",
        "options:",
        *option_lines(OPTIONS),
        f"  {'--version':<22}print the version",
        f"  {'-h, --help':<22}print this",
        "Every option has a variable: --period 0.5 is SATSCORE_PERIOD=0.5; the option wins.",
        "",
    ]
    return "\n".join(lines) + "\n" + _EXAMPLES


def usage_text() -> str:
    """Return the ways to call the program, one per line."""
    return (
        "usage: satscore [OPTIONS] [--] CMD [ARG...]\n"
        "       satscore run [OPTIONS] [--] CMD [ARG...]    where CMD is named like a subcommand\n"
        "       satscore watch [--duration S] [OPTIONS]     score what runs here already, without a command\n"
        "       satscore mark NAME                          put a mark into the run around us\n"
        "       satscore report RUN                         rebuild the outputs of a recorded run\n"
        "       satscore doctor                             what can be read here, and why not\n"
        "       satscore models [list|show NAME|check]      hardware models and their sources\n"
        "       satscore demo                               a simulated node of 4 GH200, in half a minute"
    )
