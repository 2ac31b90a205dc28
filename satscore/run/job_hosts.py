"""What a rank has read of its host as bytes, and back to the bit: what the collector gets with the last part."""

import zlib

import msgspec
import numpy as np

from satscore.core.host import N_HOST_FIELDS, HostInfo
from satscore.core.host_series import HostBins
from satscore.core.hosts import Hosts
from satscore.core.int_columns import DAMAGED_HINT, Column, packed, unpacked
from satscore.core.readings import IntArray
from satscore.errors import RecordError

HOSTS_VERSION = 1
_KINDS = 4
"""Sum, known time, least and most of every field (core.host_series)."""
_MOST_BYTES = 64 * 2**20
"""Unpacked; a month of one host has a third of it."""
_MOST_INDEX = 2**40
"""A row so far from 1970 is no time."""


class _Hosts(msgspec.Struct, frozen=True, array_like=True):
    version: int
    length: int
    index: Column
    """Steps from row to row."""
    columns: list[Column]
    infos: list[HostInfo]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Hosts).decode


def encode_hosts(hosts: Hosts) -> bytes:
    """Return what was read of a host; a day of it is some 0.3 MB. Empty: nothing was."""
    if not hosts.infos:
        return b""
    bins = hosts.bins
    columns = [packed(bins.rows[kind, field]) for kind in range(_KINDS) for field in range(N_HOST_FIELDS)]
    steps = np.diff(bins.index, prepend=0)
    made = _Hosts(HOSTS_VERSION, len(bins.index), packed(steps), columns, list(hosts.infos))
    return zlib.compress(_encode(made))


def decode_hosts(data: bytes, where: str) -> Hosts:
    """Return what a rank has read of its host.

    Args:
        data: What ``encode_hosts`` made, of this version or an older one.
        where: Whose it is, for messages.

    Raises:
        RecordError: It is none, or of a newer version.
    """
    if not data:
        return Hosts()
    try:
        found = _decode(_inflated(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zlib.error, ValueError) as error:
        raise RecordError(f"{where}: {error}", hint=DAMAGED_HINT) from error
    if found.version > HOSTS_VERSION:
        raise RecordError(f"{where}: version {found.version} is newer than this satscore knows ({HOSTS_VERSION})")
    if not 0 <= found.length <= _MOST_BYTES // (8 * _KINDS * N_HOST_FIELDS):
        raise RecordError(f"{where}: {found.length} rows", hint=DAMAGED_HINT)
    return Hosts(bins=_bins(found, where), infos=tuple(found.infos))


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    out = inflater.decompress(data, _MOST_BYTES)
    if not inflater.eof:
        raise ValueError("cut off, or far too large")
    return out


def _bins(found: _Hosts, where: str) -> HostBins:
    if len(found.columns) != _KINDS * N_HOST_FIELDS or not found.infos:
        raise RecordError(f"{where}: this is not what was read of a host", hint=DAMAGED_HINT)
    steps = unpacked(found.index, found.length, f"{where}.index").astype(np.int64)
    if found.length and (not (np.abs(steps) < _MOST_INDEX).all() or (steps[1:] <= 0).any()):
        raise RecordError(f"{where}.index: rows that are not in order", hint=DAMAGED_HINT)
    rows: IntArray = np.empty((_KINDS * N_HOST_FIELDS, found.length), dtype=np.int64)
    for i, column in enumerate(found.columns):
        rows[i] = unpacked(column, found.length, f"{where}.columns[{i}]")
    return HostBins(np.cumsum(steps), rows.reshape(_KINDS, N_HOST_FIELDS, found.length))
