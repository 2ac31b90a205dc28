"""satscore: how close a GPU job came to its hardware bounds, and where the rest went.

``satscore.mark(name)`` and ``satscore.progress(step, tokens, flop)`` speak to the run around a
program and do nothing outside one. Importing this package imports nothing else, those two neither
before they are used: the path from the command line to the spawned child is the standard library
only (docs/overhead.md).
"""

__version__ = "0.1.0"
__all__ = ["__version__", "mark", "progress"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.marks import mark, progress
else:

    def __getattr__(name):  # noqa: ANN001, ANN202 - not seen by type checkers, which see the import above
        """Load ``mark`` and ``progress`` when they are first used (PEP 562)."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from satscore import marks  # noqa: PLC0415

        globals().update(mark=marks.mark, progress=marks.progress)
        return globals()[name]
