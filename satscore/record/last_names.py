"""Tables of names of sums, split once: the files of a job have the same one, thousands of times."""

from collections.abc import Sequence

from satscore.core.wire import split_names


class LastNames:
    """Remembers the last table that was split."""

    def __init__(self) -> None:
        self._last: tuple[list[str], list[tuple[str, str | int]]] = [], []

    def split(self, table: list[str], where: str) -> Sequence[tuple[str, str | int]]:
        """Return family and key of each name.

        Raises:
            RecordError: A name is of no family of the sums.
        """
        last, found = self._last
        if last != table:
            found = split_names(table, where)
            self._last = table, found
        return found


LAST_NAMES = LastNames()
