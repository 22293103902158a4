"""The attacks of `hostile.py`: what a publisher with a password sends in order to stop the fleet or to spoil others.

Each attack is an iterator of bodies with the properties that the publisher states. Everything is made from a fixed
seed, so each run sends the same bytes.
"""

import gzip
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pika

ATTACKER = "attacker"
"""The attacker's user."""

VICTIM_AGENT = "honest"

Publish = tuple[str, bytes, pika.BasicProperties]
"""Routing key, body, properties."""

Attack = Callable[[Sequence[str]], Iterator[Publish]]
"""Takes the sources of the victims."""

_random = random.Random(1)  # noqa: S311 - the same names in each run


def token() -> str:
    """Make 16 hexadecimal digits that nobody else has."""
    return f"{_random.getrandbits(64):016x}"


def pack(content: dict[str, Any], source: str, agent: str = ATTACKER) -> Publish:
    """Make one compressed body of busmon's own format."""
    body = gzip.compress(orjson.dumps({"v": 1, "source": source, "agent": agent, **content}))
    headers = {"source": source}
    stated = pika.BasicProperties(
        content_type="application/json", content_encoding="gzip", message_id=f"{source}:1", headers=headers
    )
    return "attacker.task", body, stated


def invent(name: str, content: dict[str, Any]) -> Publish:
    """Make one body of a source and an agent that nobody has heard of."""
    source = f"{name}-{token()}"
    body = orjson.dumps({"v": 1, "source": source, "agent": source, **content})
    stated = pika.BasicProperties(message_id=f"{source}:1", app_id=source, headers={"source": source})
    return f"{name}.task", body, stated


# -- few series that are large --------------------------------------------------------------------------------------


def wide_histogram() -> Iterator[Publish]:
    """Make a dynamic metric with the greatest number of labels and bounds, and the longest values."""
    for labels, bounds, length in ((32, 200, 1024), (16, 64, 256)):
        names = [f"label_{number:02}" for number in range(labels)]
        buckets = {str(bound): 1 for bound in range(bounds)} | {"+Inf": 1}
        for number in range(40):
            rows = [
                [
                    *(f"{number}.{row}.{label}".ljust(length, "x") for label in range(labels)),
                    {"buckets": buckets, "sum": 1},
                ]
                for row in range(28)
            ]
            table = {"name": f"wide_{labels}_{number % 4}", "type": "histogram", "labels": names, "rows": rows}
            yield pack({"tables": [table]}, f"wide-{labels}-{number}")


def long_values() -> Iterator[Publish]:
    """Fill the catalogue's histogram with label values of the greatest length."""
    for number in range(100):
        rows = [[f"{number}.{row}".ljust(1024, "\u20ac"), 0.5] for row in range(100)]
        table = {"name": "task_duration_seconds", "labels": ["agent"], "rows": rows}
        yield pack({"tables": [table]}, f"long-{number}")


def bins() -> Iterator[Publish]:
    """Send summaries with an observation in each bin, and long label values."""
    values = [1.02**power for power in range(-1000, 1300)]
    for number in range(60):
        samples = [
            {"name": "binned", "type": "summary", "labels": {"k": f"{number}.{part}".ljust(256, "y")}, "values": values}
            for part in range(10)
        ]
        yield pack({"samples": samples}, f"bins-{number}")


# -- sources, names and values without end --------------------------------------------------------------------------


def shares() -> Iterator[Publish]:
    """Send gauges of five thousand series, each from many sources."""
    rows = [[str(row), 1] for row in range(5_000)]
    for number in range(300):
        yield pack({"tables": [{"name": "shared", "type": "gauge", "labels": ["k"], "rows": rows}]}, f"shares-{number}")


def sources() -> Iterator[Publish]:
    """Send OTLP bodies with thousands of resources, each a source of its own."""
    point = {"asDouble": 1}
    for number in range(60):
        resources = [
            {
                "resource": {
                    "attributes": [{"key": "service.instance.id", "value": {"stringValue": f"{number}-{each}"}}]
                },
                "scopeMetrics": [{"metrics": [{"name": "level", "gauge": {"dataPoints": [point]}}]}],
            }
            for each in range(5_000)
        ]
        body = gzip.compress(orjson.dumps({"resourceMetrics": resources}))
        headers = {"source": "o"}
        stated = pika.BasicProperties(content_type="application/json", content_encoding="gzip", headers=headers)
        yield "otlp_metrics", body, stated


def endless_values() -> Iterator[Publish]:
    """Send label values that never come again, in two counters of the catalogue."""
    for number in range(100):
        tables = [
            {"name": "agent_starts_total", "labels": ["agent"], "rows": [[token(), 1] for _ in range(5_000)]},
            {
                "name": "tasks_processed_total",
                "labels": ["agent", "status"],
                "rows": [[token(), "success", 1] for _ in range(5_000)],
            },
        ]
        yield pack({"tables": tables}, f"endless-{number}")


def endless_gauges() -> Iterator[Publish]:
    """Send label values that never come again, in a gauge of the catalogue, so that each is refused."""
    for number in range(100):
        rows = [[token(), 1] for _ in range(10_000)]
        yield pack({"tables": [{"name": "queue_size", "labels": ["queue"], "rows": rows}]}, f"endless-{number}")


def invalid_rows() -> Iterator[Publish]:
    """Send invalid rows: no list, an invalid value, or labels that don't match."""
    tables = [
        {"name": "agent_starts_total", "labels": ["agent"], "rows": [["a", "b"]] * 10_000},
        {"name": "agent_starts_total", "labels": ["agent"], "rows": [1] * 10_000},
        {"name": "agent_starts_total", "labels": ["agent", "more"], "rows": [["a", "b", 1]] * 10_000},
        {"name": "queue_size", "labels": ["queue"], "rows": [[1]] * 10_000},
    ]
    for number in range(60):
        yield pack({"tables": tables}, f"invalid-{number}")


