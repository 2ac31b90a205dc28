"""How wide text is where a launcher has put a pipe between a rank and the terminal."""

import os
from collections.abc import Iterator

import pytest

from satscore.cli.output import LEAST_WIDTH, NO_TERMINAL_WIDTH, terminal_width


@pytest.fixture
def pipe() -> Iterator[int]:
    read, write = os.pipe()
    yield write
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("stated", "width"),
    [("80", 80), ("200", 200), ("5", LEAST_WIDTH), *((bad, NO_TERMINAL_WIDTH) for bad in ("", "-1", "wide", "123456"))],
)
def test_without_a_terminal_columns_tells(pipe: int, monkeypatch: pytest.MonkeyPatch, stated: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", stated)
    assert terminal_width(pipe) == width
