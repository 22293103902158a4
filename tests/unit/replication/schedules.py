"""A random-schedule model of a queue, a log and workers.

The queue has a single active consumer, loses nodes and connections, and activates a consumer again while a cancelled
one still has deliveries. The log takes publishes late or never. The workers follow rules: those of
`busmon.replication.participant`, or the first draft of these rules, which loses messages.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from busmon.replication.counting import Place
from busmon.replication.participant import Participant, Role
from busmon.replication.records import Birth, Record, decode, encode

Ids = tuple[int, ...]
MESSAGES = 6
PREFETCH = 4


class Rules(Protocol):
    """One worker's rules. Bodies that they return are appended to the log."""

    counted: Counter[int]
    is_owner: bool
    is_claiming: bool
    in_flight: bool

    def claim(self) -> list[bytes]: ...
    def commit(self, ids: Ids) -> list[bytes]: ...
    def read(self, body: bytes, offset: int) -> str: ...
    def lose_publishes(self) -> list[bytes]: ...
    def lose_channel(self) -> None: ...
    def restart(self) -> int: ...


class PresentRules:
    """The rules of `Participant`."""

    def __init__(self) -> None:
        self._participant = Participant("host")
        self.counted: Counter[int] = Counter()
        self._kept = Place()

    is_owner = property(lambda self: self._participant.role is Role.OWNING)
    is_claiming = property(lambda self: self._participant.role is Role.CLAIMING)
    in_flight = property(lambda self: self._participant.in_flight is not None)

    def claim(self) -> list[bytes]:
        return [self._participant.claim()]

    def commit(self, ids: Ids) -> list[bytes]:
        return self._participant.append(orjson.dumps(ids), 1.0)

    def read(self, body: bytes, offset: int) -> str:
        was_owner, was_claiming, was_in_flight = self.is_owner, self.is_claiming, self.in_flight
        for each in self._participant.read(decode(body), offset):
            if isinstance(each, Record):
                self.counted.update(orjson.loads(each.payload))
                self._kept = self._participant.counting.place
        if was_owner and not self.is_owner:
            return "lost"
        if was_claiming and not self.is_claiming and not self.is_owner:
            return "outbid"
        return "counted" if was_in_flight and not self.in_flight else ""

    def lose_publishes(self) -> list[bytes]:
        return self.claim() if self.is_owner or self.is_claiming else []

    def lose_channel(self) -> None:
        self._participant.leave()

    def restart(self) -> int:
        """Go on with the state of the files; return the offset of the entry to read next."""
        self._participant = Participant("host")
        if self._kept.offset < 0:
            return 0
        self._participant.counting.resume(self._kept)
        return self._kept.offset


@dataclass
class DraftReader:
    """The draft's counting: no owner's id, and numbers that restart in each epoch."""

    epoch: int = 0
    number: int = 0
    counted: Counter[int] = field(default_factory=Counter)

    def read(self, body: bytes) -> bool:
        kind, epoch, *rest = orjson.loads(body)
        if kind == "marker":
            if epoch > self.epoch:
                self.epoch, self.number = epoch, 0
            return bool(epoch >= self.epoch)
        number, ids = rest
        if epoch != self.epoch or number != self.number + 1:
            return False
        self.number = number
        self.counted.update(ids)
        return True


