"""The values of options: each function turns a text into a value or says what is wrong with it.

Imported before the command starts: standard library only, and little of it.
"""

from satscore.errors import SatscoreError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIN_PERIOD_S = 0.12
MAX_PERIOD_S = 60.0
PROFILES = ("train", "hpc", "tensor")
RECORDS = ("full", "sums", "no")
DTYPES = ("fp64", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")
POLICIES = ("auto", "always", "never")
SOURCES = ("auto", "gpm", "dcgm", "nvml", "both", "sim", "replay")
HELP_HINT = "see satscore --help"


def nearest(word: str, valid: "Iterable[str]") -> str:
    """Return a hint that names the nearest valid word, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    close = get_close_matches(word, list(valid), n=1)
    return f"did you mean {close[0]}?" if close else ""


def one_of(valid: tuple[str, ...]) -> "Callable[[str], str]":
    """Return a check for one of a few words."""

    def check(text: str) -> str:
        if text not in valid:
            raise UsageError(f"{text!r} is not one of {', '.join(valid)}", hint=nearest(text, valid) or HELP_HINT)
        return text

    return check


def source(text: str) -> str:
    """Return a counter source, its scenario or recording checked as far as the text goes."""
    kind, colon, scenario = text.partition(":")
    if (kind == "sim" and scenario) or (kind == "replay" and colon):
        _check_spec(kind, text)
        return text
    if kind in SOURCES and kind != "replay" and not colon:
        return text
    raise UsageError(
        f"{text!r} is not a source: auto, gpm, dcgm, nvml, both, sim[:SCENARIO] or replay:FILE",
        hint=_source_hint(kind),
    )


def _source_hint(kind: str) -> str:
    if kind == "replay":
        return "name a recording or its run directory: replay:FILE"
    if kind == "sim":
        from satscore.counters.sim.scenarios import SCENARIOS  # noqa: PLC0415 - only on the way to an error

        return f"scenarios are: {', '.join(SCENARIOS)}"
    return nearest(kind, SOURCES) or HELP_HINT


def _check_spec(kind: str, text: str) -> None:
    """A run of hours must not end with 'no such scenario'; only simulated and replayed starts pay for this import."""
    try:
        if kind == "sim":
            from satscore.counters.sim.spec import parse_spec  # noqa: PLC0415

            parse_spec(text)
        else:
            from satscore.counters.replay import parse_replay  # noqa: PLC0415

            parse_replay(text)
    except SatscoreError as error:
        raise UsageError(error.message, hint=error.hint) from None


def engine(text: str) -> str:
    """Return the address of a DCGM host engine, its form checked."""
    from satscore.counters.dcgm.address import checked_address  # noqa: PLC0415 - only where one is named

    try:
        return checked_address(text)
    except SatscoreError as error:
        raise UsageError(error.message, hint=error.hint) from None


def collector(text: str) -> str:
    """Return the address of a collector, its form checked."""
    from satscore.launch.host_port import parse_address  # noqa: PLC0415 - only where one is named

    parse_address(text)
    return text


def period(text: str) -> float:
    """Return the time between reads in s."""
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


def checked_points(flag: str, text: str) -> float:
    """Return a score that a flag of a subcommand states, points of 100.

    Raises:
        UsageError: It is none; names the flag.
    """
    try:
        return points(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", hint=error.hint) from None


def points(text: str) -> float:
    """Return a score, points of 100."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a score", hint="for example 40") from None
    if not 0 <= value <= 100:
        raise UsageError(f"{text} is out of range: a score is 0 to 100", hint="for example 40")
    return value


def grouping(text: str) -> str:
    """Return how ranks are grouped for comparison."""
    from satscore.core.groups import checked_grouping  # noqa: PLC0415 - only where it is asked for

    return checked_grouping(text)


def some_text(text: str) -> str:
    """Return a text that is not empty."""
    if not text:
        raise UsageError("the value is empty", hint=HELP_HINT)
    return text


def json_file(text: str) -> str:
    """Return the name of a file that is not standard output."""
    if text == "-":
        raise UsageError("stdout is the command's; name a file", hint=HELP_HINT)
    return some_text(text)
