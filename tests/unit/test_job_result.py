"""The collector's summary is that of a report on the same ranks, to the bit, whatever became of them."""

import contextlib
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.host import HostInfo, host_reading
from satscore.core.host_series import HostSeries, merge_bins
from satscore.core.hosts import Hosts
from satscore.core.job_series import SeriesSum
from satscore.core.placement import GpuLooks, Placement
from satscore.errors import RecordError
from satscore.fleet.collector import Collected
from satscore.fleet.wire import Part
from satscore.record.run_file import RunFile, write_run_file
from satscore.record.sums_file import SumsFile
from satscore.record.sums_job import JOB_SUMS_FILE
from satscore.run.job_hosts import decode_hosts, encode_hosts
from satscore.run.job_result import summary_of_parts, write_job_sums
from satscore.run.replay import rebuild
from tests.unit.job_runs import (
    RankRun,
    collected,
    comparable,
    content_of,
    four_ranks,
    kept_as_readings,
    kept_as_sums,
    part_of,
)
from tests.unit.runs import MODELS, NS

COMPUTES = GpuLooks(uuid="GPU-of-another-rank", nvml_index=1, searched=True, computes=True)
PARTS_UUIDS = [one.run.header.gpus[0].uuid or "" for one in four_ranks() if one.run]
PARTS = {one.rank: part_of(one) for one in four_ranks()}


def summary_bytes(content: RunFile, given: Collected) -> bytes:
    return comparable(summary_of_parts(content, given, directory=None, models=MODELS))


def test_parts_readings_and_sums_give_one_summary(tmp_path):
    ranks = four_ranks()
    live = summary_of_parts(ranks[0].content, collected(PARTS.values()), directory=None, models=MODELS)
    assert live.job.ranks_count == live.job.gpus_count == 4
    assert live.source.resolution == "sums"
    from_readings = rebuild(kept_as_readings(tmp_path / "full", ranks)).summary
    assert from_readings.source.resolution == "readings"
    assert comparable(live) == comparable(from_readings)
    assert comparable(live) == comparable(rebuild(kept_as_sums(tmp_path / "sums", ranks)).summary)
    assert not any("missing" in note for note in live.notes)


fates = st.sampled_from(("well", "failed", "killed", "lost", "without a GPU", "never heard of"))


BECOMES = (("failed", "lost", "never heard of"), ("killed", "without a GPU", "well"))


def fated(one: RankRun, fate: str) -> RankRun | None:
    if fate == "failed":
        return one.ended(exit_code=1, duration_s=100.0 + one.rank)
    if fate == "killed":
        return one.ended(exit_code=None, exit_signal="SIGKILL")
    if fate == "lost":
        return one.lost()
    if fate == "without a GPU":
        return RankRun(run=None, content=content_of(one.rank, 4, one.content.start.hostname))
    return None if fate == "never heard of" else one


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(fates, min_size=3, max_size=3), st.sampled_from((kept_as_readings, kept_as_sums)))
def test_whatever_becomes_of_the_other_ranks(tmp_path_factory, becomes, kept):
    check_fates(tmp_path_factory.mktemp("x") / "run", becomes, kept)


@pytest.mark.parametrize("becomes", BECOMES)
@pytest.mark.parametrize("kept", [kept_as_readings, kept_as_sums])
def test_some_ranks_end_badly(tmp_path, becomes, kept):
    check_fates(tmp_path / "run", becomes, kept)


def check_fates(directory: Path, becomes: Sequence[str], kept: Callable[[Path, Sequence[RankRun]], Path]) -> None:
    """Parts and files give one summary, and it says who is not there."""
    given_fates = ["well", *becomes]
    ranks = [made for one, fate in zip(four_ranks(), given_fates, strict=True) if (made := fated(one, fate))]
    found = rebuild(kept(directory, ranks)).summary
    assert summary_bytes(ranks[0].content, collected(part_of(one) for one in ranks)) == comparable(found)
    assert found.job.ranks_missing == [i for i, fate in enumerate(given_fates) if fate == "never heard of"]
    assert {one.rank for one in found.job.ranks_failed} == {
        i for i, fate in enumerate(given_fates) if fate in ("failed", "killed")
    }
    assert [one.rank for one in found.job.ranks_lost] == [i for i, fate in enumerate(given_fates) if fate == "lost"]


def test_the_file_of_all_ranks_is_read_like_any_sums(tmp_path):
    """Also where no rank has a file of its own, because each node sees another directory."""
    ranks = four_ranks()
    expected = rebuild(kept_as_sums(tmp_path / "sums", ranks)).summary
    directory = kept_as_readings(tmp_path / "job", ())
    write_run_file(directory, ranks[0].content)
    assert write_job_sums(directory, collected(PARTS.values())) == []
    assert comparable(rebuild(directory).summary) == comparable(expected)
    assert [path.name for path in directory.glob("sums-*")] == [JOB_SUMS_FILE]


