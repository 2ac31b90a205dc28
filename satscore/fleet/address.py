"""Where the collector listens: ``collector.json`` in the run directory, and trying what it says."""

import contextlib
import errno
import fcntl
import ipaddress
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from satscore.errors import RecordError
from satscore.fleet.wire import PROTOCOL_VERSION
from satscore.record.files import write_atomic

COLLECTOR_FILE = "collector.json"
TRY_S = 2.0
"""All addresses are tried at once for so long; those of other networks never answer."""
_MOST_BYTES = 1 << 16
_SIOCGIFADDR = 0x8915
"""linux/sockios.h: the IPv4 address of an interface."""
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")
_GLOBAL_SCOPE = "00"
"""Of the lines there; link-local addresses need an interface's name."""


class CollectorAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``collector.json``."""

    version: int
    """PROTOCOL_VERSION."""
    hostname: str
    addresses: list[str]
    """Numeric; no look-up of a name delays anybody."""
    port: int
    pid: int
    started_ns: int
    """Wall time, ns."""


def write_address(directory: Path, port: int, hostname: str, started_ns: int) -> None:
    """Say in the run directory where this process listens.

    Raises:
        OSError: The file system refuses.
    """
    content = CollectorAddress(
        version=PROTOCOL_VERSION,
        hostname=hostname,
        addresses=own_addresses(),
        port=port,
        pid=os.getpid(),
        started_ns=started_ns,
    )
    write_atomic(directory / COLLECTOR_FILE, msgspec.json.encode(content) + b"\n")


def read_address(directory: Path) -> CollectorAddress | None:
    """Return where the collector of a run listens; None: it has not said so.

    Raises:
        OSError: The directory cannot be read.
        RecordError: The file is none of ours, or of another version; names it.
    """
    path = directory / COLLECTOR_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        # Opening the directory makes NFS ask its server again before the next look.
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MOST_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    try:
        found = msgspec.json.decode(data, type=CollectorAddress)
    except (msgspec.DecodeError, ValueError) as error:
        raise RecordError(f"{path}: {error}", hint="the file was changed or damaged") from error
    if found.version != PROTOCOL_VERSION:
        raise RecordError(
            f"{path}: the collector speaks version {found.version} of the protocol, this satscore {PROTOCOL_VERSION}",
            hint="use the same satscore in all ranks",
        )
    return found


def reachable(hosts: Sequence[str], port: int) -> list[str]:
    """Return the ZeroMQ endpoints at which somebody listens, in the given order; waits TRY_S for the first.

    Args:
        hosts: Addresses or names; a name is looked up, which may take longer than that.
        port: TCP port.

    Raises:
        OSError: There are no more sockets to be had.
    """
    give_up_s = time.monotonic() + TRY_S
    found: list[tuple[int, str]] = []
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for at, (family, address) in enumerate(_resolved(hosts, port)):
            trial = stack.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            if trial.connect_ex(address) in (0, errno.EINPROGRESS):
                selector.register(trial, selectors.EVENT_WRITE, (at, address[0], trial))
        while not found and selector.get_map() and (left_s := give_up_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                selector.unregister(key.fileobj)
                at, name, trial = key.data
                if not trial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    found.append((at, _endpoint(name, port)))
    return [endpoint for _, endpoint in sorted(found)]


def own_addresses() -> list[str]:
    """Return the addresses of this host, IPv4 first; 127.0.0.1 if it has no other."""
    v4 = [address for _, name in socket.if_nameindex() if (address := _ipv4_of(name))]
    return [one for one in (*v4, *_ipv6()) if not ipaddress.ip_address(one).is_loopback] or ["127.0.0.1"]


def _resolved(hosts: Sequence[str], port: int) -> list[tuple[int, tuple[str, int]]]:
    out: list[tuple[int, tuple[str, int]]] = []
    for host in hosts:
        with contextlib.suppress(OSError, UnicodeError):
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                out.append((family, (str(address[0]), port)))
    return list(dict.fromkeys(out))


def _endpoint(address: str, port: int) -> str:
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def _ipv4_of(interface: str) -> str | None:
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, contextlib.suppress(OSError):
        return socket.inet_ntoa(fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)[20:24])
    return None


def _ipv6() -> list[str]:
    with contextlib.suppress(OSError):
        lines = [line.split() for line in _IPV6_ADDRESSES.read_text().splitlines()]
        return [str(ipaddress.IPv6Address(int(line[0], 16))) for line in lines if line[3] == _GLOBAL_SCOPE]
    return []
