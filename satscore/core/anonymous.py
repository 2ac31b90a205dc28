"""Text that can be pasted into a public issue: no names of people or hosts, no values of the environment."""

import re
from collections.abc import Iterable

HIDDEN = "..."
_UUID = re.compile(r"((?:GPU|MIG)-[0-9a-f]{8})-[0-9a-f-]+|([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_VARIABLE = re.compile(r"\b([A-Z][A-Z0-9_]{2,})=('[^']*'|\"[^\"]*\"|[^\s;,)]+)")
_HOMES = re.compile(r"(/(?:home|users)/)[^/\s'\":;,)]+", re.IGNORECASE)
_LETTER = r"[^\W_]"


def anonymise(text: str, home: str, names: Iterable[str]) -> str:
    """Return a text without what tells who ran this, where.

    Args:
        text: What may hold paths, UUIDs and ``NAME=value``.
        home: The user's home directory, shown as ``~``; empty: none. Those of others lose their names.
        names: User and host names, hidden wherever they stand as a word: between anything but letters and
            digits, in capitals or not. A user called ``power`` costs us that word, which is better than the name.
    """
    text = _UUID.sub(r"\1\2", text)
    text = _VARIABLE.sub(rf"\1={HIDDEN}", text)
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", text)
    text = _HOMES.sub(rf"\1{HIDDEN}", text)
    # The longest first: of node7.example.org nothing may stay when node7 is a name too.
    words = "|".join(re.escape(name) for name in sorted(set(names), key=len, reverse=True) if name)
    return re.sub(rf"(?<!{_LETTER})(?:{words})(?!{_LETTER})", HIDDEN, text, flags=re.IGNORECASE) if words else text
