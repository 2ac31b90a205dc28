"""HOST:PORT as a user states it. Standard library only: checked before the command starts."""

from satscore.errors import UsageError


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        UsageError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16
    if not (colon and bare and is_number) or (":" in bare and bare == host):
        raise UsageError(f"{text!r} is no address of a collector", hint="HOST:PORT, for example nid001234:7777")
    return bare, int(port)
