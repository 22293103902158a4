"""Traces through a real Prometheus, in bulk: all episodes side by side, told apart by a label that every rule keeps.

OpenMetrics becomes blocks, the recordings are made from them step by step, and each alert's expression is asked for
over the whole time; `for` and `keep_firing_for` are then applied as Prometheus does. The server ends with its context.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alert_traces import SECONDS, STEP, Values

from busmon import rules
from busmon.demo.rabbitmq import LOOPBACK, free_ports
from busmon.rules.build import text
from tests.stack.reach import levels, only, reach

BEGINS = 1_700_006_400
"""Any full two hours: one block then holds everything."""

TARGET = {"job": "busmon", "instance": "a:9797", "registry": "a:9797"}
BOOT_SECONDS = 60
TOLERANCE = 20
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CLOCK_FAMILIES = ("busmon_last_envelope_timestamp_seconds", "certificate_expiry_timestamp_seconds")

Series = Mapping[int, Values]
Intervals = list[tuple[float, float, float]]
"""When a condition began, when the alert fired, and when it ended; seconds of the episode."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An alert and how often its group is evaluated."""

    alert: rules.Alert
    every: int


class Replay:
    """A Prometheus over the episodes.

    Args:
        directory: its data.
        groups: all rules.
    """

    def __init__(self, directory: Path, groups: Sequence[rules.Group]) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._groups = groups

    def load(self, series: Series) -> None:
        """Make blocks of them."""
        path = self._directory / "episodes.om"
        with path.open("w") as file:
            file.writelines(openmetrics(series))
        _run("promtool", "tsdb", "create-blocks-from", "openmetrics", path, self._data)
        path.unlink()

    def record(self, names: Sequence[str]) -> None:
        """Make the recordings that these alerts need."""
        for number, step in enumerate(levels(self._groups, names)):
            # A group's moments hang on its name and its file's: they have to be the same in every step.
            path = self._directory / "rules.yml"
            path.write_text(text(step))
            made = self._directory / f"made-{number}"
            with self.server() as address:
                span = (f"--start={BEGINS}", f"--end={BEGINS + SECONDS - STEP}")
                _run(
                    "promtool",
                    "tsdb",
                    "create-blocks-from",
                    "rules",
                    *span,
                    f"--url={address}",
                    f"--output-dir={made}",
                    path,
                )
            for block in made.iterdir():
                shutil.move(block, self._data / block.name)

    @contextmanager
    def server(self) -> Iterator[str]:
        """Start a Prometheus that scrapes nothing, and yield its address."""
        configuration = self._directory / "prometheus.yml"
        configuration.write_text("scrape_configs: []\n")
        address = f"{LOOPBACK}:{free_ports(1)[0]}"
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self._data}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
                "--query.max-samples=200000000",
                "--log.level=error",
            ],
            cwd=self._directory,
        )
        try:
            _await(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()

    def list_measured(self, names: Sequence[str]) -> list[Measured]:
        """List the alerts of these names."""
        return [
            Measured(rule, seconds(group.interval))
            for group in only(self._groups, set(names))
            for rule in group.rules
            if isinstance(rule, rules.Alert)
        ]


def firings(address: str, measured: Measured) -> dict[int, Intervals]:
    """Find when an alert fires, by episode."""
    alert, every = measured.alert, measured.every
    query = {"query": alert.expr, "start": BEGINS, "end": BEGINS + SECONDS - STEP, "step": every}
    found: dict[int, Intervals] = {}
    for row in _ask(f"{address}/api/v1/query_range?{urllib.parse.urlencode(query)}"):
        true_at = {round(float(moment)) - BEGINS for moment, _ in row["values"]}
        hold, keep = (seconds(alert.durations.get(key, "0s")) for key in ("for", "keep_firing_for"))
        found.setdefault(int(row["metric"]["episode"]), []).extend(intervals(true_at, every, hold, keep))
    return found


def intervals(true_at: set[int], every: int, hold: int, keep: int) -> Intervals:
    """Run a condition through the state machine of Prometheus.

    Args:
        true_at: when the expression gave something.
        every: the group's interval.
        hold: the rule's `for`.
        keep: the rule's `keep_firing_for`.
    """
    made: Intervals = []
    began = fired = ended = None
    for now in range(0, SECONDS, every):
        if now in true_at:
            began, ended = now if began is None else began, None
            if fired is None and now - began >= hold:
                fired = now
        elif fired is not None:
            ended = now if ended is None else ended
            if now - ended >= keep:
                made.append((began or 0, fired, now))
                began = fired = ended = None
        else:
            began = None
    if fired is not None:
        made.append((began or 0, fired, float(SECONDS)))
    return made


def contradict(directory: Path, groups: Sequence[rules.Group], name: str, values: Values, fired: float) -> str:
    """Return the objection of promtool to an alert firing at this moment of an episode; empty if it agrees.

    Groups are evaluated in no order there, and all every STEP seconds, so it may differ by the longest interval.
    """
    kept = only(groups, reach(groups, [name]))
    tolerance = TOLERANCE + max(seconds(group.interval) for group in kept)
    firing = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    moments = [(fired - tolerance, []), (fired + tolerance, [{"labels": "{}", "value": 1}])]
    written = [
        {"series": _label(key), "values": " ".join("_" if value is None else repr(value) for value in row)}
        for key, row in values.items()
    ]
    test = {
        "interval": f"{STEP}s",
        "input_series": written,
        "promql_expr_test": [
            {"expr": f"count({firing})", "eval_time": f"{moment:.0f}s", "exp_samples": samples}
            for moment, samples in moments
        ],
    }
    rule_file, path = directory / f"{name}-rules.yml", directory / f"{name}.yml"
    rule_file.write_text(text(kept))
    path.write_text(json.dumps({"rule_files": [str(rule_file)], "evaluation_interval": f"{STEP}s", "tests": [test]}))
    run = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def openmetrics(series: Series) -> Iterator[str]:
    """Write the episodes as OpenMetrics, one line for each sample, family by family."""
    by_key: dict[str, list[int]] = {}
    for number, values in series.items():
        for key in values:
            by_key.setdefault(key, []).append(number)
    family = ""
    for key, numbers in sorted(by_key.items()):
        name = key.partition("{")[0]
        if name != family:
            family = name
            yield f"# TYPE {name} unknown\n"
        for number in numbers:
            yield from _samples(key, number, series[number][key])
    yield "# EOF\n"


def _samples(key: str, number: int, row: Sequence[float | None]) -> Iterator[str]:
    labelled = _label(key, episode=str(number))
    shift = BEGINS if key.startswith(_CLOCK_FAMILIES) else 0
    for index, value in enumerate(row):
        if value is not None:
            yield f"{labelled} {value + shift!r} {BEGINS + index * STEP}\n"


def _label(key: str, **more: str) -> str:
    name, _, inner = key.partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', inner))
    labels = ",".join(f'{label}="{value}"' for label, value in (TARGET | more | own).items())
    return f"{name}{{{labels}}}"


def seconds(duration: str) -> int:
    """Convert a duration of Prometheus to seconds."""
    return int(duration[:-1]) * UNITS[duration[-1]]


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _await(address: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            urllib.request.urlopen(address).close()  # noqa: S310 - a server of our own
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _ask(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - as above
        rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return rows
