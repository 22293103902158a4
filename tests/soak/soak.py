"""One run: the plan is carried out on a stage of its own, everything drains, and is audited.

The order is the file's. Main thread.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from busmon.catalogue import Catalogue
from busmon.demo.broker import PrivateNode
from tests.soak import counted, past
from tests.soak.chaos import Chaos
from tests.soak.counted import Expected
from tests.soak.plan import Fault, Step, plan
from tests.soak.processes import Fleet, Process, left_behind
from tests.soak.samples import Sampler
from tests.soak.scrape import Scrape
from tests.soak.stage import RAW_PUBLISHERS, Stage, stage
from tests.soak.watch import Watch, fetch

DRAIN_SECONDS = 90.0
SAMPLES = "samples.jsonl"
NO_ENVIRONMENT: Mapping[str, str] = {}
TICK_SECONDS = 6.0
"""RabbitMQ tells how much a quorum queue holds as it was at its last tick, and ticks every 5 s."""
CONSUMED = "busmon_envelopes_consumed_total"
UNVERIFIABLE = "busmon_envelopes_unverifiable_total"
ON_THE_WAY = (".fold.", ".waiting")
"""Queues that have this in their names hold what is to be counted."""
MUST_BE_ZERO = (
    "busmon_envelopes_rejected_total",
    "busmon_samples_rejected_total",
    "busmon_envelopes_unidentified_total",
    "busmon_quarantine_dropped_total",
    "busmon_publisher_dropped_total",
)


@dataclass(slots=True)
class Outcome:
    """The outcome of a run; `complaints` is empty if everything was right.

    Attributes:
        faults: how often what was done.
        figures: what was counted meanwhile, for a person.
    """

    faults: Counter[Fault] = field(default_factory=Counter)
    figures: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


def run(
    directory: Path, seed: int, kills: int, seconds: float, environment: Mapping[str, str] = NO_ENVIRONMENT
) -> Outcome:
    """Soak for so many kills, spread over so many seconds, in this directory.

    A directory in which a soak ended without a complaint is taken on: broker, registry and totals are what they were.
    """
    directory, outcome = directory.absolute(), Outcome()
    with stage(directory, seed, environment) as played, Sampler(directory, directory / SAMPLES):
        expected = play(played, plan(seed, kills, seconds), seed, outcome)
        page = fetch(played.url)
        (directory / "final.txt").write_text(page)
        final = Scrape.parse(page)
        outcome.complaints += audit(expected, final, played)
        outcome.figures |= seen(expected, final) | told(played.fleet, played.publishers)
        played.fleet.terminate()
        if (status := played.fleet.wait()) != 0:
            outcome.complaints.append(f"`busmon up` ended with status {status} at SIGTERM")
    outcome.complaints += [f"process {pid} is left: {argv}" for pid, argv in left_behind(directory, 10).items()]
    if not outcome.complaints:
        past.write(directory, expected, played.records)
    return outcome


def play(played: Stage, steps: Sequence[Step], seed: int, outcome: Outcome) -> Expected:
    """Carry out the plan under watch, and let everything come to rest; what must be counted then."""
    with Watch(played.address, [*RAW_PUBLISHERS], played.directory) as watch:
        chaos = Chaos(played, watch, seed)
        chaos.run(steps)
        drain(played.publishers, watch)
        expected = counted.read(played.records, Catalogue.load(()), past.read(played.directory))
        expected.runs += starts(played.publishers)
        played.await_exporter()
        await_fold(expected.envelopes, played, watch)
    outcome.faults = chaos.done
    outcome.complaints += watch.complaints
    outcome.figures["scrapes"] = watch.scrapes
    outcome.figures["workers caught between the mark of a commit and its end"] = chaos.committing
    return expected


def drain(publishers: Sequence[Process], watch: Watch) -> None:
    """Let the publishers have everything confirmed, and end."""
    watch.note("drain")
    for publisher in publishers:
        publisher.terminate()
    for publisher in publishers:
        if (status := publisher.wait(DRAIN_SECONDS)) != 0:
            watch.complain(f"a publisher ended with status {status}, and not with 0: {publisher.log}")


def await_fold(envelopes: int, played: Stage, watch: Watch) -> None:
    """Let the fleet fold all that is confirmed, and whatever comes again."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while Scrape.parse(fetch(played.url)).total(CONSUMED) < envelopes and time.monotonic() < deadline:
        time.sleep(1.0)
    time.sleep(TICK_SECONDS)
    while any(depths(played.node, *ON_THE_WAY).values()) and time.monotonic() < deadline:
        time.sleep(1.0)
    if time.monotonic() >= deadline:
        watch.complain(f"not drained within {DRAIN_SECONDS:g} s: {depths(played.node, *ON_THE_WAY)}")


def depths(node: PrivateNode, *parts: str) -> dict[str, int]:
    """Count the messages of the queues with one of these names in theirs, unsettled deliveries included."""
    lines = node.rabbitmqctl("list_queues", "--quiet", "--no-table-headers", "name", "messages").splitlines()
    return {name: int(messages) for name, messages in map(str.split, lines) if any(part in name for part in parts)}


def audit(expected: Expected, scrape: Scrape, played: Stage) -> list[str]:
    """List the differences between the last scrape and the records."""
    found = [*counted.differences(expected, scrape, Catalogue.load(())), *expected.lost_steps]
    found += [f"{message_id} was never confirmed" for message_id in expected.unconfirmed]
    if (consumed := scrape.total(CONSUMED)) != expected.envelopes:
        found.append(f"envelopes: published {expected.envelopes}, consumed {consumed}")
    found += [f"{name} is {total}" for name in MUST_BE_ZERO if (total := scrape.total(name))]
    # A source that begins while the ring is missing is first seen in its middle; it can't be told from a forgotten one.
    if (unverifiable := scrape.total(UNVERIFIABLE)) > expected.runs:
        found.append(f"{UNVERIFIABLE} is {unverifiable}, for {expected.runs} sources at most")
    return found + [f"{name} holds {depth}" for name, depth in depths(played.node, "quarantine").items() if depth]


def seen(expected: Expected, scrape: Scrape) -> dict[str, int]:
    """Word the counts for a person."""
    return {
        "envelopes, each counted once": expected.envelopes,
        "envelopes that came again and were known": int(scrape.total("busmon_envelopes_deduplicated_total")),
        "envelopes that overtook the first of their source": int(scrape.total(UNVERIFIABLE)),
        "series compared": len(expected.series) + len(expected.gauges),
    }


def starts(publishers: Sequence[Process]) -> int:
    """How often a publisher was started."""
    return sum(publisher.starts for publisher in publishers)


def told(fleet: Fleet, publishers: Sequence[Process]) -> dict[str, int]:
    """Read the effects of the faults from the fleet's log."""
    events: Counter[str] = Counter()
    for line in fleet.log.read_bytes().splitlines():
        if line.startswith(b"{"):
            entry = json.loads(line)
            events[f"{entry['event']} {entry.get('cause', '')}".strip()] += 1
    lost = sum(count for event, count in events.items() if event.startswith("consumer.connection_lost"))
    return {
        "starts of a worker or exporter": events["supervisor.child_started"],
        "starts of the fleet": fleet.starts,
        "runs of publishers": starts(publishers),
        "commits redone by the next owner": events["worker.journal_replayed"] + events["up.commits_redone"],
        "connections lost by workers": lost,
        "times that a worker made the ring": events["ringing.made"],
    }
