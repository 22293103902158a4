"""The past of a soak that goes on in slices: the totals that earlier slices published, in place of their records.

A slice ends with everything confirmed, counted and audited. Its records are then summed up and emptied, but for the
number of runs, by which no source is used again. Main thread.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import orjson

from busmon.files import replace
from tests.soak.counted import Expected
from tests.soak.record import lines

FILE_NAME = "past.json"
_RUN = b'["run"]\n'


def read(directory: Path) -> Expected:
    """Return the totals of earlier slices; none if this is the first."""
    path = directory / FILE_NAME
    if not path.exists():
        return Expected()
    noted = orjson.loads(path.read_bytes())
    return Expected(
        Counter({_key(name, labels): total for name, labels, total in noted["series"]}),
        {_key(name, labels): (at, value) for name, labels, at, value in noted["gauges"]},
        noted["envelopes"],
        runs=noted["runs"],
    )


def write(directory: Path, expected: Expected, records: Iterable[Path]) -> None:
    """Put the totals in the records' place."""
    document = {
        "series": [[name, labels, total] for (name, labels), total in expected.series.items()],
        "gauges": [[name, labels, at, value] for (name, labels), (at, value) in expected.gauges.items()],
        "envelopes": expected.envelopes,
        "runs": expected.runs,
    }
    emptied = {path: _RUN * sum(kind == "run" for kind, *_ in lines(path)) for path in records}
    replace(directory / FILE_NAME, orjson.dumps(document), ".new")
    for path, content in emptied.items():
        replace(path, content, ".new")


def _key(name: str, labels: Iterable[Iterable[str]]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple((label, value) for label, value in labels)
