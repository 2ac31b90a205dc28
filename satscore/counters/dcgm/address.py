"""The address of a host engine as the user writes it. Checked before the command starts: no import of weight."""

import os

from satscore.errors import CounterError

DEFAULT = "127.0.0.1:5555"
"""Where nv-hostengine listens unless it is told otherwise (DCGM User Guide)."""
UNIX = "unix://"
_MAX_PATH_BYTES = 107
"""sun_path of unix(7), less the closing zero."""
_EXAMPLES = "for example 127.0.0.1:5555, [::1]:5555 or unix:///tmp/nv-hostengine"


def checked_address(text: str) -> str:
    """Return the address of a host engine: ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix://PATH``.

    Raises:
        CounterError: It is none of these; says what is wrong with it.
    """
    if text.startswith(UNIX):
        return _checked_path(text)
    if "://" in text:
        raise CounterError(f"{text!r} is no address of a host engine", hint=f"HOST:PORT or unix://PATH, {_EXAMPLES}")
    if text.startswith("/"):
        raise CounterError(f"{text!r} is a path", hint=f"write {UNIX}{text}")
    host, port = host_and_port(text)
    if ":" not in text:
        raise CounterError(f"{text!r} names no port", hint=_EXAMPLES)
    if not host:
        raise CounterError(f"{text!r} names no host", hint=_EXAMPLES)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise CounterError(f"{text!r} has no port from 1 to 65535", hint=_EXAMPLES)
    if ":" in host and not text.startswith("["):
        raise CounterError(f"{text!r} is ambiguous", hint=f"an IPv6 address stands in brackets, {_EXAMPLES}")
    return text


def _checked_path(text: str) -> str:
    path = text.removeprefix(UNIX)
    if not path.startswith("/"):
        raise CounterError(f"{text!r} names no absolute path", hint=_EXAMPLES)
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise CounterError(f"{text!r} is longer than a socket's path can be", hint=f"{_MAX_PATH_BYTES} bytes at most")
    return text


def host_and_port(text: str) -> tuple[str, str]:
    """Return the two parts of an address; IPv6 without its brackets."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]") if text.startswith("[") else host, port
