"""Whether anybody listens at the address of a host engine."""

import errno
import os
import socket

from satscore.counters.dcgm.address import UNIX, host_and_port


class Listener:
    """Asks whether somebody listens at an address, without waiting: a dead engine costs no process and no time.

    The name is looked up once, here: that may take long, and later nobody has the time.

    Args:
        address: As ``checked_address`` returns it.
    """

    def __init__(self, address: str) -> None:
        self._socket: socket.socket | None = None
        self._problem = ""
        self._targets: list[tuple[int, str | tuple[object, ...]]] = []
        self._left: list[tuple[int, str | tuple[object, ...]]] = []
        if address.startswith(UNIX):
            self._targets = [(socket.AF_UNIX, address.removeprefix(UNIX))]
            return
        host, port = host_and_port(address)
        try:
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
            self._targets = [(family, target) for family, _, _, _, target in found]
        except OSError as error:
            self._problem = error.strerror or str(error)

    def begin(self) -> None:
        """Start asking."""
        self.close()
        self._left = list(self._targets)

    def answer(self) -> str | None:
        """Return an empty text if somebody listens, why not if nobody does, None while that is not known."""
        while self._left:
            code = self._connect(*self._left[0])
            if code in (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN):
                return None
            self.close()
            if code in (0, errno.EISCONN):
                return ""
            self._problem = os.strerror(code)
            del self._left[0]
        return self._problem

    def _connect(self, family: int, target: str | tuple[object, ...]) -> int:
        try:
            if self._socket is None:
                self._socket = socket.socket(family, socket.SOCK_STREAM)
                self._socket.settimeout(0)
            return self._socket.connect_ex(target)
        except OSError as error:  # a family that this machine has not
            return error.errno or errno.EIO

    def close(self) -> None:
        """Stop asking."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
