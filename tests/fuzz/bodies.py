"""The target of bodies: any bytes, delivered in any way, go through a worker's lane in a batch with good neighbours.

Every body is settled. It is counted, or quarantined for a reason that its publisher can act on. No body makes the fold
or the commit raise, takes longer than an alarm, costs a neighbour its count, or breaks a scrape or the next opening.
"""

import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families as parse_text

from busmon.bus.frames.delivery import Delivery
from busmon.errors import MAX_DETAIL_CHARACTERS, EnvelopeError
from busmon.fleet.worker.trigger import Trigger
from busmon.reasons import BodyReason
from busmon.registry.admission.budgets import Budgets
from busmon.registry.scrape.exposition import Exposition
from tests.fuzz.ways import CONTROLS, Way
from tests.fuzz.worked import Settlements, WorkedShard, deliver

BATCH = 16
"""Fuzzed bodies in a batch, which has two good ones in addition."""
BATCHES_PER_BEAT = 64
BATCHES_PER_LIFE = 512
"""After so many batches the shard is closed, scraped, and opened again."""
LIVES = 8
"""After so many lives the registry directory is a new one."""
ALARM_SECONDS = 10.0
"""Processor time for one body; the slowest takes a few milliseconds."""
BUDGETS = Budgets(20, 0.2, 300, 3000, frozenset(), 1 << 18, 1 << 21, 1 << 20)
"""Small, so that they are reached, and so that values come and go within a directory's life."""
_FAULTS = frozenset({BodyReason.UNCOUNTABLE, BodyReason.KILLS_WORKER})


class FaultError(AssertionError):
    """A promise that a body broke."""


class Hang(BaseException):
    """A body that took longer than the alarm; no `except Exception` on its way keeps it."""


class Life:
    """One opening of the shard: a lane, and the exporter that follows its files."""

    def __init__(self, directory: Path) -> None:
        self.settlements = Settlements()
        self.worked = WorkedShard(directory, 0, BUDGETS, self.settlements)
        self.lane, self.upkeep = self.worked.lane, self.worked.upkeep
        self.exposition = Exposition(directory)
        self.met: list[BaseException] = []
        self.lane._uncountable._refuse = self._keep_fault  # type: ignore[method-assign]

    def _keep_fault(self, delivery: Delivery, fault: Exception) -> None:
        """Keep what a body raised, of which a worker keeps the name alone, and settle the body."""
        self.met.append(fault)
        batch = self.lane._batch
        batch.refuse(delivery, EnvelopeError(BodyReason.UNCOUNTABLE, type(fault).__name__))
        batch.commit(Trigger.FAULT)

    def close(self) -> None:
        """Close the files."""
        self.worked.close()


