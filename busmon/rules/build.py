"""Groups → the files that Prometheus reads, and whether those on disk are what would be built.

YAML takes a JSON string for a string, so every scalar is written as one and nothing needs escaping by hand; expressions
are block scalars, as people read them. Writes into the directory that it is given, and nowhere else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from busmon.errors import RulesError
from busmon.rules.definitions import Alert, Group, Recording, read
from busmon.rules.thresholds import Thresholds

_HEADER = "# Written by `busmon rules build`. Change a number in thresholds.toml and build again."


def build(thresholds: Thresholds) -> dict[str, str]:
    """Build the text of each rule file, by its name.

    Raises:
        RulesError: a definition lacks a threshold.
    """
    return {f"{stem}.yml": text(groups) for stem, groups in read(thresholds).items()}


def text(groups: Iterable[Group]) -> str:
    """Write the groups in the form of a rule file."""
    lines = [_HEADER, "groups:", *(line for group in groups for line in _group(group))]
    return "\n".join(lines) + "\n"


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write the files, making the directory if there is none; others in it are left alone.

    Raises:
        RulesError: the directory can't be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise RulesError(f"{directory}: can't be written to: {error.strerror}; expected a directory") from error


def differences(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """List the files that are missing in the directory or differ from a build."""
    paths = {directory / name: built for name, built in files.items()}
    return [path for path, built in paths.items() if not path.is_file() or path.read_text(encoding="utf-8") != built]


def _group(group: Group) -> Iterator[str]:
    yield f"  - name: {group.name}"
    yield f"    interval: {group.interval}"
    yield "    rules:"
    for rule in group.rules:
        yield from _recording(rule) if isinstance(rule, Recording) else _alert(rule)


def _recording(rule: Recording) -> Iterator[str]:
    yield f"      - record: {rule.name}"
    yield from _expression(rule.expr)


def _alert(rule: Alert) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield from _expression(rule.expr)
    yield from (f"        {key}: {duration}" for key, duration in rule.durations.items())
    yield from _mapping("labels", rule.labels)
    yield from _mapping("annotations", rule.annotations)


def _expression(expr: str) -> Iterator[str]:
    yield "        expr: |-"
    yield from (f"          {line}".rstrip() for line in expr.splitlines())


def _mapping(key: str, pairs: Mapping[str, str]) -> Iterator[str]:
    yield f"        {key}:"
    yield from (f"          {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in pairs.items())