class DraftRules:
    """The first draft: a lost publish is sent again, and a lost channel changes nothing."""

    def __init__(self) -> None:
        self._reader = DraftReader()
        self.is_owner = self.is_claiming = False
        self._epoch = 0
        self._sent = b""

    counted = property(lambda self: self._reader.counted)
    in_flight = property(lambda self: self.is_owner and bool(self._sent))

    def claim(self) -> list[bytes]:
        self.is_claiming, self._epoch = True, self._reader.epoch + 1
        self._sent = orjson.dumps(["marker", self._epoch])
        return [self._sent]

    def commit(self, ids: Ids) -> list[bytes]:
        self._sent = orjson.dumps(["record", self._epoch, self._reader.number + 1, ids])
        return [self._sent]

    def read(self, body: bytes, _offset: int) -> str:
        if body.startswith(b"{"):  # the log's first entry, which the draft doesn't have
            return ""
        counts = self._reader.read(body)
        if orjson.loads(body)[0] == "marker":
            if self.is_claiming and body == self._sent:
                self.is_claiming, self.is_owner, self._sent = False, True, b""
            elif self.is_owner and self._reader.epoch > self._epoch:
                self.is_owner, self._sent = False, b""
                return "lost"
            return ""
        if self.is_owner and counts and self._sent and orjson.loads(body)[1:3] == orjson.loads(self._sent)[1:3]:
            self._sent = b""
            return "counted"
        return ""

    def lose_publishes(self) -> list[bytes]:
        return [self._sent] if self._sent else []

    def lose_channel(self) -> None:
        pass

    def restart(self) -> int:
        """Begin again without a state."""
        self._reader = DraftReader()
        self.is_owner = self.is_claiming = False
        self._epoch, self._sent = 0, b""
        return 0


@dataclass(eq=False)
class Registration:
    """A worker's consumer, as the broker sees it."""

    worker: "Worker"
    held: dict[int, int] = field(default_factory=dict)
    is_up: bool = True
    is_cancelled: bool = False
    tag: int = 0


Held = tuple[Registration, int, int]
"""A registration, a delivery tag and a message."""


@dataclass(eq=False)
class Worker:
    """One worker: its rules, its deliveries, and its publishes that haven't reached the log."""

    rules: Rules
    inbox: list[Held] = field(default_factory=list)
    batch: list[Held] = field(default_factory=list)
    committed: list[Held] = field(default_factory=list)
    pending: list[bytes] = field(default_factory=list)
    position: int = 0
    registration: Registration = field(init=False)


