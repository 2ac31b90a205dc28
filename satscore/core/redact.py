"""Hide what looks like a secret before a command line reaches a file."""

import re
from collections.abc import Sequence

HIDDEN = "***"
# "tokens" is a count in this trade (--max-tokens 4096), never a secret.
_NAME = (
    r"(?:pass(?:word|wd|phrase)?s?|secrets?|token|api[-_]?keys?|access[-_]?keys?|auth|credentials?|bearer"
    r"|private[-_]?keys?)"
)
SECRET_NAME = re.compile(rf"{_NAME}$", re.IGNORECASE)
SECRET_ASSIGNMENT = re.compile(rf"(?<![\w-])([\w-]*{_NAME})=(\"[^\"]*\"|'[^']*'|[^\s&;'\"]+)", re.IGNORECASE)
"""In the middle of an argument: a shell script after ``-c``, a URL's query."""
SECRET_HEADER = re.compile(r"\b(bearer)\s+[^\s'\"]{8,}", re.IGNORECASE)
SECRET_VALUE = re.compile(
    r"(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]{10,})"
)
URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)(?=@)")


def redact(command: Sequence[str]) -> list[str]:
    """Return a command with values that look like secrets replaced by ``***``.

    Covers ``--token X``, ``--token=X``, ``API_KEY=X`` (also inside a script after ``-c``), ``Bearer X``,
    passwords in URLs, and the well-known shapes of access tokens anywhere in an argument. What is hidden
    is only the copy in our files; the command itself runs unchanged.
    """
    out, hide_next = [], False
    for argument in command:
        if hide_next and not argument.startswith("--"):
            out.append(HIDDEN)
            hide_next = False
            continue
        name, equals, _ = argument.partition("=")
        secret_name = SECRET_NAME.search(name.lstrip("-")) is not None
        if equals and secret_name:
            out.append(f"{name}={HIDDEN}")
        else:
            shown = SECRET_VALUE.sub(HIDDEN, argument)
            shown = SECRET_ASSIGNMENT.sub(rf"\1={HIDDEN}", shown)
            shown = SECRET_HEADER.sub(rf"\1 {HIDDEN}", shown)
            out.append(URL_PASSWORD.sub(rf"\1:{HIDDEN}", shown))
        hide_next = not equals and secret_name and argument.startswith("-")
    return out
