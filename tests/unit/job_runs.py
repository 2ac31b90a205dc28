"""Jobs of many ranks as values: what each rank knows at its end, and the ways in which a result gets to know it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from satscore.core.hosts import Hosts
from satscore.core.job_series import SeriesSum
from satscore.core.placement import Placement
from satscore.core.summary import Summary, encode
from satscore.core.wire import decode_series
from satscore.fleet.collector import Collected
from satscore.fleet.wire import Part
from satscore.record.run_file import FORMAT_VERSION, JobIdentity, RunEnd, RunFile, write_run_file
from satscore.record.stream import StreamWriter
from satscore.record.sums_file import RankRecord, encode_sums, sums_name
from satscore.run.job_hosts import encode_hosts
from satscore.run.part_maker import PartMaker
from satscore.run.rank_gpus import certain_gpus
from tests.unit.runs import COMMAND, Run, batches, rows, simulated
from tests.unit.sim_runs import run_end, run_start

KEY = "daint-4711.0"
SPEC, SECONDS = "sim:gh200x4", 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRun:
    """One rank of a job at its end; without a run it had no GPU."""

    run: Run | None
    content: RunFile
    is_final: bool = True

    @property
    def rank(self) -> int:
        """Its number."""
        assert self.content.start.job is not None
        return self.content.start.job.rank

    def ended(self, **changes: object) -> "RankRun":
        """Return it with another end."""
        assert self.content.end is not None
        end = msgspec.structs.replace(self.content.end, **changes)
        return self.with_(end=end)

    def lost(self) -> "RankRun":
        """Return it without an end."""
        return replace(self.with_(end=None), is_final=False)

    def with_(self, **changes: object) -> "RankRun":
        """Return it with other things in what it says of itself."""
        return replace(self, content=msgspec.structs.replace(self.content, **changes))


def content_of(rank: int, world: int, hostname: str, *, local: int = 0, end: RunEnd | None = None) -> RunFile:
    """Return what a rank of a job says of itself."""
    job = JobIdentity(launcher="slurm", rank=rank, world=world, local_rank=local, local_world=2, key=KEY)
    start = msgspec.structs.replace(run_start(COMMAND, label="demo"), job=job, hostname=hostname)
    start = msgspec.structs.replace(start, run_id=f"{hostname}-20260314T093000-{rank}")
    end = end or run_end(float(SECONDS), ["a note of all", f"a note of rank {rank}"])
    return RunFile(format_version=FORMAT_VERSION, satscore_version="1.2.3", start=start, end=end)


@cache
def four_ranks(world: int = 4) -> tuple[RankRun, ...]:
    """Return four ranks on two nodes, a GPU each, that begin one after the other."""
    whole, out = simulated(SPEC, SECONDS), []
    for i in range(4):
        mine = rows(whole.table, (whole.table.gpu == i) & (whole.table.start_ns >= i * 7_000_000_000))
        gpu = msgspec.structs.replace(whole.header.gpus[i], index=0)
        header = msgspec.structs.replace(
            whole.header, rank=i, local_rank=i % 2, hostname=f"nid{i // 2}", gpus=[gpu], grid_offset_ns=0
        )
        run = Run(header=header, table=replace(mine, gpu=np.zeros_like(mine.gpu)))
        content = content_of(i, world, header.hostname, local=i % 2)
        assert content.end is not None
        until = msgspec.structs.replace(content.end, scored_until_ns=int(mine.end_ns.max()))
        out.append(RankRun(run=run, content=msgspec.structs.replace(content, end=until)))
    return tuple(out)


def record_of(one: RankRun) -> RankRecord:
    """Return a rank as it is written as sums."""
    assert one.run is not None
    session, header = one.run.session(batch=500), one.run.header
    certain = certain_gpus(one.content.placement, header.gpus)
    return RankRecord(header=header, state=session.state(), bounds_keys=session.bounds_keys, certain=certain)


def part_of(one: RankRun, hosts: Hosts | None = None) -> Part:
    """Return the last part that a rank sends."""
    hostname, rank = one.content.start.hostname, one.rank
    maker = PartMaker(hostname, rank, "x")
    if one.run is None:
        return maker.make(one.content, None, None, is_final=one.is_final)
    session = one.run.session(batch=500)
    return maker.make(
        one.content,
        one.run.header,
        session,
        session.counted(one.content.placement or Placement()),
        is_final=one.is_final,
        hosts=encode_hosts(hosts) if hosts else b"",
    )


def collected(parts: Iterable[Part], notes: Sequence[str] = ()) -> Collected:
    """Return what a collector has of parts."""
    total, latest = SeriesSum(), {}
    for part in parts:
        if part.series:
            one = decode_series(part.series, "part")
            total.add(one.first_index, one.length, one.columns)
        latest[part.rank] = msgspec.structs.replace(part, series=b"")
    return Collected(parts=latest, series=total, live={}, last_heard_s={}, offsets_ns={}, notes=list(notes))


def kept_as_readings(directory: Path, ranks: Iterable[RankRun]) -> Path:
    """Write the files of ranks that keep readings."""
    for one in _begun(directory, ranks):
        assert one.run is not None
        header = one.run.header
        writer = StreamWriter(directory / f"readings-{header.hostname}-{header.rank}.arrows", header)
        for table in batches(one.run.table, 500):
            writer.append(table)
        writer.close()
    return directory


def kept_as_sums(directory: Path, ranks: Iterable[RankRun]) -> Path:
    """Write the files of ranks that keep sums."""
    for one in _begun(directory, ranks):
        made = record_of(one)
        (directory / sums_name(made.header)).write_bytes(encode_sums("train", None, [made]))
    return directory


def _begun(directory: Path, ranks: Iterable[RankRun]) -> list[RankRun]:
    directory.mkdir(exist_ok=True)
    given = list(ranks)
    for one in given:
        write_run_file(directory, one.content)
    return [one for one in given if one.run is not None]


def comparable(summary: Summary) -> bytes:
    """Return a summary without what depends on where it was made from."""
    source = msgspec.structs.replace(summary.source, resolution="sums")
    return encode(
        msgspec.structs.replace(summary, source=source, run=msgspec.structs.replace(summary.run, directory=None))
    )