def test_gpus_in_the_file_of_all_ranks_count_as_they_did_when_it_was_made(tmp_path):
    """A look after a rank's last part may tell more of its GPUs: too late for the seconds of the job."""
    ranks = four_ranks()
    uuid = PARTS_UUIDS[2]
    elsewhere = Placement(gpus=(GpuLooks(uuid=uuid, nvml_index=0, searched=True, foreign=True), COMPUTES))
    later = ranks[2].with_(placement=elsewhere)
    directory = kept_as_readings(tmp_path / "job", ())
    for one in (ranks[0], ranks[1], later, ranks[3]):
        write_run_file(directory, one.content)
    write_job_sums(directory, collected(PARTS.values()))
    assert rebuild(directory).summary.job.gpus_count == 4


@pytest.mark.parametrize("kept", [kept_as_readings, kept_as_sums])
@pytest.mark.parametrize("own", [(0,), (1, 3), (0, 1, 2, 3)])
def test_what_a_rank_has_kept_itself_wins(tmp_path, kept, own):
    ranks = four_ranks()
    expected = rebuild(kept_as_sums(tmp_path / "sums", ranks)).summary
    directory = kept(tmp_path / "job", [ranks[i] for i in own])
    if 0 not in own:
        write_run_file(directory, ranks[0].content)
    write_job_sums(directory, collected(PARTS.values()))
    found = rebuild(directory).summary
    assert comparable(found) == comparable(expected)
    only_readings = kept is kept_as_readings and len(own) == 4
    assert found.source.resolution == ("readings" if only_readings else "sums")


# --- what came is not all there should be


def test_a_rank_that_sends_rubbish_is_left_out_and_named():
    ranks = four_ranks()
    for change in ({"sums": b"rubbish"}, {"about": b"{"}, {"sums": PARTS[3].sums[:-5]}, {"about": PARTS[1].about}):
        bad = msgspec.structs.replace(PARTS[3], **change)
        parts: list[Part] = [PARTS[0], PARTS[1], PARTS[2], bad]
        found = summary_of_parts(ranks[0].content, collected(parts), directory=None, models=MODELS)
        assert found.job.ranks_count == 3, change
        assert found.job.ranks_missing == [3]
        assert any(note.startswith("ranks are missing: 3 (cannot be read)") for note in found.notes)


def test_nothing_that_came_can_be_used():
    content = four_ranks()[0].content
    bad = [msgspec.structs.replace(part, sums=b"rubbish") for part in PARTS.values()]
    found = summary_of_parts(content, collected(bad), directory=None, models=MODELS)
    assert found.headline.score_pct is None
    assert found.job.ranks_missing_count == 4


def test_a_damaged_series_costs_phases_and_no_score():
    content = four_ranks()[0].content
    whole = collected(PARTS.values())
    total = SeriesSum()
    series = whole.series.series()
    columns = series.columns()
    total.add(series.first_index, len(series), columns | {"sat": columns["sat"] - 2**40})
    found = summary_of_parts(content, msgspec.structs.replace(whole, series=total), directory=None, models=MODELS)
    assert found.headline.score_pct is not None
    assert found.headline.kind == "total"
    assert any(note.startswith("the seconds of the job are damaged") for note in found.notes)


def test_seconds_that_were_taken_back_at_the_ends_are_no_part_of_the_run():
    """A GPU that counted at first, and turned out to be another's, began before the others."""
    content = four_ranks()[0].content
    whole = collected(PARTS.values())
    series, total = whole.series.series(), SeriesSum()
    total.add(series.first_index, len(series), series.columns())
    total.add(series.first_index - 40, 40, {"gpus": np.zeros(40, dtype=np.int64)})
    total.add(series.first_index + len(series), 9, {"gpus": np.zeros(9, dtype=np.int64)})
    later = msgspec.structs.replace(whole, series=total)
    assert summary_bytes(content, later) == summary_bytes(content, whole)


def test_hosts_that_cannot_be_read_cost_a_line():
    content = four_ranks()[0].content
    parts = [PARTS[0], msgspec.structs.replace(PARTS[1], hosts=b"rubbish"), PARTS[2], PARTS[3]]
    found = summary_of_parts(content, collected(parts), directory=None, models=MODELS)
    assert any("what a host did cannot be read: rank 1 on nid0" in note for note in found.notes)
    assert found.job.host is None


