"""Cases for the rules, as TOML, and promtool's unit tests made of them.

An alert's case says when it must fire, or that it never may; a recorded one what its series must be. promtool runs
them; which rules they reach is counted here.
"""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from busmon import rules
from busmon.rules.build import text
from tests.stack.reach import only, reach

CASES = Path(__file__).with_name("alert_cases")
RULES = Path("docker/prometheus/rules").absolute()
TARGET = {"job": "busmon", "instance": "a:9797", "registry": "a:9797"}

_SELECTOR = re.compile(r"([\w:]+)(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_RANGE = re.compile(r"\[(\d+)([smhd])\]")
_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class AlertCase:
    """One episode, and what an alert makes of it.

    Attributes:
        quiet: the last moment at which it doesn't fire yet.
        fires: one at which it does.
        over: one at which it doesn't any more.
        end: until when it never fires.
        count: how many of its alerts fire.
        together_with: other alerts that it is made of.
    """

    alert: str
    promise: str
    series: Mapping[str, str]
    step: str = "5s"
    quiet: str = ""
    fires: str = ""
    over: str = ""
    end: str = ""
    count: int = 1
    together_with: Sequence[str] = ()

    def names(self) -> list[str]:
        """The rules that it takes."""
        return [self.alert, *self.together_with]

    def test(self) -> dict[str, Any]:
        """It as promtool takes it."""
        firing = f'ALERTS{{alertname="{self.alert}",alertstate="firing"}}'
        moments = [
            _expected(f"count({firing})", self.quiet, None),
            _expected(f"count({firing})", self.fires, self.count),
            _expected(f"count({firing})", self.over, None),
            _expected(f"count(count_over_time({firing}[30d]))", self.end, None),
        ]
        return {
            "name": f"{self.alert}: {self.promise}",
            "interval": self.step,
            "input_series": list(_input(self.series)),
            "promql_expr_test": [moment for moment in moments if moment["eval_time"]],
        }


@dataclass(frozen=True, slots=True)
class RecordedCase:
    """The input of recorded series, and their expected values."""

    promise: str
    at: str
    series: Mapping[str, str]
    expected: Mapping[str, float]
    step: str = "5s"
    registries: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The rules that it takes."""
        return list(self.expected)

    def test(self) -> dict[str, Any]:
        """It as promtool takes it: every value is rounded to a thousandth, as promtool compares exactly."""
        return {
            "name": f"recorded: {self.promise}",
            "interval": self.step,
            "input_series": list(_input(self.series, self.registries or None)),
            "promql_expr_test": [
                _expected(f"sum(round({name}, 0.001))", self.at, value) for name, value in self.expected.items()
            ],
        }


def alert_cases() -> dict[str, list[AlertCase]]:
    """By file."""
    documents = {path.stem: tomllib.loads(path.read_text()) for path in sorted(CASES.glob("*.toml"))}
    return {
        stem: [AlertCase(**row) for row in document["case"]]
        for stem, document in documents.items()
        if "case" in document
    }


def recorded_cases() -> list[RecordedCase]:
    """Of recorded.toml."""
    return [RecordedCase(**row) for row in tomllib.loads((CASES / "recorded.toml").read_text())["recorded"]]


def left_open(groups: Sequence[rules.Group]) -> list[rules.Group]:
    """Leave a sample at the left end of a range out, as Prometheus 3 does: every range is a millisecond shorter."""
    return [
        replace(group, rules=tuple(replace(rule, expr=_shorter(rule.expr)) for rule in group.rules)) for group in groups
    ]


def _shorter(expr: str) -> str:
    def shorter(match: re.Match[str]) -> str:
        return f"[{int(match[1]) * _MILLISECONDS[match[2]] - 1}ms]"

    return _RANGE.sub(shorter, expr)


def promtool(directory: Path, groups: Sequence[rules.Group], cases: Sequence[AlertCase | RecordedCase]) -> str:
    """Run cases, those of one step and the same rules together; return what promtool said, empty where they hold."""
    together: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = {}
    for case in cases:
        together.setdefault((case.step, frozenset(case.names())), []).append(case.test())
    paths = []
    for number, ((step, names), tests) in enumerate(together.items()):
        rule_file, path = directory / f"{number}-rules.yml", directory / f"{number}.yml"
        rule_file.write_text(text(only(groups, reach(groups, names))))
        path.write_text(
            json.dumps({"rule_files": [str(rule_file)], "evaluation_interval": step, "tests": tests}), encoding="utf-8"
        )
        paths.append(path)
    run = subprocess.run(["promtool", "test", "rules", *paths], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def _expected(expr: str, at: str, value: float | None) -> dict[str, Any]:
    samples = [] if value is None else [{"labels": "{}", "value": value}]
    return {"expr": expr, "eval_time": at, "exp_samples": samples}


def _input(series: Mapping[str, str], registries: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    targets = [{"instance": instance, "registry": registry} for instance, registry in (registries or {}).items()]
    for selector, values in series.items():
        name, inner = parts(selector)
        for target in targets or [{}]:
            yield {"series": written(name, TARGET | target | inner), "values": values}


def parts(selector: str) -> tuple[str, dict[str, str]]:
    """Take a series apart into its name and its labels."""
    match = _SELECTOR.fullmatch(selector)
    assert match, selector
    return match[1], dict(_LABEL.findall(match[2] or ""))


def written(name: str, labels: Mapping[str, str]) -> str:
    """Write a series as PromQL does."""
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inner}}}"
