"""One row per GPU of the job: what the comparison between ranks sees of it."""

import msgspec


class RankName(msgspec.Struct, frozen=True, kw_only=True):
    """Which GPU of the job: as the user finds it again."""

    rank: int
    gpu_index: int
    """Position among the GPUs of the rank."""
    nvml_index: int | None
    """The driver's number, as nvidia-smi shows it."""
    hostname: str


class RankRow(msgspec.Struct, frozen=True, kw_only=True):
    """Means of one GPU over the part of the run that is judged; fractions are of time, None is unknown.

    The levels are those of docs/method.md, "Loss tree", over windows in which all of them are known.
    """

    name: RankName
    group: str
    """Ranks are compared within groups of equal role; one group unless the user says otherwise."""
    known_s: float
    """Time with known levels, s."""
    engine: float | None
    """V1."""
    busy: float | None
    """V2: SMs active outside communication, mixed read intervals counted as compute."""
    busy_lo: float | None
    """V2 if mixed read intervals held as much communication as they can."""
    saturation: float | None
    """V4."""
    idle_frac: float | None
    comm_frac: float | None
    wait_frac: float | None
    engine_low_frac: float | None
    """Share of windows in which the engine was active for less than 2 %."""
    score_points: float | None
    coverage_frac: float
    sm_clock_mhz: float | None
    temp_max_c: float | None
    throttle: dict[str, float | None]
    """Share of time with clocks held down, by reason (power, thermal, hw, ...)."""
    ecc_uncorrected_count: int | None
    xid_count: int | None
