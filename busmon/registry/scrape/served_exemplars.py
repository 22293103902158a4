"""Exemplars in a scrape: what the shards wrote of them (`exemplars.py`), the newest of each sample line.

A file that isn't as busmon writes it is skipped and named; a row of it that OpenMetrics doesn't allow is left out. A
file is read when another has taken its place. One thread.
"""

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from busmon import files
from busmon.catalogue import naming
from busmon.registry.scrape.lines import label_text
from busmon.registry.scrape.merged import MergedSeries
from busmon.wire.floats import go_float, is_number

PATTERN = "exemplars_shard*.json"
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Ten thousand exemplars with label values of the greatest length take less."""

MAX_LABEL_CHARACTERS = 128
"""In the names and values of an exemplar's labels (OpenMetrics 1.0.0, section "Exemplars")."""


class _ExemplarLine(NamedTuple):
    """A sample line: of a counter where `le` is empty, else of a bucket."""

    family: str
    labels: bytes
    le: str


class _Exemplar(NamedTuple):
    at: float
    text: bytes


class ServedExemplars:
    """The exemplars of all shards.

    Attributes:
        skipped: the files that couldn't be read, by name, with the reason.
    """

    def __init__(self, registry_dir: Path) -> None:
        self.skipped: dict[str, str] = {}
        self._directory = registry_dir
        self._files: dict[Path, tuple[tuple[int, int], dict[_ExemplarLine, _Exemplar]]] = {}
        self._by_family: dict[str, dict[bytes, dict[str, _Exemplar]]] = {}

    def read(self) -> None:
        """Read the files that are new."""
        self.skipped = {}
        before = self._files
        self._files = {path: found for path in self._directory.glob(PATTERN) if (found := self._file(path, before))}
        if [*self._files.values()] != [*before.values()]:
            self._by_family = {}
            for _, exemplars in self._files.values():
                for line, exemplar in exemplars.items():
                    lines = self._by_family.setdefault(line.family, {}).setdefault(line.labels, {})
                    lines[line.le] = max(exemplar, lines.get(line.le, exemplar))

    def of(self, family: str) -> Mapping[bytes, Mapping[str, _Exemplar]]:
        """Return the exemplars of a family's series, by their labels and `le`."""
        return self._by_family.get(family, {})

    def _file(
        self, path: Path, before: Mapping[Path, tuple[tuple[int, int], dict[_ExemplarLine, _Exemplar]]]
    ) -> tuple[tuple[int, int], dict[_ExemplarLine, _Exemplar]] | None:
        try:
            status = path.stat()
            version = status.st_ino, status.st_mtime_ns
            if path in before and before[path][0] == version:
                return before[path]
            return version, dict(_parse(orjson.loads(files.content(path, MAX_FILE_BYTES))))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.skipped[path.name] = f"it isn't as busmon writes it: {error}"
            return None


def add_exemplars(series: MergedSeries, lines: bytes, exemplars: Mapping[str, _Exemplar]) -> bytes:
    """Return the lines of a series with its exemplars."""
    for le, exemplar in exemplars.items():
        labels = b",".join(filter(None, [series.labels, f'le="{le}"'.encode() if le else b""]))
        name = f"{series.layout.family}{'_bucket' if le else '_total'}".encode()
        start = b"%b{%b} " % (name, labels) if labels else name + b" "
        before, found, after = (b"\n" + lines).partition(b"\n" + start)
        value, _, rest = after.partition(b"\n")
        if found:
            lines = b"".join([before, found, value, exemplar.text, b"\n", rest]).removeprefix(b"\n")
    return lines


def _parse(by_family: Any) -> Iterator[tuple[_ExemplarLine, _Exemplar]]:
    for family, rows in by_family.items():
        for labels, le, stated, value, at in rows:
            allowed = sum(map(len, (*stated.keys(), *stated.values()))) <= MAX_LABEL_CHARACTERS
            if (
                allowed
                and all(map(naming.LABEL_NAME.fullmatch, stated))
                and is_number(value)
                and is_number(at)
                and isfinite(at)
            ):
                text = b" # {%b} %b %r" % (label_text(stated), go_float(value).encode(), float(at))
                yield _ExemplarLine(family, label_text(labels), le), _Exemplar(at, text)
