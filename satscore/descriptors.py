"""Which descriptors a process that we start must not get."""

import contextlib
import os
import resource


def inherited_descriptors() -> list[int]:
    """Return the descriptors above 2 that our caller handed to us for the command; no helper of ours may hold them."""
    inherited = []
    # One above the limit of files, which was lowered after it was opened, makes posix_spawn fail with EBADF.
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are what is needed
        with contextlib.suppress(OSError):
            if 2 < int(name) < limit and os.get_inheritable(int(name)):
                inherited.append(int(name))
    return inherited
