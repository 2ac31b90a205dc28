"""A rank of the fleet as a process: does what the lines on its standard input say."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from satscore.fleet.collector import Collector
from satscore.fleet.member import Member
from satscore.record.meeting import enter
from tests.fleet.harness import gpu_seconds, part, row, seconds


def main() -> None:
    given = json.loads(sys.argv[1])
    rank, hostname = given["rank"], given["hostname"]
    meeting = enter(Path(given["directory"]), given["key"], hostname=hostname, rank=rank, now_ns=time.time_ns())
    one: Any
    if rank == 0:
        one = Collector(meeting, given["world"])
    else:
        one = Member(meeting, rank=rank, world=given["world"], hostname=hostname, run_id=given["run_id"])
    one.start()
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_done(one, order, rank, hostname, given["run_id"])), flush=True)


def _done(one: Any, order: dict[str, Any], rank: int, hostname: str, run_id: str) -> Any:
    never = threading.Event()
    match order["do"]:
        case "tell":
            one.tell(row(rank, hostname))
        case "send":
            number = order["number"]
            series = seconds(1000 + 10 * number, 10)
            one.send(part(rank, number, hostname=hostname, run_id=run_id, is_final=order["is_final"], series=series))
        case "status":
            return {"acknowledged": one.acknowledged, "offset": one.offset_ns, "contact": one.last_contact_s}
        case "finish":
            return one.finish(time.monotonic() + order["seconds"], never)
        case "notes":
            return one.notes()
        case "collected":
            found = one.collected()
            return {
                "final": sorted(r for r, its in found.parts.items() if its.is_final),
                "live": sorted(found.live),
                "gpu_seconds": gpu_seconds(found.series),
                "notes": found.notes,
            }
        case "close":
            one.close()
        case _:
            raise ValueError(order)
    return None


if __name__ == "__main__":
    main()
