"""Laying text out in lines of a width: labels on the left, parts that are never broken inside."""

import textwrap
from collections.abc import Iterable, Sequence

LABEL = 11
"""Columns of the label."""
MORE = " ..."


def printable(text: str) -> str:
    """Return text without control characters and line breaks: it goes to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def shortened(text: str, room: int) -> str:
    """Return printable text of at most so many columns; what is cut off shows as dots."""
    clean = printable(text)
    return clean if len(clean) <= room else clean[: room - 3] + "..."


class Lines:
    """Makes lines of a width.

    Args:
        width: Columns of a line, the label included.
    """

    def __init__(self, width: int) -> None:
        self.room = width - LABEL
        """Columns beside the label."""

    def line(self, label: str, text: str) -> str:
        """Return one line, cut where it is too long."""
        return f"{label:<{LABEL}}{shortened(text, self.room)}"

    def fitting(self, label: str, texts: Sequence[str]) -> str:
        """Return the first of several wordings that is short enough as a line, or the last one cut."""
        return self.line(label, next((text for text in texts if len(text) <= self.room), texts[-1]))

    def flow(
        self, label: str, parts: Iterable[str], separator: str = " | ", *, indent: str = "", most: int | None = None
    ) -> list[str]:
        """Return parts in as few lines as hold them; a line breaks between parts only.

        Args:
            label: Of the first line.
            parts: One longer than a line is cut.
            separator: Between parts of one line.
            indent: Before the parts of each line.
            most: Lines at most; what is left out shows as dots.
        """
        given = list(parts)
        rows = self._rows(given, separator, indent, self.room)
        if most is not None and len(rows) > most:
            rows = self._rows(given, separator, indent, self.room - len(MORE))[:most]
            rows[-1] = shortened(rows[-1], self.room - len(MORE)) + MORE
        return [self.line("" if i else label, row) for i, row in enumerate(rows)]

    def wrapped(self, text: str) -> list[str]:
        """Return a text broken between words, without a label."""
        return textwrap.wrap(printable(text), self.room)

    @staticmethod
    def _rows(parts: Sequence[str], separator: str, indent: str, room: int) -> list[str]:
        rows = list[str]()
        for part in parts:
            if rows and len(rows[-1]) + len(separator) + len(part) <= room:
                rows[-1] += separator + part
            else:
                rows.append(indent + part)
        return rows
