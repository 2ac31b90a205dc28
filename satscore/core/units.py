"""Units and scales: the only place with powers of ten and two.

Inside the core every quantity has one unit, named in the identifier: fractions (1 = the bound),
W, J, MHz, B, B/s, FLOP/s, ns on the run's axis. Points (0..100) exist only in the summary.
"""

NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
US_PER_S = 1_000_000
US_PER_MS = 1_000
MS_PER_S = 1_000
PPM = 1_000_000
"""Fractions in the mergeable sums are integers in parts per million (docs/method.md, "Sums")."""
HZ_PER_MHZ = 1e6
BITS_PER_BYTE = 8
DDR_TRANSFERS_PER_CLOCK = 2
"""HBM and GDDR alike, as NVML reports the memory clock."""
MIB = 1 << 20
POINTS = 100.0


def points(frac: float) -> float:
    """Return a fraction as points of the score (0..100)."""
    return POINTS * frac
