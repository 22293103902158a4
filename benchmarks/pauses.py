"""The pauses of an exporter for its garbage collector, with and without permanent tables (`busmon/garbage.py`).

    .venv/bin/python benchmarks/pauses.py [--seconds 8] [--clients 900] [--series 100000]

A real exporter serves a page of so many series: first to a scraper alone, then while a crowd asks for the page again
and again on new connections. Nothing else runs during a collection, whichever thread it is in. The exporter notes how
long each takes, in the CPU time of its thread and in wall time. It runs twice: with tables that are traversed, as
Python does unless told otherwise, and as it is.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import crowd
import entry
from exporter import answer_seconds, running

from busmon import extras
from busmon.cli import main as run_busmon
from busmon.garbage import PermanentTables

CROWD = "asks again on new connections"
FULL = 2


class Pause(NamedTuple):
    """One collection: its generation, and its length in seconds of CPU and wall time."""

    generation: int
    cpu: float
    wall: float


class Notes:
    """The notes of all collections of this process, in a file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._began = 0.0, 0.0

    def note(self, phase: str, told: dict[str, Any]) -> None:
        """Note the begin or the end of one, as `gc.callbacks` tells it."""
        now = time.thread_time(), time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            pause = told["generation"], now[0] - self._began[0], now[1] - self._began[1]
            os.write(self._descriptor, json.dumps(pause).encode() + b"\n")


def serve(path: Path, arguments: Sequence[str], *, are_traversed: bool) -> int:
    """Run busmon with these arguments in this process, and note its collections."""
    gc.callbacks.append(Notes(path).note)
    if not are_traversed:
        return run_busmon(arguments)
    with mock.patch.multiple(PermanentTables, begin=lambda _: None, settle=lambda *_: None):
        return run_busmon(arguments)


def read(path: Path) -> list[Pause]:
    """Read the notes."""
    return [Pause(*json.loads(line)) for line in path.read_text().splitlines()]


def row(tables: str, when: str, pauses: Sequence[Pause], seconds: Sequence[float]) -> str:
    """Word a row of the table."""
    full = [pause for pause in pauses if pause.generation == FULL]
    return (
        f"| {tables} | {when} | {len(full)} | {max((pause.cpu for pause in full), default=0) * 1e3:.0f} ms "
        f"| {max((pause.wall for pause in full), default=0) * 1e3:.0f} ms | {sum(pause.cpu for pause in pauses):.2f} s "
        f"| {statistics.median(seconds):.2f} s | {max(seconds):.2f} s |"
    )


def measure(directory: str, notes: Path, tables: str, args: argparse.Namespace) -> None:
    """Run an exporter, and print a row of the scraper alone and one of the crowd."""
    program = [__file__, "--serve", str(notes), tables]
    with running(directory, program=program) as exporter:
        seconds = [answer_seconds(exporter.port) for _ in range(5)]
        alone = read(notes)
        print(row(tables, "five scrapes", alone, seconds), flush=True)
        seen = crowd.measure(exporter, CROWD, args.clients, args.seconds, None)
        print(row(tables, f"a crowd of {args.clients:,}", read(notes)[len(alone) :], seen.seconds), flush=True)


def main() -> int:
    """Measure both ways and print."""
    if sys.argv[1:2] == ["--serve"]:
        path, tables, *arguments = sys.argv[2:]
        return serve(Path(path), arguments, are_traversed=tables == "traversed")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long the crowd is there")
    parser.add_argument("--clients", type=int, default=900)
    parser.add_argument("--series", type=int, default=100_000)
    args = parser.parse_args()
    extras.require("fleet", "the exporter")
    print("| tables | during | full collections | longest, CPU | longest | all, CPU | scrape, median | worst |")
    print("| --- | --- | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory(prefix="busmon-pauses-") as scratch:
        directory = Path(scratch, "registry")
        directory.mkdir(mode=0o700)
        crowd.write_series(directory, args.series)
        for tables in ("traversed", "permanent"):
            measure(str(directory), Path(scratch, tables), tables, args)
    return 0


if __name__ == "__main__":
    entry.run(main)
