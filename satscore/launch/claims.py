"""Which GPUs of a node another process of the job counts already: a name per GPU that one process can hold.

The names are those of abstract unix sockets: nothing lies on a disk, and the kernel frees them with their process.
They hold within a network namespace; ranks that have one each see each other's claims nowhere.
"""

import contextlib
import errno
import hashlib
import os
import socket
import threading
from collections.abc import Collection

_HASH_CHARACTERS = 32


class GpuClaims:
    """The claims of one process.

    Args:
        scope: What the processes have in common that count each GPU once: the job's key.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self._held: dict[str, int] = {}
        """Bare descriptors: one that the end of the process closes is no leak to warn of."""
        self._lock = threading.Lock()
        self._is_closed = False

    def update(self, uuids: Collection[str]) -> frozenset[str]:
        """Hold these GPUs and no others; return those that another process holds.

        Those no longer wanted are released first. Where names cannot be held at all, nobody else holds them.
        """
        with self._lock:
            if self._is_closed:
                return frozenset()
            for uuid in self._held.keys() - set(uuids):
                os.close(self._held.pop(uuid))
            return frozenset(uuid for uuid in uuids if uuid not in self._held and not self._take(uuid))

    def close(self) -> None:
        """Release all; nothing is held from then on."""
        with self._lock:
            self._is_closed = True
            for descriptor in self._held.values():
                os.close(descriptor)
            self._held.clear()

    def _take(self, uuid: str) -> bool:
        """Try to hold a GPU; return False only if another process holds it."""
        digest = hashlib.sha256(f"{self._scope}\n{uuid}".encode("utf-8", "backslashreplace")).hexdigest()
        with contextlib.suppress(OSError):  # no descriptor left, no unix sockets
            taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # not inherited (PEP 446)
            try:
                taken.bind(f"\0satscore-{os.getuid()}-{digest[:_HASH_CHARACTERS]}")
            except OSError as error:
                taken.close()
                return error.errno != errno.EADDRINUSE
            self._held[uuid] = taken.detach()
        return True
