"""The time until a dashboard's queries are answered: over 15 days of 10,000 series, a sample a minute.

    python benchmarks/dashboards.py --cache /var/tmp/busmon-15-days

The series are those of a real stack, with its agents multiplied until there are enough, and the hourly ones of these
agents, a sample an hour. They are written as one file for each block of 2 hours, made into blocks by promtool and kept
in the cache: the first run takes half an hour, the others a few minutes. Then all queries of each dashboard are asked
of a real Prometheus, six at a time as a browser does, over one hour and over all 15 days; printed is the time until the
last is answered, and the server's CPU time. The server compacts the blocks first, as one that has run for 15 days has.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import children
import entry

from busmon import rules
from busmon.dashboards import BOARDS
from busmon.dashboards.parts import promql
from busmon.dashboards.parts.panels import Panel
from busmon.demo.rabbitmq import free_ports
from busmon.rules import Thresholds
from busmon.settings import Settings
from tests.stack.native import NativeStack

BLOCK_SECONDS = 7200
STEP_SECONDS = 60
HOURLY = "agent_hour:"
CONNECTIONS = 6
PIXELS_OF_A_COLUMN = 1600 / 24
BUILDERS = 2
WARM_UP_SECONDS = 90.0
COMPACTION_SECONDS = 100.0
"""Prometheus looks for blocks to compact once a minute."""

NOT_OURS = "go_|erlang_|promhttp_|net_conntrack_|node_(netstat|sockstat|vmstat|timex|softnet|scrape)"
COUNTER = re.compile(r"_(total|bucket|count|sum)$")

Series = list[dict[str, str]]


def main() -> int:
    """Build what is missing, measure, print."""
    arguments = _arguments()
    for program in ("promtool", "prometheus"):
        entry.require_program(program, "apt-get install prometheus")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    series = _series(arguments.cache / "series.json", arguments.series)
    end = _end(arguments.cache / "end")
    _build(arguments.cache, series, end, arguments.days * 86_400 // BLOCK_SECONDS)
    with _prometheus(arguments.cache / "data") as (address, process):
        print(
            f"{len(series):,} series, {arguments.days} days, a sample a minute; seconds, p95 of {arguments.runs} runs"
        )
        print("| Dashboard | Queries | 1 hour | 15 days | CPU for 15 days |\n|---|---:|---:|---:|---:|")
        for board in BOARDS:
            asked = [(panel, query) for row in board.rows.values() for panel in row for query in panel.queries.values()]
            hour = _p95(address, asked, end, 3600, arguments.runs)
            before = _cpu_seconds(process)
            days = _p95(address, asked, end, arguments.days * 86_400, arguments.runs)
            cpu = (_cpu_seconds(process) - before) / arguments.runs
            print(f"| {board.title} | {len(asked)} | {hour:.2f} | {days:.2f} | {cpu:.2f} |", flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a directory that keeps the blocks: 3 GB for 15 days")
    parser.add_argument("--days", type=int, default=15)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=10)
    return parser.parse_args()


def _series(path: Path, count: int) -> Series:
    """Multiply the series of a real stack."""
    if not path.exists():
        print("starting a stack, to take its series", file=sys.stderr)
        with tempfile.TemporaryDirectory() as directory:
            agents = ("--agents", "12", "--rate", "20")
            with NativeStack(Path(directory), Settings(), lambda _: None, agents, hasten="5s") as stack:
                time.sleep(WARM_UP_SECONDS)
                found = _get(stack.prometheus, "series", **{"match[]": '{__name__!=""}'})
        path.write_text(json.dumps([labels for labels in found if not re.match(NOT_OURS, labels["__name__"])]))
    base: Series = json.loads(path.read_text())
    of_agents = [labels for labels in base if "agent" in labels]
    more = [{**labels, "agent": f"{labels['agent']}-{copy}"} for copy in range(1, 100) for labels in of_agents]
    every = (base + more)[:count]
    return every + list(_hourly(every))


def _hourly(series: Series) -> Iterator[dict[str, str]]:
    """Make the hourly series, of which a stack has none before its first full hour."""
    there = {labels["__name__"] for labels in series}
    recorded = {
        rule.name for groups in rules.read(Thresholds.load()).values() for group in groups for rule in group.rules
    }
    for labels in series:
        name = labels["__name__"].replace("agent:", HOURLY, 1)
        if labels["__name__"].startswith("agent:") and name in recorded - there:
            yield {**labels, "__name__": name}


def _end(path: Path) -> int:
    """Read the end of the data, which is fixed so that the cache stays valid."""
    if not path.exists():
        path.write_text(str(int(time.time()) // BLOCK_SECONDS * BLOCK_SECONDS))
    return int(path.read_text())


def _build(cache: Path, series: Series, end: int, blocks: int) -> None:
    starts = [end - number * BLOCK_SECONDS for number in range(blocks, 0, -1)]
    missing = [start for start in starts if not (cache / f"{start}.done").exists()]
    heads = [_head(labels) for labels in series]
    with ThreadPoolExecutor(BUILDERS) as builders:
        for number, _ in enumerate(builders.map(lambda start: _block(cache, heads, start), missing), start=1):
            print(f"\rblock {number} of {len(missing)}", end="", file=sys.stderr, flush=True)


def _head(labels: dict[str, str]) -> tuple[str, bool]:
    text = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items() if name != "__name__")
    return f"{labels['__name__']}{{{text}}}", bool(COUNTER.search(labels["__name__"]))


def _block(cache: Path, heads: list[tuple[str, bool]], start: int) -> None:
    lines = cache / f"{start}.om"
    with lines.open("w") as file:
        for number, (head, is_counter) in enumerate(heads):
            for moment in range(start, start + BLOCK_SECONDS, 3600 if head.startswith(HOURLY) else STEP_SECONDS):
                file.write(f"{head} {_value(number, is_counter, moment)} {moment}\n")
        file.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(lines), str(cache / "data")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines.unlink()
    (cache / f"{start}.done").touch()


def _value(number: int, is_counter: bool, moment: int) -> float:  # noqa: FBT001 - as the caller's pair has it
    """Make a counter that rises at its own rate, or a gauge that varies in its own period."""
    if is_counter:
        return (moment % 10_000_000) // 60 * (1 + number % 17)
    return round(0.5 + 0.4 * math.sin(moment / 5000 + number), 3)


@contextmanager
def _prometheus(data: Path) -> Iterator[tuple[str, int]]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    configuration = data.parent / "nothing.yml"
    configuration.write_text("global: {}\n")
    flags = ["--storage.tsdb.retention.time=20d", "--storage.tsdb.max-block-duration=36h"]
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={data}", *flags]
    command += [f"--web.listen-address={address}"]
    with children.running(command, stderr=subprocess.DEVNULL) as process:
        blocks = -1
        while blocks != (blocks := _blocks(address)):
            print(f"\r{blocks} blocks, compacting ", end="", file=sys.stderr, flush=True)
            time.sleep(COMPACTION_SECONDS)
        yield f"http://{address}", process.pid


def _blocks(address: str) -> int:
    """Count the blocks that the server has loaded; ask until it answers."""
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            found = re.search(rb"^prometheus_tsdb_blocks_loaded (\d+)", answer.read(), re.MULTILINE)
            if found and int(found[1]):
                return int(found[1])
        time.sleep(0.2)


def _cpu_seconds(process: int) -> float:
    """Read how long a process has run on a processor, which other processes at work don't change."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _p95(address: str, asked: list[tuple[Panel, str]], end: int, span: int, runs: int) -> float:
    """Measure the 95th percentile of the time until all queries are answered."""
    times = []
    with ThreadPoolExecutor(CONNECTIONS) as browser:
        for _ in range(runs):
            began = time.perf_counter()
            list(browser.map(lambda row: _ask(address, row[0], row[1], end, span), asked))
            times.append(time.perf_counter() - began)
    return sorted(times)[math.ceil(0.95 * runs) - 1]


def _ask(address: str, panel: Panel, query: str, end: int, span: int) -> None:
    step = max(STEP_SECONDS, int(span / (panel.span * PIXELS_OF_A_COLUMN)))
    window = max(4 * STEP_SECONDS, step + STEP_SECONDS)
    filled = promql.fill(query, is_hourly=span > promql.HOURLY_FROM_SECONDS)
    filled = filled.replace("$__rate_interval", f"{window}s").replace("$__range", f"{span}s")
    filled = filled.replace("$job", ".+").replace("$agent", ".*")
    if panel.instant:
        _get(address, "query", query=filled, time=str(end))
    else:
        _get(address, "query_range", query=filled, start=str(end - span), end=str(end), step=str(step))


def _get(address: str, path: str, **parameters: str) -> list[dict[str, str]]:
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - of this machine
        data = json.loads(answer.read())["data"]
    found: list[dict[str, str]] = data if isinstance(data, list) else data["result"]
    return found


if __name__ == "__main__":
    entry.run(main)
