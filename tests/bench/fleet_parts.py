"""What the ranks of the bench of the fleet send: parts of one simulated GPU under the names of all ranks."""

import zlib
from pathlib import Path

NS = 1_000_000_000
KEY, HOST_0 = "bench-1.0", "node00000"
RANK, LOCAL_RANK, UUID = 0x7FFF_FFF0, 0x7FFF_FFEF, "GPU-ffffffff-0000-4000-8000-000000000000"
"""What stands in the templates in place of a rank's own."""


def make_templates(path: Path, hours: int, world: int, local_world: int) -> None:
    """Score a GPU for some hours and write what its rank would send of it."""
    import msgspec
    import numpy as np

    from satscore.core.wire import encode_series
    from satscore.record.run_file import JobIdentity
    from satscore.run.models import load_library
    from satscore.run.part_maker import PartMaker
    from satscore.run.session import Session
    from tests.bench.job import BEGIN_S, hour_of_readings, noisy
    from tests.unit.runs import header
    from tests.unit.sim_runs import run_end, run_file, run_start

    minutes, gpus = hour_of_readings()
    gpu = msgspec.structs.replace(gpus[0], uuid=UUID)
    made = header([gpu], source="sim", scenario="sim:gh200x4", data_kind="simulated", hostname=HOST_0, rank=RANK)
    made = msgspec.structs.replace(made, local_rank=LOCAL_RANK)
    session = Session([gpu], load_library({}).models, profile="train", dtype=None, grid_offset_ns=BEGIN_S * NS)
    rng = np.random.default_rng(0)
    for hour in range(hours):
        for minute in minutes:
            session.add(noisy(minute.of_gpu(0), hour, rng))
    job = JobIdentity(launcher="slurm", rank=RANK, world=world, local_rank=LOCAL_RANK, local_world=local_world, key=KEY)
    start = msgspec.structs.replace(run_start(["python", "pretrain.py"]), hostname=HOST_0, job=job)
    part = PartMaker(HOST_0, RANK, "bench").make(run_file(start, None), made, session, [True])
    series = session.state().gpus[0].series
    minute_rows = {name: column[-60:].tolist() for name, column in series.columns().items()}
    templates = {
        "about": part.about,
        "final": msgspec.json.encode(run_file(start, run_end(float(hours * 3600), []))),
        "sums": zlib.decompress(part.sums),
        "series": encode_series([series]),
        "minute": minute_rows,
        "stop_index": series.first_index + len(series),
    }
    path.write_bytes(msgspec.msgpack.encode(templates))


class Templates:
    """Makes the parts of any rank."""

    def __init__(self, path: Path, ranks: int) -> None:
        import msgspec
        import numpy as np

        self._ranks = ranks
        self._held = msgspec.msgpack.decode(path.read_bytes())
        self._minute = {name: np.array(rows) for name, rows in self._held["minute"].items()}
        self._series: dict[int, bytes] = {}

    def part(self, rank: int, number: int, *, is_final: bool = False):
        """Return one of a rank's parts; the first one of rank 1 has the series of all hours."""
        from satscore.fleet.wire import Part

        host = f"node{rank // self._ranks:05d}"
        own = {HOST_0: host, UUID: f"GPU-{rank:08x}-0000-4000-8000-000000000000"}
        about = _replaced(self._held["final" if is_final else "about"], own)
        about = _replaced(about, {str(RANK): str(rank), str(LOCAL_RANK): str(rank % self._ranks)})
        numbers = {RANK: rank, LOCAL_RANK: rank % self._ranks}
        sums = _replaced(self._held["sums"], own)
        for placeholder, mine in numbers.items():
            sums = sums.replace(b"\xce" + placeholder.to_bytes(4, "big"), b"\xce" + mine.to_bytes(4, "big"))
        series = self._held["series"] if (rank, number) == (1, 1) else self._minute_of(number)
        return Part(
            hostname=host,
            rank=rank,
            run_id="bench",
            number=number,
            is_final=is_final,
            about=about,
            sums=zlib.compress(sums, 1),
            series=series,
        )

    def _minute_of(self, number: int) -> bytes:
        from satscore.core.job_series import JobSeries
        from satscore.core.wire import encode_series

        if number not in self._series:
            begin = self._held["stop_index"] + 60 * (number - 1)
            self._series[number] = encode_series([JobSeries(begin, self._minute)])
        return self._series[number]


def _replaced(data: bytes, texts: dict[str, str]) -> bytes:
    for old, new in texts.items():
        data = data.replace(old.encode(), new.encode())
    return data


def rows_of(node: int, ranks: int, at_s: int):
    """Return the live rows of a node's ranks."""
    from satscore.fleet.wire import LiveRank

    values = {"sm_ppm": 901_234, "tensor_ppm": 412_345, "dram_ppm": 523_456, "clock_mhz": 1_755, "power_w": 612}
    values |= {"power_cap_w": 660, "temp_max_c": 61, "throttle_ppm": 120_345, "phase": 3}
    return [
        LiveRank(
            rank=node * ranks + i,
            hostname=f"node{node:05d}",
            gpus_count=1,
            scored_s=at_s,
            score_ppm=612_345 + i,
            engine_ppm=998_765,
            **values,
        )
        for i in range(ranks)
    ]
