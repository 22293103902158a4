"""A slice of mutations of the corpus, in its own process: `python -m tests.fuzz.mutated TARGET STATE SECONDS SEED`.

Nothing is instrumented, so it tries several times as many inputs as a guided slice in the same time. Half of the bodies
in JSON and OTLP are changed as documents, so that they stay documents.
"""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import structlog
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from tests.fuzz import corpus
from tests.fuzz.bodies import Bodies
from tests.fuzz.directories import Directories
from tests.fuzz.inputs import Inputs, Target
from tests.fuzz.ways import CONTROLS, Way

MAX_INPUT_BYTES = 4096
MOST_CHANGES = 4
LONGEST_PART = 40
RANDOM_BYTES = 400
NUMBERS = (0, 1, -1, 2**31, 2**63, -(2**63) - 1, 2**64, 1e308, 1e-320, -0.0, 0.1, float("nan"), float("-inf"))


class Mutator:
    """The source of inputs: pieces of known ones cut out, doubled, replaced, exchanged or filled with a token.

    Args:
        known: inputs to begin with.
        tokens: words of the formats.
        seed: decides all.
    """

    def __init__(self, known: Sequence[bytes], tokens: Sequence[bytes], seed: str) -> None:
        self._known = known
        groups: dict[str, list[bytes]] = {}
        for data in known:
            way = Way.read(data)
            groups.setdefault(f"{way.format} {way.content_type if not way.format else ''}", []).append(data)
        self._groups = [*groups.values()]
        self._tokens = [*tokens, *(str(number).encode() for number in NUMBERS)]
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """Return another input."""
        chance = self._random
        if not self._known or chance.random() < 0.02:
            return chance.randbytes(chance.randrange(RANDOM_BYTES))
        data = chance.choice(chance.choice(self._groups))  # a format with many inputs is tried no more often
        if chance.random() < 0.3:
            kept = chance.choice((0, 1, 2))
            data = data[:kept] + chance.randbytes(CONTROLS - kept) + data[CONTROLS:]
        if chance.random() < 0.5 and (changed := self._change_document(data)):
            return changed
        for _ in range(chance.randint(1, MOST_CHANGES)):
            start = chance.randint(0, len(data))
            end = min(len(data), start + chance.choice((0, 1, 1, 2, 4, 8, LONGEST_PART)))
            data = data[:start] + self._replacement(data[start:end]) + data[end:]
        return data[:MAX_INPUT_BYTES]

    def _change_document(self, data: bytes) -> bytes | None:
        """Return a body with other values in some places of its document; None if it has none."""
        controls, body = data[:CONTROLS], data[CONTROLS:]
        try:
            if Way.read(data).format == "otlp" and body[:1] == b"\n":
                document = MessageToDict(MetricsData.FromString(body))
                self._change(document)
                return controls + ParseDict(document, MetricsData(), ignore_unknown_fields=True).SerializeToString()
            document = orjson.loads(body)
            self._change(document)
            return controls + json.dumps(document).encode()
        except (ValueError, OverflowError, DecodeError, ParseError, RecursionError):
            return None

    def _change(self, document: Any) -> None:
        chance = self._random
        places = [*_places(document)]
        for _ in range(chance.randint(1, MOST_CHANGES) if places else 0):
            owner, place = chance.choice(places)
            owner[place] = self._value(chance.choice(places))

    def _value(self, place: tuple[Any, Any]) -> Any:
        """Return a value of another place, a number, a word, or something empty or nested."""
        chance = self._random
        match chance.randrange(5):
            case 0:
                return deepcopy(place[0][place[1]])
            case 1:
                return chance.choice(NUMBERS)
            case 2:
                return chance.choice(self._tokens).decode("latin-1")
            case 3:
                return chance.choice((None, True, [], {}, "", [[]], {"": None}))
            case _:
                return chance.choice(([deepcopy(place[0])], {"value": 1}, chance.uniform(-1e3, 1e3)))

    def _replacement(self, part: bytes) -> bytes:
        chance = self._random
        match chance.randrange(6):
            case 0:
                return b""
            case 1:
                return part * chance.choice((2, 2, 3, 50))
            case 2:
                return chance.randbytes(len(part))
            case 3:
                other = chance.choice(self._known)
                start = chance.randint(0, len(other))
                return other[start : start + chance.choice((1, 8, LONGEST_PART, 400))]
            case 4:
                return bytes(byte ^ 1 << chance.randrange(8) for byte in part)
            case _:
                return chance.choice(self._tokens)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a document with the key or number of each of its places."""
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for place, value in members:
        yield document, place
        yield from _places(value)


def main(name: str, state: str, seconds: str, seed: str) -> None:
    """Try mutations for so long."""
    directory = Path(state)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    target: Target = Bodies() if name == "bodies" else Directories()
    inputs = Inputs(target, directory, is_guided=False)
    known = [path.read_bytes() for path in sorted((directory / "corpus").iterdir())]
    mutator = Mutator(known, corpus.tokens(), seed)
    ends_at = time.monotonic() + float(seconds)
    while time.monotonic() < ends_at:
        inputs.take(mutator.next())
    inputs.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