def test_what_the_collector_says_is_in_the_notes():
    content = four_ranks()[0].content
    given = collected(PARTS.values(), notes=["two processes claim rank 3"])
    assert "two processes claim rank 3" in summary_of_parts(content, given, directory=None, models=MODELS).notes


# --- what the hosts did


HOST = [
    host_reading(i * NS, (i + 1) * NS, {"cpu_busy_frac": 0.1 * (i % 7), "page_cache_bytes": 1e9}) for i in range(95)
]


def hosts() -> Hosts:
    series = HostSeries(1_790_000_000 * NS)
    series.append(HOST)
    return Hosts(bins=series.bins(), infos=(HostInfo(cpus_count=288, workdir_fs="lustre"),))


def test_hosts_come_back_to_the_bit():
    made = hosts()
    back = decode_hosts(encode_hosts(made), "h")
    assert back.bins.same_as(made.bins)
    assert back.infos == made.infos
    assert encode_hosts(Hosts()) == b""
    assert decode_hosts(b"", "h").infos == ()


def test_a_day_of_a_host_is_small():
    series = HostSeries(0)
    rng = random.Random(7)
    series.append([host_reading(i * 10 * NS, (i + 1) * 10 * NS, {"cpu_busy_frac": rng.random()}) for i in range(8640)])
    assert len(encode_hosts(Hosts(bins=series.bins(), infos=(HostInfo(),)))) < 400_000


@pytest.mark.parametrize("seed", range(60))
def test_hostile_bytes_of_a_host_are_an_error_or_hosts(seed):
    rng, data = random.Random(seed), bytearray(zlib.decompress(encode_hosts(hosts())))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    given = zlib.compress(bytes(data[: rng.choice([None, rng.randrange(len(data))])]))
    with contextlib.suppress(RecordError):
        Hosts(bins=merge_bins([decode_hosts(given, "h").bins])).item()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x", "h: "),
        (zlib.compress(b"\0" * 2**27), "far too large"),
        (zlib.compress(msgspec.msgpack.encode([2, 0, ["", 0, b""], [], [{}]])), "version 2 is newer"),
        (zlib.compress(msgspec.msgpack.encode([1, 2**40, ["", 0, b""], [], [{}]])), "rows"),
        (zlib.compress(msgspec.msgpack.encode([1, 1, ["", 0, b""], [], [{}]])), "not what was read of a host"),
    ],
)
def test_what_is_no_host_is_named(data, why):
    with pytest.raises(RecordError, match=why):
        decode_hosts(data, "h")


def test_hosts_come_with_the_last_parts():
    ranks = four_ranks()
    parts = [part_of(ranks[0], hosts()), part_of(ranks[2], hosts()), PARTS[1], PARTS[3]]
    found = summary_of_parts(ranks[0].content, collected(parts), directory=None, models=MODELS)
    assert found.job.host is not None
    assert found.job.host.workdir_fs == ["lustre"]


# --- the file of all ranks


def test_a_full_disk_leaves_no_half_of_the_file_of_all_ranks(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    (problem,) = write_job_sums(tmp_path, collected(PARTS.values()))
    assert "No space left" in problem
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_is_not_in_the_file_of_all_ranks(tmp_path):
    bad = msgspec.structs.replace(PARTS[3], sums=b"rubbish")
    (problem,) = write_job_sums(tmp_path, collected([PARTS[0], PARTS[1], PARTS[2], bad]))
    assert "not a file of sums" in problem
    with SumsFile(tmp_path / JOB_SUMS_FILE) as file:
        assert [head.rank for head in file.head.ranks] == [0, 1, 2]


def test_a_damaged_file_of_all_ranks_costs_the_ranks_that_are_only_there(tmp_path):
    ranks = four_ranks()
    directory = kept_as_sums(tmp_path / "job", ranks[:2])
    write_job_sums(directory, collected(PARTS.values()))
    path = directory / JOB_SUMS_FILE
    path.write_bytes(path.read_bytes()[:-9])
    found = rebuild(directory).summary
    assert found.job.ranks_missing == [2, 3]
    assert any(JOB_SUMS_FILE in note for note in found.notes)
    two = summary_of_parts(ranks[0].content, collected([PARTS[0], PARTS[1]]), directory=None, models=MODELS)
    assert found.job.phases == two.job.phases


def test_positions_of_names_that_are_none_are_named(tmp_path):
    write_job_sums(tmp_path, collected(PARTS.values()))
    with SumsFile(tmp_path / JOB_SUMS_FILE) as file:
        for names in (b"\xff\xff", b"\x00"):
            file.head.ranks[0] = msgspec.structs.replace(file.head.ranks[0], names=names)
            with pytest.raises(RecordError, match=r"\$\.ranks\[0\]\.names: "):
                file.gpus(0)
