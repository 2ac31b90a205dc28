"""The series of one GPU while the run goes on: appended to, and packed hour by hour.

Most columns are constant or nearly so, the others noise of two bytes: packed, a day of a GPU is some 3 MB.
"""

import zlib

import numpy as np
import numpy.typing as npt

from satscore.core.intervals import Q
from satscore.core.job_series import CENTI, SERIES_COLUMNS
from satscore.core.losses import PARTS
from satscore.core.readings import IntArray
from satscore.core.units import MS_PER_S, PPM, US_PER_MS
from satscore.core.window_rows import MILLI, WindowRows

CHUNK = 4096
"""Rows that are packed together: an hour and a bit."""
FASTEST = 1
"""Level of compression: the others take ten times as long for a tenth of the size."""
_Ints = npt.NDArray[np.int32]
_Packed = tuple[int, bytes]
"""A divisor of all values, and the quotients byte by byte: first the lowest byte of each, ..."""


class GpuSeries:
    """The columns of SERIES_COLUMNS for one GPU, a row per second of wall time.

    Args:
        profile: Key of PROFILES: whose score is kept.

    Attributes:
        first_index: Second of the first row.
    """

    def __init__(self, profile: str) -> None:
        self.first_index = 0
        self._profile = profile
        self._length = 0
        self._packed: list[dict[str, _Packed]] = []
        self._open: dict[str, _Ints] = {}

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def append(self, rows: WindowRows) -> None:
        """Append windows, after all that came before."""
        if len(rows) == 0:
            return
        if self._length == 0:
            self.first_index = int(rows.index[0])
        at, values = rows.index - self.first_index, _columns_of(rows, self._profile)
        for chunk in range(int(at[0]) // CHUNK, int(at[-1]) // CHUNK + 1):
            while len(self._packed) < chunk:
                self._pack()
            mine = at // CHUNK == chunk
            for name, column in values.items():
                if name in self._open or column[mine].any():
                    self._open.setdefault(name, np.zeros(CHUNK, dtype=np.int32))[at[mine] % CHUNK] = column[mine]
        self._length = int(at[-1]) + 1

    def columns(self) -> dict[str, IntArray]:
        """Return the columns that are not 0 throughout, shape (n,) each."""
        found = {*(name for chunk in self._packed for name in chunk), *self._open}
        return {name: self.column(name) for name in SERIES_COLUMNS if name in found}

    def column(self, name: str, begin: int = 0) -> IntArray:
        """Return one of SERIES_COLUMNS, shape (n - begin,).

        Args:
            name: Its name.
            begin: The first row; what was packed before it is not unpacked.
        """
        first = min(begin // CHUNK, len(self._packed))
        out = np.zeros((len(self._packed) + 1 - first) * CHUNK, dtype=np.int64)
        for i, chunk in enumerate(self._packed[first:]):
            if name in chunk:
                out[i * CHUNK : (i + 1) * CHUNK] = _unpacked(chunk[name])
        if name in self._open:
            out[-CHUNK:] = self._open[name]
        return out[begin - first * CHUNK : self._length - first * CHUNK]

    def _pack(self) -> None:
        self._packed.append({name: _pack(column) for name, column in self._open.items()})
        self._open = {}


class SeriesRows:
    """Some rows of the series of one GPU as a series of their own: to be added to a sum, or taken from it again.

    Rows are only ever appended, so they are the same whenever they are looked at; nothing is copied before.

    Args:
        series: The whole.
        begin: Its first row here.
        stop: The row after the last one.
        is_taken: Whether the rows count as negative.

    Attributes:
        first_index: Second of the first row.
    """

    def __init__(self, series: GpuSeries, begin: int, stop: int, *, is_taken: bool = False) -> None:
        self.first_index = series.first_index + begin
        self._series = series
        self._begin = begin
        self._length = stop - begin
        self._is_taken = is_taken

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def columns(self) -> dict[str, IntArray]:
        """Return all columns, shape (n,) each."""
        return {name: self.column(name) for name in SERIES_COLUMNS}

    def column(self, name: str) -> IntArray:
        """Return one of SERIES_COLUMNS, shape (n,)."""
        rows = self._series.column(name, self._begin)[: self._length]
        return -rows if self._is_taken else rows


def _pack(column: _Ints) -> _Packed:
    """Return a column small: shares of whole windows are multiples of 1,000 ms, and high bytes are much alike."""
    divisor = MS_PER_S if not (column % MS_PER_S).any() else 1
    quotient = column // np.int32(divisor)
    return divisor, zlib.compress(quotient.view(np.uint8).reshape(-1, quotient.itemsize).T.tobytes(), FASTEST)


def _unpacked(packed: _Packed) -> _Ints:
    divisor, data = packed
    planes = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(4, -1)
    column: _Ints = np.ascontiguousarray(planes.T).view(np.int32)[:, 0] * np.int32(divisor)
    return column


def _columns_of(rows: WindowRows, profile: str) -> dict[str, IntArray]:
    """Return what windows add to each column, shape (m,) each; all fit into 32 bits."""
    length_ms = _ms(rows.length_us)
    out = {"gpus": (rows.length_us > 0).astype(np.int64), "time_ms": length_ms}
    out["complete_ms"] = _ms(rows.time_us(f"complete_us:{profile}"))
    shares = {"sat": f"sat:{profile}", "sat_hi": f"sat_hi:{profile}", "attainable": "attainable"}
    shares |= {f"loss:{part}": f"loss:{part}" for part in PARTS}
    shares |= {"v2": "v2", "v2_squared": "v2_squared"}
    for resource in ("tensor", "dram"):
        out[f"{resource}_ms"] = _ms(rows.time_us(f"complete_us:{resource}"))
        shares[resource] = f"sat:{resource}"
    out["levels_ms"] = _ms(rows.time_us("levels_us"))
    out |= {name: rows.share(share) * length_ms for name, share in shares.items()}
    out |= _mean(rows, "engine", "engine", PPM)
    out |= _busier_host_link(rows)
    for scope in ("gpu", "module"):
        out |= _mean(rows, f"power_{scope}", f"power_{scope}_w", CENTI)
    return out


def _mean(rows: WindowRows, name: str, quantity: str, parts: int) -> dict[str, IntArray]:
    """Return a quantity's mean in so many parts of its unit, times its known time; and that time."""
    scale = PPM if parts == PPM else MILLI
    known_ms, mean = _ms(rows.known_us[Q[quantity]]), rows.means[Q[quantity]] * parts // scale
    return {f"{name}_ms": known_ms, name: np.minimum(mean, np.iinfo(np.int32).max // 1_000) * known_ms}


def _busier_host_link(rows: WindowRows) -> dict[str, IntArray]:
    """Return the traffic to the host over PCIe or C2C, whichever is the busier one in a window."""
    pcie, c2c = (_mean(rows, "host_tx", f"link_{link}_tx", PPM) for link in ("pcie", "c2c"))
    busier = c2c["host_tx"] > pcie["host_tx"]
    unknown = pcie["host_tx_ms"] == 0
    return {name: np.where(busier | unknown, c2c[name], pcie[name]) for name in pcie}


def _ms(time_us: IntArray) -> IntArray:
    return (time_us + US_PER_MS // 2) // US_PER_MS
