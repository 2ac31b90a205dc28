"""satscore: how close a GPU job came to its hardware bounds, and where the rest went.

Importing this package imports nothing else: the path from the command line to the spawned child
is the standard library only (docs/overhead.md).
"""

__version__ = "0.1.0"
