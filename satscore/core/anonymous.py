"""Text that can be pasted into a public issue: no names, no UUIDs, no values of the environment."""

import re
from collections.abc import Iterable

_UUID = re.compile(r"\b((?:GPU|MIG)-[0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_VARIABLE = re.compile(r"\b([A-Z][A-Z0-9_]{2,})=('[^']*'|\"[^\"]*\"|[^\s;,)]+)")


def anonymise(text: str, home: str, names: Iterable[str]) -> str:
    """Return a text without what tells who ran this, where.

    Args:
        text: What may hold paths, UUIDs and ``NAME=value``.
        home: The user's home directory, shown as ``~``; empty: none.
        names: User and host names; they are hidden where they are a part of a path. Elsewhere they
            never stand in our texts, and a user called ``power`` must not cost us the word.
    """
    text = _UUID.sub(r"\1", text)
    text = _VARIABLE.sub(r"\1=...", text)
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", text)
    for name in names:
        if name:
            text = re.sub(rf"(?<=/){re.escape(name)}(?![\w-])", "...", text)
    return text