class Bodies:
    """The target; one object for a slice.

    Attributes:
        taken: how many bodies were delivered.
        outcomes: bodies by the format that a rule names and by what became of them.
        slowest: the longest processor time of a body.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._described: Counter[tuple[str, str]] = Counter()
        self.slowest = 0.0
        self._directory = Path(tempfile.mkdtemp(prefix="bodies-"))
        self._lives = self._batches = self._tag = self._good = 0
        self._batch: dict[int, bytes] = {}
        self._found = ""
        signal.signal(signal.SIGVTALRM, _raise_hang)
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()
        shutil.rmtree(self._directory)

    def take(self, data: bytes) -> bool:
        """Deliver one input's body; any input has one.

        Raises:
            FaultError: it, or a body of its batch, broke a promise.
        """
        if not self._batch:
            self._deliver_good()
        self._tag += 1
        self._batch[self._tag] = data
        way = Way.read(data)
        with self._alarmed(data):
            self._life.lane.deliver([self._delivery(way, data[CONTROLS:])])
        self._require_no_fault()
        self.taken += 1
        if len(self._batch) == BATCH:
            self.finish()
        return True

    def finish(self) -> None:
        """Close the batch, and check it.

        Raises:
            FaultError: a body of it broke a promise.
        """
        if not self._batch:
            return
        self._deliver_good()
        with self._alarmed(b""):
            self._life.lane.close(Trigger.DRAIN)
        self._require_no_fault()
        self._check_settled()
        self._batch = {}
        self._batches += 1
        if self._batches % BATCHES_PER_BEAT == 0:
            self._life.upkeep.beat(time.time() - 0.2, self._directory)
            self._check_good(self._life.exposition)
        if self._batches % BATCHES_PER_LIFE == 0:
            self.reopen()

    def reopen(self) -> None:
        """Scrape, close the shard, open it again, and scrape what a new exporter reads.

        Raises:
            FaultError: a scrape doesn't parse, or misses a good body.
        """
        self._check_scrape(self._life.exposition)
        self._life.close()
        if self._lives % LIVES == 0:
            shutil.rmtree(self._directory)
            self._directory.mkdir()
        self._begin()

    def describe(self) -> dict[str, int]:
        """Return the bodies by format and by what became of them, since the last call."""
        fresh = self.outcomes - self._described
        self._described = self.outcomes.copy()
        return {f"{format_ or 'by type'}: {outcome}": bodies for (format_, outcome), bodies in fresh.items()}

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._lives % LIVES == 0:
            self._name, self._good = f"good_{secrets.token_hex(8)}_total", 0
        self._lives += 1
        self._life = Life(self._directory)
        self._check_good(self._life.exposition)

    def _delivery(self, way: Way, content: bytes) -> Delivery:
        stated = {**way.properties, "message_id": f"fuzzed:{self._tag}" if way.is_identified else None}
        return deliver(self._tag, way.deliver(content), way.routing_key, way.is_redelivered, **stated)

    def _deliver_good(self) -> None:
        """Deliver an envelope as the SDK publishes it, which is new."""
        self._tag += 1
        self._good += 1
        source = f"good-{self._name}"
        body = (
            f'{{"v":1,"source":"{source}","agent":"good","samples":[],"tables":[{{"name":"{self._name}",'
            '"type":"counter","labels":[],"rows":[[1]]}]}'
        ).encode()
        message_id = f"{source}:{self._good}"
        self._life.lane.deliver([deliver(self._tag, body, "good.task", message_id=message_id)])

    # -- promises -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _alarmed(self, data: bytes) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_VIRTUAL, ALARM_SECONDS)
        began = time.process_time()
        try:
            yield
        except Hang as hang:
            raise FaultError(f"it takes more than {ALARM_SECONDS:g} s of processor time: {data!r}") from hang
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.slowest = max(self.slowest, time.process_time() - began)

    def _require_no_fault(self) -> None:
        if self._life.met:
            raise FaultError(f"counting raised {self._life.met[0]!r}") from self._life.met[0]

    def _check_settled(self) -> None:
        settlements = self._life.settlements
        if len(settlements.settled) != len(self._batch) + 2 or not self._batch.keys() <= {*settlements.settled}:
            raise FaultError(f"of {len(self._batch) + 2} bodies {len(settlements.settled)} are settled")
        refused = {tag: _check_refusal(headers) for tag, headers in settlements.refused}
        if lost := refused.keys() - self._batch.keys():
            raise FaultError(f"a good body is refused: {refused[lost.pop()]}")
        for tag, data in self._batch.items():
            self.outcomes[Way.read(data).format, refused.get(tag, "taken")] += 1
        settlements.settled, settlements.refused = [], []

    def _check_good(self, exposition: Exposition) -> None:
        shown = exposition.collect().value(self._name)
        if exposition.skipped:
            raise FaultError(f"the scrape skips files: {exposition.skipped}")
        if shown != self._good:
            raise FaultError(f"of {self._good} good bodies {shown:g} are counted")

    def _check_scrape(self, exposition: Exposition) -> None:
        text = exposition.text().decode()
        shown = [sample.value for family in parse_text(text) for sample in family.samples if sample.name == self._name]
        if shown != [self._good]:
            raise FaultError(f"of {self._good} good bodies the scrape shows {shown}")
        exposition.openmetrics()
        self._check_good(exposition)


def _check_refusal(headers: Mapping[str, str]) -> str:
    """Return the reason of a refused body, which says what is wrong in one short line.

    Raises:
        FaultError: it doesn't.
    """
    reason, detail = headers["reason"], headers["detail"]
    if reason in _FAULTS or reason not in {*BodyReason}:
        raise FaultError(f"a body is refused as {reason}: {detail}")
    if not detail.isprintable() or len(detail) > len(f"{reason}: ") + MAX_DETAIL_CHARACTERS:
        raise FaultError(f"a refusal is no short line of text: {detail!r}")
    return str(reason)


def _raise_hang(*_: object) -> None:
    raise Hang


def replay(inputs: Iterable[bytes]) -> Bodies:
    """Deliver these inputs, and check all of them at the end."""
    with Bodies() as bodies:
        for data in inputs:
            bodies.take(data)
        bodies.finish()
        bodies.reopen()
    return bodies
