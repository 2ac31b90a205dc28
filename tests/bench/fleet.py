"""What the collector of a large job costs: CPU, memory, latency, losses, and how long the end takes.

``python tests/bench/fleet.py [--nodes N] [--ranks N] [--seconds S] [--hours H] [--json FILE]``. One real collector in
a process of its own, and some processes with a real socket per node, which speak as leaders do: the rows of their
ranks once a second, a part per rank and minute of a size as after so many hours, and a last part of all ranks at the
same instant. Once the nodes are spread over the second, as they are; once they all speak at once. Prints, never
asserts: the senders share the machine with the collector, and a machine under load is no reason to fail.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.fleet_parts import HOST_0, KEY, Templates, make_templates  # noqa: E402 - the repository is not on the path before

BUDGET = {"cpu_pct": 50.0, "rss_bytes": 500e6}


# --- the collector, in a process of its own


def collect(options: argparse.Namespace) -> None:
    """Be the collector, and say what is asked on the standard input."""
    import threading

    from satscore.fleet.collector import Collector
    from satscore.record.meeting import enter

    meeting = enter(options.dir / "run", KEY, hostname=HOST_0, rank=0, now_ns=time.time_ns())
    world = options.nodes * options.ranks
    collector = Collector(meeting, world, listen=f"127.0.0.1:{options.port}")
    collector.start()
    print(json.dumps(status()), flush=True)
    templates = Templates(options.dir / "templates", options.ranks)
    for line in sys.stdin:
        answer = status()
        if line.strip() == "gather":
            began_s = time.monotonic()
            collector.take(templates.part(0, 1, is_final=True))
            collector.wait(began_s + 120.0, threading.Event())
            waited_s = time.monotonic()
            collected = collector.collected()
            collected_s = time.monotonic()
            answer |= {"parts": len(collected.parts), "final": sum(p.is_final for p in collected.parts.values())}
            answer |= {"heard": len(collected.live), "notes": collected.notes}
            answer |= {"wait_s": waited_s - began_s, "collected_s": collected_s - waited_s}
            answer |= {"gathered_cpu_s": status()["cpu_s"] - answer["cpu_s"]}
            answer |= {f"gathered_{key}": status()[key] for key in ("rss_bytes", "rss_max_bytes")}
            answer |= summarised(collected, options.dir) | status()
        print(json.dumps(answer), flush=True)
    collector.close()


def status() -> dict:
    """Return CPU time, and resident sizes now and at most, of this process."""
    sizes = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = os.times()
    return {
        "at_s": time.monotonic(),
        "cpu_s": used.user + used.system,
        "rss_bytes": 1024 * int(sizes["VmRSS"].split()[0]),
        "rss_max_bytes": 1024 * int(sizes["VmHWM"].split()[0]),
    }


def summarised(collected, directory: Path) -> dict:
    """Make the summary, its text and the sums of all as rank 0 does, and say how long that took."""
    import msgspec

    from satscore.core.summary import encode
    from satscore.record.run_file import RunFile
    from satscore.run.job_result import summary_of_parts, write_job_sums
    from satscore.views.text import render

    content = msgspec.json.decode(collected.parts[0].about, type=RunFile)
    times_s = [time.monotonic()]
    summary = summary_of_parts(content, collected, directory=str(directory))
    times_s.append(time.monotonic())
    text, data = render(summary), encode(summary)
    times_s.append(time.monotonic())
    problems = write_job_sums(directory, collected)
    times_s.append(time.monotonic())
    names = ("summary_s", "text_s", "job_sums_s")
    sizes = {"json_bytes": len(data), "job_sums_bytes": (directory / "sums-job.msgpack").stat().st_size}
    took_s = (after - before for before, after in itertools.pairwise(times_s))
    return dict(zip(names, took_s, strict=True)) | sizes | {"text": text, "problems": problems}


# --- all of it


class Child:
    """A process that answers a line with a line."""

    def __init__(self, role: str, arguments: list[str]) -> None:
        command = [sys.executable, __file__, "--role", role, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict:
        """Wait for a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} has ended: {self._process.wait()}")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        """Send a line and wait for the answer."""
        self.tell(line)
        return self.answer()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def phase(collector: Child, senders: list[Child], name: str, seconds: float) -> dict:
    """Let the nodes speak for a while; return what it cost and how it went."""
    for each in senders:
        each.tell(name)
    time.sleep(2.0)
    before = collector.ask("status")
    time.sleep(seconds)
    after = collector.ask("status")
    for each in senders:
        each.tell("stop")
    out = joined([each.answer() for each in senders])
    out["cpu_pct"] = 100 * (after["cpu_s"] - before["cpu_s"]) / (after["at_s"] - before["at_s"])
    return out | {"rss_bytes": after["rss_bytes"], "rss_max_bytes": after["rss_max_bytes"]}


def joined(many: list[dict]) -> dict:
    """Return the statistics of all senders as one."""
    out = {}
    for key in many[0]:
        values = [each[key] for each in many]
        if isinstance(values[0], list):
            every = sorted(value for one in values for value in one)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                out[f"{key}_{name}"] = every[min(len(every) - 1, int(share * len(every)))] if every else None
        else:
            out[key] = max(values) if key.endswith(("_s", "_ms")) else sum(values)
    return out


def bench(options: argparse.Namespace, folder: Path) -> dict:
    """Run all phases."""
    world = options.nodes * options.ranks
    maker = multiprocessing.get_context("spawn").Process(
        target=make_templates, args=(folder / "templates", options.hours, world, options.ranks)
    )
    maker.start()
    maker.join()
    if maker.exitcode != 0:
        raise SystemExit(f"making the parts failed: exit status {maker.exitcode}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = ["--dir", str(folder), "--port", str(port), "--nodes", str(options.nodes), "--ranks", str(options.ranks)]
    children = [collector := Child("collector", common)]
    try:
        idle = collector.answer()
        edges = [options.nodes * i // options.senders for i in range(options.senders + 1)]
        senders = [
            Child("senders", [*common, "--first", str(first), "--stop", str(stop)])
            for first, stop in itertools.pairwise(edges)
        ]
        children += senders
        out = {"nodes": options.nodes, "world": world, "idle_rss_bytes": idle["rss_bytes"]}
        out["meeting"] = joined([each.answer() for each in senders])
        out |= {name: phase(collector, senders, name, options.seconds) for name in ("spread", "once")}
        for each in senders:
            each.tell("spread")
        time.sleep(2.0)
        for each in senders:
            each.tell("final")
        out["gathered"] = collector.ask("gather")
        for each in senders:
            each.tell("report")
        out["final"] = joined([each.answer() for each in senders])
    finally:
        for each in children:
            each.end()
    return out


def table(out: dict) -> str:
    """Return the results as text."""
    lines = [
        "{world} ranks on {nodes} nodes".format(**out),
        "nodes answered after, ms: p50 {ready_ms_p50:.0f}, p99 {ready_ms_p99:.0f}, all {ready_ms_max:.0f};"
        " connections anew: {reconnects}".format(**out["meeting"]),
        f"{'':<44}{'spread':>12}{'all at once':>12}{'last parts':>12}{'budget':>9}",
    ]
    rows = (
        ("CPU of the collector, % of a core", "cpu_pct", 1.0, f"{BUDGET['cpu_pct']:.0f}"),
        ("its resident size, MB", "rss_bytes", 1e-6, f"{BUDGET['rss_bytes'] / 1e6:.0f}"),
        ("its largest resident size, MB", "rss_max_bytes", 1e-6, ""),
        ("messages with rows", "rows", 1, ""),
        ("of these unanswered", "unanswered", 1, ""),
        ("rows: sent to answered, ms, p50", "row_ms_p50", 1.0, ""),
        ("p99", "row_ms_p99", 1.0, ""),
        ("parts", "parts", 1, ""),
        ("of these not acknowledged", "missing", 1, ""),
        ("sent again", "resent", 1, ""),
        ("refused", "refused", 1, ""),
        ("parts: sent to acknowledged, ms, p50", "part_ms_p50", 1.0, ""),
        ("p99", "part_ms_p99", 1.0, ""),
        ("all", "part_ms_max", 1.0, ""),
        ("new connections", "reconnects", 1, ""),
        ("senders late by, ms, at most", "late_max_ms", 1.0, ""),
    )
    gathered = {key: out["gathered"][f"gathered_{key}"] for key in ("rss_bytes", "rss_max_bytes")}
    columns = [
        out["spread"],
        out["once"],
        out["final"] | gathered,
    ]
    for column in columns:
        column["unanswered"] = column["asked"] - column["answered"]
    for title, key, factor, budget in rows:
        cells = ("-" if each.get(key) is None else f"{each[key] * factor:.1f}" for each in columns)
        lines.append(f"{title:<44}" + "".join(f"{cell:>12}" for cell in cells) + f"{budget:>9}")
    end = {key: value for key, value in out["gathered"].items() if key != "text"}
    lines += [f"the end: {json.dumps(end)}", out["gathered"].get("text", "")]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2688)
    parser.add_argument("--ranks", type=int, default=4, help="ranks per node, a GPU each")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of two phases")
    parser.add_argument("--hours", type=int, default=24, help="that the parts are about")
    parser.add_argument("--senders", type=int, default=3, help="processes that stand for the nodes")
    parser.add_argument("--json", type=Path)
    for name, kind in (("--role", str), ("--dir", Path), ("--port", int), ("--first", int), ("--stop", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "collector":
        collect(options)
        return 0
    if options.role == "senders":
        from tests.bench.fleet_nodes import Senders

        Senders(options).serve()
        return 0
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}"
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = bench(options, Path(folder))
    print(table(out))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **out}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
