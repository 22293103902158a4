"""One run: the plan is carried out on a stage of its own, everything drains, and is audited.

The order is the file's. Main thread.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from busmon.catalogue import Catalogue
from tests.soak import counted, past, replicas
from tests.soak.audit import CONSUMED, UNVERIFIABLE, audit_broker, audit_scrape, depths
from tests.soak.chaos import Chaos
from tests.soak.counted import Expected
from tests.soak.host import Host
from tests.soak.notes import Notes
from tests.soak.plan import ONE_HOST, SEVERAL_HOSTS, Fault, Step, plan
from tests.soak.processes import Process, left_behind
from tests.soak.samples import Sampler
from tests.soak.scrape import Scrape
from tests.soak.stage import RAW_PUBLISHERS, SHARDS, Stage, stage
from tests.soak.watch import Watch

DRAIN_SECONDS = 180.0
SAMPLES = "samples.jsonl"
NO_ENVIRONMENT: Mapping[str, str] = {}
TICK_SECONDS = 6.0
"""RabbitMQ tells how much a quorum queue holds as it was at its last tick, and ticks every 5 s."""
ON_THE_WAY = (".fold.", ".waiting")
"""Queues that have this in their names hold what is to be counted."""
LINE_START = b'{"timestamp": '
BROKEN = ("followed_log.replica_differed", "followed_log.refused")
"""The events of a replica that isn't a copy of its log."""


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


def run(  # noqa: PLR0913 - the arguments of the command
    directory: Path,
    seed: int,
    kills: int,
    seconds: float,
    *,
    hosts: int = 1,
    environment: Mapping[str, str] = NO_ENVIRONMENT,
) -> Outcome:
    """Soak for so many kills, spread over so many seconds, in this directory.

    A directory in which a soak ended without a complaint is taken on: broker, registry and totals are what they were.
    """
    directory, outcome = directory.absolute(), Outcome()
    steps = plan(seed, kills, seconds, ONE_HOST if hosts == 1 else SEVERAL_HOSTS)
    with stage(directory, seed, hosts, environment) as played, Sampler(directory, directory / SAMPLES):
        expected = play(played, steps, seed, outcome)
        outcome.complaints += audit(expected, played)
        outcome.figures |= seen(expected, played.hosts[0].scrape()) | told(played)
        for host in played.hosts:
            host.fleet.terminate()
            if (status := host.fleet.wait()) != 0:
                outcome.complaints.append(f"{host.name}: `busmon up` ended with status {status} at SIGTERM")
    outcome.complaints += [f"process {pid} is left: {argv}" for pid, argv in left_behind(directory, 10).items()]
    if not outcome.complaints:
        past.write(directory, expected, played.records)
    return outcome


def play(played: Stage, steps: Sequence[Step], seed: int, outcome: Outcome) -> Expected:
    """Carry out the plan under watch, and let everything come to rest; what must be counted then."""
    with closing(Notes(played.directory)) as notes, ExitStack() as watching:
        watches = [watching.enter_context(Watch(host, [*RAW_PUBLISHERS], notes)) for host in played.hosts]
        chaos = Chaos(played, watches, notes, seed)
        chaos.run(steps)
        drain(played.publishers, notes)
        expected = counted.read(played.records, Catalogue.load(()), past.read(played.directory))
        expected.runs += starts(played.publishers)
        await_fold(expected.envelopes, played, notes)
    outcome.faults = chaos.done
    outcome.complaints += notes.complaints
    outcome.figures["scrapes"] = sum(watch.scrapes for watch in watches)
    if len(watches) > 1:
        outcome.figures["scrapes refused while a replica was read"] = sum(watch.refusals for watch in watches)
    outcome.figures["workers caught between the mark of a commit and its end"] = chaos.committing
    return expected


def drain(publishers: Sequence[Process], notes: Notes) -> None:
    """Let the publishers have everything confirmed, and end."""
    notes.note("drain")
    for publisher in publishers:
        publisher.terminate()
    for publisher in publishers:
        if (status := publisher.wait(DRAIN_SECONDS)) != 0:
            notes.complain(f"a publisher ended with status {status}, and not with 0: {publisher.log}")


def await_fold(envelopes: int, played: Stage, notes: Notes) -> None:
    """Let every host have all that is confirmed, and whatever comes again."""
    deadline = time.monotonic() + DRAIN_SECONDS
    for host in played.hosts:
        while host.scrape().total(CONSUMED) < envelopes and time.monotonic() < deadline:
            time.sleep(1.0)
    time.sleep(TICK_SECONDS)
    while any(depths(played.node, *ON_THE_WAY).values()) and time.monotonic() < deadline:
        time.sleep(1.0)
    if time.monotonic() >= deadline:
        notes.complain(f"not drained within {DRAIN_SECONDS:g} s: {depths(played.node, *ON_THE_WAY)}")


def audit(expected: Expected, played: Stage) -> Iterator[str]:
    """List what isn't right at rest, at the broker and on each host."""
    yield from audit_broker(expected, played.node)
    for host in played.hosts:
        page = host.fetch()
        (host.directory / "final.txt").write_text(page)
        yield from (f"{host.name}: {line}" for line in audit_scrape(expected, Scrape.parse(page)))
        yield from (f"{host.name}: {event} is in its log" for event in BROKEN if events(host)[event])
    if len(played.hosts) > 1:
        yield from replicas.differences(played.hosts, SHARDS)


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


def told(played: Stage) -> dict[str, int]:
    """Read the effects of the faults from the hosts' logs."""
    found: Counter[str] = Counter()
    for host in played.hosts:
        found.update(events(host))
    replicated = {
        "claims of a shard that counted": found["followed_log.owning"],
        "replicas that went on from their files": found["followed_log.resuming"],
        "replicas that were read again": found["followed_log.rebuilding"],
    }
    return {
        "starts of a worker or exporter": found["supervisor.child_started"],
        "starts of a fleet": sum(host.fleet.starts for host in played.hosts),
        "runs of publishers": starts(played.publishers),
        "commits redone by the next owner": found["worker.journal_replayed"] + found["up.commits_redone"],
        "connections lost by workers": found["consumer.connection_lost"],
        "times that a worker made the ring": found["ringing.made"],
        **(replicated if len(played.hosts) > 1 else {}),
    }


def events(host: Host) -> Counter[str]:
    """Count the events of a host's log.

    SIGKILL may end a process in the middle of its write to the file. The next process's line follows what it wrote.
    """
    lines = (line.rpartition(LINE_START) for line in host.fleet.log.read_bytes().splitlines())
    return Counter(json.loads(start + rest)["event"] for _, start, rest in lines if start)
