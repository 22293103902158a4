"""`busmon tail`: live samples as they pass, without taking them from the fleet."""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from busmon.cli.commands import Commands, add_command
from busmon.cli.labels import add_labels, labels_from
from busmon.cli.numbers import whole
from busmon.cli.options import add_settings, settings_from
from busmon.errors import EnvelopeError
from busmon.printable import escape_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from busmon.bus.frames.delivery import Delivery
    from busmon.wire.envelope import Envelope
    from busmon.wire.formats import Formats

EXAMPLES = """\
examples:
  busmon tail                                    everything, until Ctrl-C
  busmon tail 'tasks_*' --agent analyzer         metrics and agents by patterns, with * and ?
  busmon tail -l status=failure -n 10            the next ten samples with this label
  busmon tail --json | jq .value

Samples are shown as published: a counter's increments, a gauge's readings, observations. The fleet receives them too.
The command's own queue holds the last 1000 envelopes, drops its oldest, and is deleted at the end. The broker's user
needs the operator's right to declare and bind queues.
"""


_UNSHOWABLE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""Errors of a value of another kind, out of any range, or nested too deep."""


class Seen(NamedTuple):
    """One sample that passed.

    Attributes:
        at: when it was measured or else made, in seconds since the epoch.
        value: a number, a list of observations, or counts with their sum.
    """

    at: float
    agent: str
    name: str
    labels: Mapping[str, str]
    value: Any


class Wanted(NamedTuple):
    """A filter of samples: names and agents by patterns, labels by values."""

    names: list[str]
    agents: list[str]
    labels: dict[str, str]

    def has(self, seen: Seen) -> bool:
        """Tell whether a sample is shown."""
        return (
            _any_matches(self.names, seen.name)
            and _any_matches(self.agents, seen.agent)
            and all(fnmatchcase(str(seen.labels.get(key, "")), value) for key, value in self.labels.items())
        )


def add(commands: Commands) -> None:
    """Add `tail`."""
    tail = add_command(
        commands,
        "tail",
        "show samples live",
        EXAMPLES,
        description="Show the samples that agents publish, live. The fleet receives them too.",
    )
    tail.add_argument("names", metavar="NAME", nargs="*", help="only metrics with these names or patterns")
    tail.add_argument(
        "--agent", metavar="A", action="append", default=[], help="only samples of this agent; may be repeated"
    )
    add_labels(tail, "only with this label; may be repeated")
    tail.add_argument("-n", "--count", metavar="N", type=whole(1), help="end after N samples")
    tail.add_argument("--json", action="store_true", help="one JSON object a line")
    add_settings(tail, "amqp_url", "exchange", "formats", "max_body_bytes")
    tail.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show samples until there are enough, or until Ctrl-C."""
    from busmon.bus.operator.tap import tap
    from busmon.bus.topology.topology import load
    from busmon.wire.formats import Formats

    settings = settings_from(args)
    wanted = Wanted(args.names, args.agent, labels_from(args, "tail"))
    celery_exchanges = load(settings.topology, settings.exchange).celery_exchanges
    formats = Formats(settings.formats, "", settings.max_body_bytes, celery_exchanges)
    left = args.count
    is_news = sys.stderr.isatty()
    for delivery in tap(settings.amqp_url, settings.exchange):
        if delivery is None and is_news:
            print("waiting for samples; Ctrl-C ends", file=sys.stderr)
        is_news = False
        for line in () if delivery is None else lines(delivery, formats, wanted, as_json=args.json):
            print(line, flush=True)
            left = None if left is None else left - 1
            if left == 0:
                return 0
    return 0


def _any_matches(patterns: list[str], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def lines(delivery: "Delivery", formats: "Formats", wanted: Wanted, *, as_json: bool) -> "Iterator[str]":
    """Yield a line for each wanted sample of a delivery; report on stderr what can't be shown."""
    try:
        envelope = formats.decode(delivery)
        # What is in there is unchecked until the fold has looked at it; a tail shows what can be shown.
        for seen in _of_envelope(envelope, envelope.ts or delivery.published_at or time()):
            if wanted.has(seen):
                yield _json(seen) if as_json else _line(seen)
    except (EnvelopeError, *_UNSHOWABLE) as error:
        print(printable(f"busmon: {delivery.routing_key}: not shown: {error}"), file=sys.stderr)


def _of_envelope(envelope: "Envelope", at: float) -> "Iterator[Seen]":
    for sample in envelope.samples:
        values = [sample[key] for key in ("value", "values", "buckets") if sample.get(key) is not None]
        yield Seen(sample.get("ts") or at, envelope.agent, sample["name"], sample.get("labels") or {}, *values)
    for table in envelope.tables:
        for *labelvalues, cell in table["rows"]:
            labels = dict(zip(table["labels"], labelvalues, strict=True))
            yield Seen(table.get("ts") or at, envelope.agent, table["name"], labels, cell)
    for part in envelope.parts:
        for point in part.points:
            yield Seen(point.at or at, part.agent, point.name, point.labels, point.value)


def _line(seen: Seen) -> str:
    at = datetime.fromtimestamp(seen.at, UTC).astimezone()
    labels = ",".join(f'{key}="{value}"' for key, value in seen.labels.items())
    series = f"{seen.name}{{{labels}}}" if labels else seen.name
    return printable(f"{at:%H:%M:%S.%f} {seen.agent:<16} {series} {_show(seen.value)}")


def _json(seen: Seen) -> str:
    import orjson

    said = orjson.dumps(seen._asdict() | {"labels": dict(seen.labels)}, option=orjson.OPT_NON_STR_KEYS).decode()
    return escape_json(said)


def _show(value: Any) -> str:
    """Write a value, or several, as it was published: in full, and whole numbers without a fraction."""
    values = value if isinstance(value, list) else [value]
    return " ".join(str(one).removesuffix(".0") if isinstance(one, float) else str(one) for one in values)
