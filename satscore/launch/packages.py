"""Our own packages before the command's: PYTHONPATH is there for the command, and may hold another numpy."""

import os
import sys


def prefer_own_packages() -> None:
    """Let modules be found in our own installation first, in PYTHONPATH and the current directory last.

    Clusters set PYTHONPATH to packages of another Python, which do not load in ours. The command's
    environment is not touched.
    """
    absolute = os.path.abspath
    try:
        foreign = {absolute(entry) for entry in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep))}
        sys.path.sort(key=lambda entry: absolute(entry) in foreign)
    except OSError:
        return  # the current directory has been deleted: then it holds no package either
