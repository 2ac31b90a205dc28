"""``python -m satscore`` is the same program as ``satscore``."""

from satscore.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
