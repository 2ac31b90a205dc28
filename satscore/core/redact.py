"""Hide what looks like a secret before a command line reaches a file."""

import re
from collections.abc import Sequence

HIDDEN = "***"
# "tokens" is a count in this trade (--max-tokens 4096), never a secret; "key" alone is one of a table.
_NAME = (
    r"(?:pass(?:word|wd|phrase)?s?|secrets?|token|api[-_]?keys?|access[-_]?keys?|auth|credentials?|bearer"
    r"|private[-_]?keys?|(?<=\w)[-_]key)"
)
_VALUE = (
    r"(?:\\\"(?:(?!\\\").)*\\\"|\\'(?:(?!\\').)*\\'|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
    r"|(?:(?:basic|bearer|token|digest)\s+)?[^\s&;'\"]+)"
)
SECRET_NAME = re.compile(rf"{_NAME}$", re.IGNORECASE)
SECRET_ASSIGNMENT = re.compile(rf"(?<![\w-])([\w-]*{_NAME})(=|\\?[\"']?\s*:\s*){_VALUE}", re.IGNORECASE | re.DOTALL)
"""In the middle of an argument: a shell script after ``-c``, a URL's query, JSON, YAML."""
SECRET_HEADER = re.compile(
    r"(\bauthorization\\?[\"']?\s*:\s*(?:\\?[\"'])?(?:(?:basic|bearer|token|negotiate)\s+)?)"
    r"(?:digest\s[^\r\n]+|[^\r\n'\"\\]+)",
    re.IGNORECASE,
)
BEARER = re.compile(r"\b(bearer)\s+[^\s'\"]{8,}", re.IGNORECASE)
SECRET_VALUE = re.compile(
    r"(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]{10,})"
)
URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)(?=@)")
USER_FLAG = re.compile(r"-u|-U|--(?:proxy-)?user")
# curl's way; not the numbers of docker's -u 1000:1000, not a URL.
_USER = r"(?!\d+:\d+(?:\s|$))([^\s:'\"]+):(?!//)"
USER_PASSWORD = re.compile(rf"{_USER}.+", re.DOTALL)
USER_PASSWORD_INSIDE = re.compile(rf"(?<![^\s'\"])(-u|-U|--(?:proxy-)?user)(\s*=?\s*['\"]?){_USER}[^\s'\"]+")
FLAG = re.compile(r"--|--[a-z]+(?:[-_][a-z]+)*(?:=.*)?", re.DOTALL)
"""After ``--token``: what looks like the next flag; words of small letters, as flags are and secrets are not."""


def redact(command: Sequence[str]) -> list[str]:
    """Return a command with values that look like secrets replaced by ``***``.

    Covers ``--token X``, ``--token=X``, ``API_KEY=X`` and ``"api_key": X`` (also inside a script after
    ``-c``, in JSON and YAML), names that end in ``-key`` or ``_key``, ``Authorization`` headers, ``-u
    user:password``, passwords in URLs, and the well-known shapes of access tokens anywhere in an argument.
    The word after ``--token`` is shown only if it looks like the next flag (``--verbose``, ``--log-dir=x``);
    ``--token --a1B`` hides it. In doubt it hides: what is hidden is only the copy in our files; the command
    itself runs unchanged.
    """
    out, before = [], ""
    for argument in command:
        if _names_secret(before) and not FLAG.fullmatch(argument):
            out.append(HIDDEN)
            before = ""
            continue
        if USER_FLAG.fullmatch(before) and USER_PASSWORD.fullmatch(argument):
            out.append(USER_PASSWORD.sub(rf"\1:{HIDDEN}", argument))
        else:
            out.append(_redact_argument(argument))
        before = argument
    return out


def _names_secret(argument: str) -> bool:
    """Return whether an argument is a flag whose value, the next word, is a secret."""
    return argument.startswith("-") and "=" not in argument and SECRET_NAME.search(argument.lstrip("-")) is not None


def _redact_argument(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    if equals and SECRET_NAME.search(name.lstrip("-")):
        return f"{name}={HIDDEN}"
    shown = SECRET_VALUE.sub(HIDDEN, argument)
    shown = SECRET_HEADER.sub(rf"\1{HIDDEN}", shown)
    shown = BEARER.sub(rf"\1 {HIDDEN}", shown)
    shown = SECRET_ASSIGNMENT.sub(rf"\1\2{HIDDEN}", shown)
    shown = USER_PASSWORD_INSIDE.sub(rf"\1\2\3:{HIDDEN}", shown)
    return URL_PASSWORD.sub(rf"\1:{HIDDEN}", shown)
