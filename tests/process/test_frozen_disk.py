"""A file system that hangs: the command and its summary do not wait for it. Needs root and a loop device."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, TIMEOUT_S, environment, finish, wait_for

NEEDED = ("mkfs.ext4", "losetup", "fsfreeze", "mount", "umount")


def tool(name: str, *words: str) -> int:
    return subprocess.run([name, *words], capture_output=True, timeout=TIMEOUT_S, check=False).returncode


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, which can be frozen."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'its tools'}")
    image, place = tmp_path / "image", tmp_path / "volume"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    place.mkdir()
    if tool("mkfs.ext4", "-q", str(image)) or tool("mount", "-o", "loop", str(image), str(place)):
        pytest.skip("no loop device here")
    yield place
    tool("fsfreeze", "-u", str(place))
    tool("umount", str(place))


@pytest.mark.slow
def test_summary_does_not_wait_for_a_frozen_disk(volume: Path, tmp_path: Path) -> None:
    run, said = volume / "run", tmp_path / "stderr"
    command = ["sh", "-c", f"sleep 4; fsfreeze -f {volume}; sleep 7; exit 3"]
    with said.open("wb") as stderr:
        wrapper = subprocess.Popen(
            [*PROGRAM, "--source", "sim:llm", "--out", str(run), "--", *command], stderr=stderr, env=environment()
        )
        wait_for(lambda: b"saturation" in said.read_bytes(), "the summary, with the disk still frozen")
        assert b"files not (all) written in time" in said.read_bytes()
        tool("fsfreeze", "-u", str(volume))
        assert wrapper.wait(TIMEOUT_S) == 3
    assert b"readings" in said.read_bytes()
    assert finish([*PROGRAM, "report", str(run)]).returncode == 0


@pytest.mark.slow
def test_the_ranks_of_a_job_are_summed_up_beside_a_frozen_disk(volume: Path, tmp_path: Path) -> None:
    said = tmp_path / "stderr"
    places = {"PMIX_NAMESPACE": "ns", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    wrappers = []
    with said.open("wb") as stderr:
        for rank in ("0", "1"):
            freezes = f"sleep 1; fsfreeze -f {volume}; sleep 7" if rank == "0" else "sleep 5"
            added = places | {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank}
            wrappers.append(
                subprocess.Popen(
                    [
                        *PROGRAM,
                        "--source",
                        "sim",
                        "--out",
                        str(volume / "run"),
                        "--",
                        "sh",
                        "-c",
                        f"sleep 4; {freezes}",
                    ],
                    stderr=stderr,
                    env=environment(SATSCORE_EXIT_WAIT_S="6", **added),
                )
            )
        try:
            wait_for(lambda: b"2 ranks on 1 node" in said.read_bytes(), "the summary, with the disk still frozen", 40.0)
            assert b"files not (all) written in time" in said.read_bytes()
        finally:
            tool("fsfreeze", "-u", str(volume))
            statuses = [wrapper.wait(TIMEOUT_S) for wrapper in wrappers]
    assert statuses == [0, 0]
