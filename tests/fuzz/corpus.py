"""The corpus of bodies: a small one in the repository as text, and the seeds that each format's tests have.

A line of the text is one input: its way as JSON, a tab, and the body with Python's escapes. Pure, but for files.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.fuzz.ways import CONTROLS, FORMATS, TYPES, Way
from tests.unit.registry.fold.test_any_json import DOCUMENT
from tests.unit.wire.producers import SEEDS

BODIES = Path(__file__).parent / "corpus" / "bodies.txt"
_TYPES_OF_SEEDS = {
    "otlp": ("application/x-protobuf",),
    "otlp json": ("application/json",),
    "cloudevents": ("application/cloudevents+json",),
    "celery": ("application/json",),
    "prometheus": ("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"),
}
_WORD = re.compile(rb"[A-Za-z_#:@|\"]{2,20}")
_NUMBERS = (
    b"NaN",
    b"-Inf",
    b"1e308",
    b"9223372036854775808",
    b"-1",
    b"1e-400",
    b"[]",
    b"{}",
    b"null",
    b"\\ud800",
    b"\xff",
)


def read() -> list[bytes]:
    """Return the repository's inputs."""
    return [_of_line(line) for line in BODIES.read_text("ascii").splitlines()] if BODIES.exists() else []


def write(inputs: Iterable[bytes]) -> None:
    """Replace the repository's inputs."""
    BODIES.write_text("".join(sorted(f"{_to_line(data)}\n" for data in inputs)), "ascii")


def seeds() -> Iterator[bytes]:
    """Yield a real body of each format, by rule and by content type, plain and compressed."""
    own = json.dumps(DOCUMENT).encode()
    yield Way(is_identified=True).controls() + own
    yield Way(format="json").controls() + own
    yield Way(format="json", content_encoding="gzip", is_compressed=True, states_agent=True).controls() + own
    yield Way(headers=3).controls() + own
    for name, make in SEEDS.items():
        body = make()
        format_ = name.partition(" ")[0]
        if format_ in FORMATS:
            yield Way(format=format_, headers=1).controls() + body
        for content_type in _TYPES_OF_SEEDS.get(name, ()):
            yield Way(content_type=content_type).controls() + body


def tokens() -> list[bytes]:
    """Return the words of all seeds, which a fuzzer puts into bodies."""
    found = {word for seed in seeds() for word in _WORD.findall(seed)}
    return sorted(
        found | {*_NUMBERS} | {name.encode() for name in (*FORMATS[1:], *TYPES) if name.isprintable() and name}
    )


def _of_line(line: str) -> bytes:
    way, _, body = line.partition("\t")
    return Way(**json.loads(way)).controls() + body.encode("ascii").decode("unicode_escape").encode("latin-1")


def _to_line(data: bytes) -> str:
    way = Way.read(data)
    stated = {name: value for name, value in way._asdict().items() if value != Way._field_defaults[name]}
    return f"{json.dumps(stated)}\t{data[CONTROLS:].decode('latin-1').encode('unicode_escape').decode('ascii')}"