def large_headers() -> Iterator[Publish]:
    """Send invalid bodies with headers that are large, and with the largest that are decoded."""
    for number in range(400):
        nulls = 100_000 if number % 2 else 16_000
        headers = {"source": f"headers-{number}", "deep": [None] * nulls}
        yield "attacker.task", b"{]", pika.BasicProperties(message_id=f"headers-{number}:1", headers=headers)


def header_tables() -> Iterator[Publish]:
    """Send valid envelopes with header tables that are as large as they may be, each with other names."""
    for number in range(2_000):
        source = f"tables-{number}"
        headers = {"source": source, "flat": {token(): each for each in range(600)}, "deep": _nest(100)}
        body = orjson.dumps({"v": 1, "source": source, "agent": ATTACKER, "samples": []})
        yield "attacker.task", body, pika.BasicProperties(message_id=f"{source}:1", headers=headers)


def _nest(depth: int) -> dict[str, Any]:
    """Make a table within tables."""
    table: dict[str, Any] = {"end": 1}
    for _ in range(depth):
        table = {token()[:8]: table}
    return table


def invalid_bodies() -> Iterator[Publish]:
    """Send bodies of one byte, more than the quarantine keeps, and now and then a large one."""
    small, large = b"{", b"{" * 1_000_000
    for number in range(20_000):
        yield "attacker.task", small if number % 20 else large, pika.BasicProperties(message_id=token())


def lines() -> Iterator[Publish]:
    """Send bodies that are refused for a dozen reasons, with the names that take most room in a line."""
    long = "\x1b[2J\n\u20ac" * 100
    refused: list[tuple[bytes, dict[str, Any]]] = [
        (b"", {}),
        (b"{]", {}),
        (b"\xff\xfe", {}),
        (b"[]", {}),
        (b'{"v": 2}', {}),
        (b"{}", {"content_encoding": long[:60]}),
        (b"{}", {"content_encoding": "gzip"}),
        (b"{}", {"content_type": long[:60]}),
        (b"{", {"content_type": "text/plain; version=0.0.4"}),
    ]
    for number in range(20_000):
        name = f"{number}{long}"
        body, stated = refused[number // 2 % len(refused)]
        if number % 2:
            source = f"lines-{number}"
            sample = {"name": f"line_{number}", "labels": {"le": long}, "value": long}
            body = orjson.dumps({"v": 1, "source": source, "agent": name[:128], "samples": [sample] * 10})
            stated = {"headers": {"source": source}}
        yield "attacker.task", body, pika.BasicProperties(message_id=name[:80], app_id=name[:80], **stated)


def leavers() -> Iterator[Publish]:
    """Send one body with thousands of gauges, and very many sources that say they stop."""
    rows = [[str(row), 1] for row in range(9_000)]
    for number in range(20_000):
        if number % 500 == 0:
            yield pack({"tables": [{"name": "held", "type": "gauge", "labels": ["k"], "rows": rows}]}, f"held-{number}")
        yield pack({"samples": [], "final": True}, f"leaver-{number}")


# -- what is shared fairly ------------------------------------------------------------------------------------------


def invent_agents() -> Iterator[Publish]:
    """Send from agents that publish once, each with a label value of its own."""
    for _ in range(30_000):
        sample = {"name": "agent_starts_total", "labels": {"agent": token()}, "value": 1}
        yield invent("crowd", {"samples": [sample]})


def take_names() -> Iterator[Publish]:
    """Send metrics that no catalogue names, twenty from each new agent."""
    for number in range(5_000):
        samples = [{"name": f"junk_{number}_{each}", "type": "gauge", "value": 1} for each in range(20)]
        yield invent("taker", {"samples": samples})


def forge_sources(victims: Sequence[str]) -> Iterator[Publish]:
    """Send empty envelopes with the victims' next numbers, and their ends."""
    for number, is_end, source in itertools.product(range(1, 2_500), (False, True), victims):
        final = {"final": True} if is_end else {}
        body = orjson.dumps({"v": 1, "source": source, "agent": VICTIM_AGENT, "samples": [], **final})
        headers = {"source": source}
        stated = pika.BasicProperties(message_id=f"{source}:{number}", app_id=VICTIM_AGENT, headers=headers)
        yield "honest.task", body, stated


def measure_bytes(publish: Publish) -> int:
    """Return the size of a body and its properties, in bytes."""
    _, body, properties = publish
    return len(body) + sum(map(len, properties.encode()))


def make(attack: str, victims: Sequence[str]) -> list[Publish]:
    """Make all that an attack sends against these sources."""
    return [*ATTACKS[attack](victims)]


def _on_all(attack: Callable[[], Iterator[Publish]]) -> Attack:
    """Make an attack of one that names no victim."""
    return lambda _: attack()


ATTACKS: dict[str, Attack] = {
    "nothing": _on_all(lambda: iter(())),
    "wide histogram": _on_all(wide_histogram),
    "long label values": _on_all(long_values),
    "bins of summaries": _on_all(bins),
    "gauges of sources": _on_all(shares),
    "sources in OTLP": _on_all(sources),
    "endless label values": _on_all(endless_values),
    "endless values of gauges": _on_all(endless_gauges),
    "invalid rows": _on_all(invalid_rows),
    "large headers": _on_all(large_headers),
    "header tables": _on_all(header_tables),
    "invalid bodies": _on_all(invalid_bodies),
    "lines of the log": _on_all(lines),
    "leaving sources": _on_all(leavers),
    "invented agents": _on_all(invent_agents),
    "taken names": _on_all(take_names),
    "forged sources": forge_sources,
}
