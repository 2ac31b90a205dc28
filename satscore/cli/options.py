"""The options of a run: one table for the command line, the environment and the help.

Imported before the command starts, hence no argparse (12 ms) and no dataclass (17 ms): the values
checked here become a ``RunOptions`` once the command runs.
"""

from satscore.errors import SatscoreError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from satscore.launch.request import RunOptions as RunOptions  # noqa: PLC0414 - re-export

MIN_PERIOD_S = 0.12
MAX_PERIOD_S = 60.0
PROFILES = ("train", "hpc", "tensor")
RECORDS = ("full", "no")
DTYPES = ("fp64", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")
POLICIES = ("auto", "always", "never")
SOURCES = ("auto", "gpm", "nvml", "sim")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
HELP_HINT = "see satscore --help"


def nearest(word: str, valid: "Iterable[str]") -> str:
    """Return a hint that names the nearest valid word, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    close = get_close_matches(word, list(valid), n=1)
    return f"did you mean {close[0]}?" if close else ""


def _one_of(valid: tuple[str, ...]) -> "Callable[[str], str]":
    def check(text: str) -> str:
        if text not in valid:
            raise UsageError(f"{text!r} is not one of {', '.join(valid)}", hint=nearest(text, valid) or HELP_HINT)
        return text

    return check


def _source(text: str) -> str:
    kind, colon, scenario = text.partition(":")
    if kind == "sim" and scenario:
        _check_scenario(text)
        return text
    if kind in SOURCES and not colon:
        return text
    raise UsageError(
        f"{text!r} is not a source: auto, gpm, nvml, sim or sim:SCENARIO",
        hint=nearest(kind, SOURCES) or HELP_HINT,
    )


def _check_scenario(text: str) -> None:
    """A run of hours must not end with 'no such scenario'; only simulated starts pay for this import."""
    from satscore.counters.sim.spec import parse_spec  # noqa: PLC0415

    try:
        parse_spec(text)
    except SatscoreError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _period_s(text: str) -> float:
    try:
        period_s = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number of seconds", hint="for example 0.2") from None
    if not MIN_PERIOD_S <= period_s <= MAX_PERIOD_S:
        raise UsageError(
            f"{text} s is out of range: {MIN_PERIOD_S} to {MAX_PERIOD_S:g} s",
            hint="no counter can be read again sooner" if period_s < MIN_PERIOD_S else "for example 0.2",
        )
    return period_s


def _text(text: str) -> str:
    if not text:
        raise UsageError("the value is empty", hint=HELP_HINT)
    return text


def _json_file(text: str) -> str:
    if text == "-":
        raise UsageError("stdout is the command's; name a file", hint=HELP_HINT)
    return _text(text)


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
    Option("source", "source", _source, "SOURCE", "counters from auto (default), gpm, nvml or sim[:SCENARIO]"),
    Option("period", "period_s", _period_s, "S", f"seconds between reads (0.2; {MIN_PERIOD_S} to {MAX_PERIOD_S:g})"),
    Option("profile", "profile", _one_of(PROFILES), "NAME", "what may saturate: train (default), hpc, tensor"),
    Option("dtype", "dtype", _one_of(DTYPES), "TYPE", f"format of the bound: {' '.join(DTYPES)}"),
    Option("out", "out", _text, "DIR", "run directory (default: satscore-runs/<time>-<label>)"),
    Option("record", "record", _one_of(RECORDS), "HOW", "keep every reading: full (default) or no"),
    Option("json", "json", _json_file, "FILE", "write the summary as JSON to FILE as well"),
    Option("label", "label", _text, "TEXT", "a name for this run in reports"),
    Option("forward", "forward", _one_of(POLICIES), "WHICH", "signals passed on: auto (default), always, never"),
    Option("quiet", "quiet", None, "", "no block at exit, only failures; --no-quiet undoes SATSCORE_QUIET"),
    Option("redact", "redact", None, "", "hide what looks like a secret in files (default); --no-redact"),
)
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


def parse(words: list[str], environ: "Mapping[str, str]") -> Invocation:
    """Take the options off the front; from the first other word on, all is the command's.

    A flag wins over its variable; a wrong variable is an error even then, for it would strike in
    the next run.

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
        index += _take(words, index, values)
    return Invocation(_from_environment(environ) | values, words[index:], separated=separated)


def _take(words: list[str], index: int, values: "dict[str, Any]") -> int:
    """Store the option at this place; return how many words it took."""
    flag, equals, text = words[index].partition("=")
    if flag in _SWITCHES:
        if equals:
            raise UsageError(f"{flag} takes no value", hint=HELP_HINT)
        option, value = _SWITCHES[flag]
        values[option.field] = value
        return 1
    if flag not in _VALUED:
        hint = nearest(flag, FLAGS) or "options of the command go after it: satscore [OPTIONS] -- CMD ..."
        raise UsageError(f"unknown option {flag}", hint=hint)
    option = _VALUED[flag]
    if not equals:
        if index + 1 == len(words) or words[index + 1].startswith("--"):
            raise UsageError(f"{flag} needs a value: {flag} {option.metavar}", hint=HELP_HINT)
        text = words[index + 1]
    values[option.field] = _checked(option, text, flag)
    return 1 if equals else 2


def _from_environment(environ: "Mapping[str, str]") -> "dict[str, Any]":
    values: dict[str, Any] = {}
    for option in OPTIONS:
        text = environ.get(option.variable, "")
        if text:
            values[option.field] = _checked(option, text, option.variable)
    return values


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
  125  wrong usage, or a failure of satscore before the command started
  126  the command cannot be executed
  127  the command is not found
  otherwise the command's own; died of a signal: satscore dies of the same
"""


def help_text() -> str:
    """Return the help: usage, options, examples, exit codes."""
    lines = [
        usage_text(),
        "",
        "Run CMD unchanged and say how close its GPUs came to their bounds.",
        "",
        "options:",
        *(f"  {option.flag + ' ' + option.metavar:<18}{option.text}" for option in OPTIONS),
        f"  {'--version':<18}print the version",
        f"  {'-h, --help':<18}print this",
        "Every option has a variable: --period 0.5 is SATSCORE_PERIOD=0.5; the option wins.",
        "",
    ]
    return "\n".join(lines) + "\n" + _EXAMPLES


def usage_text() -> str:
    """Return the ways to call the program, one per line."""
    return (
        "usage: satscore [OPTIONS] [--] CMD [ARG...]\n"
        "       satscore run [OPTIONS] [--] CMD [ARG...]    where CMD is named like a subcommand\n"
        "       satscore report RUN                         rebuild the outputs of a recorded run\n"
        "       satscore models [list|show NAME|check]      hardware models and their sources"
    )
