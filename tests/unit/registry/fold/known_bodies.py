"""Bodies of the forms that can be scanned, and the reads that make their texts known."""

import json
from typing import Any

from busmon.registry.fold import known_texts
from busmon.registry.fold.fold import Fold
from busmon.registry.fold.known_texts import KnownTexts
from busmon.wire.envelope import Envelope
from tests.unit.registry.fold.drawn_tables import COUNTED
from tests.unit.registry.registries import NOW

TRICKY = ('"value":', '"ts":', "}", "]}", "},{", '","value":1},{"name":"x', "\\", '"', "ä\n", "", "0", "[", "-1", "a{b")
AGENTS = ("planner", "writer", *TRICKY)

COUNTER = {"name": "tasks_processed_total", "labels": {"agent": "planner", "status": "success"}, "value": 1}
GAUGE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 4}
HISTOGRAM = {"name": "task_duration_seconds", "labels": {"agent": "planner"}, "value": 0.25}
EACH: tuple[dict[str, Any], ...] = (COUNTER, GAUGE, HISTOGRAM)

COUNTS = {"name": "tasks_processed_total", "labels": ["agent", "status"], "rows": [["a", "x", 1], ["b", "x", 2.5]]}
LEVELS = {"name": "queue_size", "labels": ["queue"], "rows": [["a", 1], ["b", -3]]}
LATER = {"name": "queue_size", "ts": NOW - 3, "labels": ["queue"], "rows": [["a", 5]]}
LISTS = {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", [0.1, 7, 0.2]], ["b", [3]], ["a", 4]]}
BUCKETS = {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["b", COUNTED], ["a", 2], ["b", COUNTED]]}
OWN = {"name": "own_seconds", "type": "histogram", "labels": ["agent"], "rows": [["a", COUNTED]]}
FORMS: tuple[dict[str, Any], ...] = (COUNTS, LEVELS, LATER, LISTS, BUCKETS, OWN)


def body(
    *said: Any, ts: Any = NOW, separators: tuple[str, str] = (",", ":"), ensure_ascii: bool = False, **stated: Any
) -> bytes:
    members = {"samples": said} if said or "tables" not in stated else {}
    document = {"v": 1, "source": "s-1", "agent": "tester", "ts": ts, **members, **stated}
    return json.dumps(document, separators=separators, ensure_ascii=ensure_ascii).encode()


def read_often(texts: KnownTexts, content: bytes) -> Envelope | None:
    """Read a body until its texts are known, if they can be: one read teaches a thousand of them."""
    texts._rest, texts._missed, texts._credit = 0, 0, known_texts._MOST_CREDIT
    if texts._learner is not None and texts._learner.is_full:
        texts.clear()
    return read(texts, content) or read(texts, content) or read(texts, content)


def fold_together(fold: Fold, *envelopes: Envelope) -> None:
    fold.envelopes(envelopes, [NOW] * len(envelopes), [None] * len(envelopes))


def read(texts: KnownTexts, content: bytes) -> Envelope | None:
    return texts.read([content])[0]