class Schedule:
    """One run of the model.

    Attributes:
        log: the bodies in the log.
        acknowledged: the messages that the queue has forgotten.
    """

    def __init__(self, seed: int, rules: Callable[[], Rules], workers: int = 3) -> None:
        self.log: list[bytes] = [encode(Birth("log"))]
        self.acknowledged: set[int] = set()
        self._random = random.Random(seed)
        self._late: list[bytes] = []
        self._ready = list(range(MESSAGES))
        self._registrations: list[Registration] = []
        self._workers = [Worker(rules()) for _ in range(workers)]
        for worker in self._workers:
            self._register(worker)

    def run(self) -> None:
        """Take steps with faults, and then without faults until every message is acknowledged."""
        for _ in range(150):
            self._step(has_faults=True)
        for _ in range(3000):
            self._step(has_faults=False)
            if len(self.acknowledged) == MESSAGES:
                return

    def _step(self, *, has_faults: bool) -> None:
        worker, chance = self._random.choice(self._workers), self._random.random()
        steps: list[tuple[float, Callable[[], None]]] = [
            (0.2, self._deliver),
            (0.4, lambda: self._land(self._random.choice(self._workers))),
            (0.62, lambda: self._read(worker)),
            (0.78, lambda: self._work(worker)),
            (0.86, lambda: self._acknowledge(worker)),
        ]
        if not has_faults:
            steps.append((1.0, self._heal))
        steps += [
            (0.88, self._lose_node),
            (0.90, self._find_node),
            (0.915, lambda: self._lose_channel(worker)),
            (0.94, lambda: self._cancel(worker)),
            (0.965, lambda: self._lose_publishes(worker)),
            (0.98, lambda: self._restart(worker)),
            (1.0, self._land_late),
        ]
        next(step for below, step in steps if chance < below)()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def _register(self, worker: Worker) -> None:
        worker.registration = Registration(worker)
        self._registrations.append(worker.registration)

    def _active(self) -> Iterator[Registration]:
        return (each for each in self._registrations if each.is_up and not each.is_cancelled)

    def _deliver(self) -> None:
        active = next(self._active(), None)
        if active and self._ready and len(active.held) < PREFETCH:
            active.tag += 1
            message = active.held[active.tag] = self._ready.pop(0)
            active.worker.inbox.append((active, active.tag, message))

    def _return(self, registration: Registration) -> None:
        self._ready[:0] = [message for _, message in sorted(registration.held.items())]
        registration.held = {}

    def _lose_node(self) -> None:
        for registration in [*self._active()][:1]:
            self._return(registration)
            registration.is_up = False
            self._registrations.remove(registration)
            self._registrations.append(registration)

    def _find_node(self) -> None:
        for registration in self._registrations:
            registration.is_up = True

    def _lose_channel(self, worker: Worker) -> None:
        for registration in [each for each in self._registrations if each.worker is worker]:
            self._return(registration)
            self._registrations.remove(registration)
        worker.inbox, worker.batch = [], []
        self._register(worker)
        worker.rules.lose_channel()

    def _cancel(self, worker: Worker) -> None:
        registration = worker.registration
        if registration in self._registrations and not registration.is_cancelled:
            registration.is_cancelled = True
            if not registration.held:
                self._registrations.remove(registration)
            self._register(worker)

    def _acknowledge(self, worker: Worker) -> None:
        for registration, tag, _ in worker.committed:
            if (message := registration.held.pop(tag, None)) is not None:
                self.acknowledged.add(message)
            if registration.is_cancelled and not registration.held and registration in self._registrations:
                self._registrations.remove(registration)
        worker.committed = []

    # -- the log ------------------------------------------------------------------------------------------------------

    def _land(self, worker: Worker) -> None:
        if worker.pending:
            self.log.append(worker.pending.pop(0))

    def _land_late(self) -> None:
        if self._late:
            self.log.append(self._late.pop(self._random.randrange(len(self._late))))

    def _heal(self) -> None:
        self._find_node()
        self._land_late()

    def _lose_publishes(self, worker: Worker) -> None:
        if worker.pending:
            self._late += [body for body in worker.pending if self._random.random() < 0.6]
            worker.pending = []
            self._take_back(worker)
            worker.pending += worker.rules.lose_publishes()

    def _restart(self, worker: Worker) -> None:
        """Kill the worker, and start it again in its directory."""
        self._late += [body for body in worker.pending if self._random.random() < 0.6]
        worker.pending, worker.committed = [], []
        self._lose_channel(worker)
        worker.position = worker.rules.restart()

    def _take_back(self, worker: Worker) -> None:
        if isinstance(worker.rules, PresentRules):
            worker.inbox, worker.batch = worker.batch + worker.inbox, []

    # -- the workers --------------------------------------------------------------------------------------------------

    def _read(self, worker: Worker) -> None:
        if worker.position == len(self.log):
            return
        body = self.log[worker.position]
        worker.position += 1
        match worker.rules.read(body, worker.position - 1):
            case "counted":
                worker.committed += worker.batch
                worker.batch = []
            case "lost":
                self._lose_channel(worker)
            case "outbid":
                worker.pending += worker.rules.claim()

    def _work(self, worker: Worker) -> None:
        rules = worker.rules
        if worker.inbox and not rules.is_owner and not rules.is_claiming and worker.position:
            worker.pending += rules.claim()
        elif worker.inbox and rules.is_owner and not rules.in_flight:
            taken = self._random.randint(1, len(worker.inbox))
            worker.batch, worker.inbox = worker.inbox[:taken], worker.inbox[taken:]
            new = dict.fromkeys(message for _, _, message in worker.batch if message not in rules.counted)
            worker.pending += rules.commit(tuple(new))


def count(log: Iterable[bytes], rules: Callable[[], Rules]) -> Counter[int]:
    """Count the messages of a log as a reader of these rules does."""
    reader = rules()
    for offset, body in enumerate(log):
        reader.read(body, offset)
    return reader.counted


def find_faults(seed: int, rules: Callable[[], Rules]) -> str:
    """Run a schedule; return the promises that it breaks, in a line."""
    schedule = Schedule(seed, rules)
    schedule.run()
    counted = count(schedule.log, rules)
    faults = [f"message {each} counts {n} times" for each, n in counted.items() if n > 1]
    faults += [f"message {each} is acknowledged and doesn't count" for each in schedule.acknowledged - {*counted}]
    faults += [f"message {each} is stuck" for each in {*range(MESSAGES)} - schedule.acknowledged]
    return "; ".join(faults)
