"""The audit of a run at rest: the differences of the broker and of a host's last scrape from the publishers' records.

Main thread.
"""

from collections.abc import Iterator

from busmon.catalogue import Catalogue
from busmon.demo.broker import PrivateNode
from tests.soak import counted
from tests.soak.counted import Expected
from tests.soak.scrape import Scrape

CONSUMED = "busmon_envelopes_consumed_total"
UNVERIFIABLE = "busmon_envelopes_unverifiable_total"
MUST_BE_ZERO = (
    "busmon_envelopes_rejected_total",
    "busmon_samples_rejected_total",
    "busmon_envelopes_unidentified_total",
    "busmon_quarantine_dropped_total",
    "busmon_publisher_dropped_total",
)


def audit_broker(expected: Expected, node: PrivateNode) -> Iterator[str]:
    """List what publishers lost, and what is in quarantine."""
    yield from expected.lost_steps
    yield from (f"{message_id} was never confirmed" for message_id in expected.unconfirmed)
    yield from (f"{name} holds {depth}" for name, depth in depths(node, "quarantine").items() if depth)


def audit_scrape(expected: Expected, scrape: Scrape) -> Iterator[str]:
    """List the differences between a host's last scrape and the records."""
    yield from counted.differences(expected, scrape, Catalogue.load(()))
    if (consumed := scrape.total(CONSUMED)) != expected.envelopes:
        yield f"envelopes: published {expected.envelopes}, consumed {consumed}"
    yield from (f"{name} is {total}" for name in MUST_BE_ZERO if (total := scrape.total(name)))
    # A source that begins while the ring is missing is first seen in its middle; it can't be told from a forgotten one.
    if (unverifiable := scrape.total(UNVERIFIABLE)) > expected.runs:
        yield f"{UNVERIFIABLE} is {unverifiable}, for {expected.runs} sources at most"


def depths(node: PrivateNode, *parts: str) -> dict[str, int]:
    """Count the messages of the queues with one of these names in theirs, unsettled deliveries included."""
    lines = node.rabbitmqctl("list_queues", "--quiet", "--no-table-headers", "name", "messages").splitlines()
    return {name: int(messages) for name, messages in map(str.split, lines) if any(part in name for part in parts)}
