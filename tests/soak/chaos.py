"""Does to the hosts what the plan says, when it says so, and counts what it did.

What happens to the broker takes seconds, so it happens on a thread of its own while the others go on being killed.
"""

import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.soak.host import Host
from tests.soak.notes import Notes
from tests.soak.plan import Fault, Step
from tests.soak.processes import command, end
from tests.soak.stage import Stage
from tests.soak.watch import Watch

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 10.0
"""RabbitMQ gives a silent connection up after two to three of its heartbeats, which are 3 s here."""
LEAST_SECONDS = 0.2
MARK_SECONDS = 1.0


class Worker(NamedTuple):
    """A worker that runs.

    Attributes:
        host: runs it.
        journals: the paths of its shards' journals.
    """

    host: Host
    pid: int
    journals: list[Path]


class Chaos:
    """The source of faults: ends processes, and starts those that nobody else would.

    Args:
        played: the stage.
        watches: the scrapers, one of each host.
        notes: takes each fault, and what wasn't right.
        seed: decides whom a fault meets.

    Attributes:
        done: how often which fault was done.
        committing: how many workers died between the mark and the clearing of a commit.
    """

    def __init__(self, played: Stage, watches: Sequence[Watch], notes: Notes, seed: int) -> None:
        self.done: Counter[Fault] = Counter()
        self.committing = 0
        self._hosts = played.hosts
        self._publishers = played.publishers
        self._node = played.node
        self._watches = {watch.host: watch for watch in watches}
        self._notes = notes
        self._random = random.Random(seed)
        self._paused: dict[int, float] = {}
        self._broker: Future[object] | None = None
        self._on_broker = ThreadPoolExecutor(max_workers=1)
        self._faults: dict[Fault, Callable[[], None]] = {
            Fault.KILL_WORKER: lambda: end(self._worker().pid, signal.SIGKILL),
            Fault.KILL_COMMITTING: self._kill_committing,
            Fault.KILL_PUBLISHER: self._kill_publisher,
            Fault.KILL_EXPORTER: self._kill_exporter,
            Fault.KILL_SUPERVISOR: self._kill_supervisor,
            Fault.KILL_BROKER: lambda: self._with_broker(partial(self._restart_broker, orderly=False)),
            Fault.KILL_HOST: self._kill_host,
            Fault.PAUSE_WORKER: self._pause_worker,
            Fault.TERM_WORKER: lambda: end(self._worker().pid, signal.SIGTERM),
            Fault.TERM_PUBLISHER: self._terminate_publisher,
            Fault.RESTART_FLEET: self._restart_fleet,
            Fault.RESTART_BROKER: lambda: self._with_broker(partial(self._restart_broker, orderly=True)),
            Fault.CLOSE_CONNECTIONS: lambda: self._with_broker(self._close_connections),
        }

    def run(self, plan: Sequence[Step]) -> None:
        """Do all of it; what is late follows quickly, but leaves whoever was just started a moment."""
        began = time.monotonic()
        for at, fault in plan:
            self._wait_until(max(began + at, time.monotonic() + LEAST_SECONDS))
            self._notes.note(f"fault {self.done.total() + 1}: {fault}")
            self._faults[fault]()
            self.done[fault] += 1
        self._wait_until(max(self._paused.values(), default=0.0))
        self._await_broker()
        self._on_broker.shutdown()

    def _wait_until(self, moment: float) -> None:
        """Wait, and meanwhile wake who was paused, and start what ended by itself."""
        while True:
            self._tend()
            if time.monotonic() >= moment:
                return
            time.sleep(0.01)

    def _tend(self) -> None:
        self._wake(time.monotonic())
        for host in self._hosts:
            if (status := host.fleet.status) is not None:
                self._notes.complain(f"{host.name}: `busmon up` ended by itself with status {status}")
                host.fleet.start()
        for publisher in self._publishers:
            if publisher.status is not None and self._broker_is_up():
                self._notes.complain(f"a publisher ended by itself with status {publisher.status}: {publisher.log}")
                publisher.start()

    def _wake(self, now: float) -> None:
        """Continue the workers whose pause is over by then."""
        for pid, until in tuple(self._paused.items()):
            if now >= until:
                end(pid, signal.SIGCONT)
                del self._paused[pid]

    def _host(self) -> Host:
        return self._random.choice(self._hosts)

    def _worker(self) -> Worker:
        """One of the running workers, which is about to have a fault."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (workers := [*_workers(self._hosts)]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker runs; see {self._hosts[0].fleet.log}")
            self._tend()
            time.sleep(0.01)
        worker = self._random.choice(workers)
        self._watches[worker.host].expect_refusals()
        return worker

    def _kill_committing(self) -> None:
        """Kill a worker as soon as a look at its journals finds a mark that isn't cleared; else kill it anyway."""
        worker = self._worker()
        with ExitStack() as stack:
            journals = [stack.enter_context(path.open("rb")).fileno() for path in worker.journals if path.exists()]
            deadline = time.monotonic() + MARK_SECONDS
            while time.monotonic() < deadline and not any(map(_is_marked, journals)):
                pass
            end(worker.pid, signal.SIGKILL)
            while command(worker.pid):
                time.sleep(0.001)
            self.committing += any(map(_is_marked, journals))

    def _kill_publisher(self) -> None:
        publisher = self._random.choice(self._publishers)
        publisher.kill()
        self._await_broker()
        publisher.start()

    def _terminate_publisher(self) -> None:
        """End a publisher in order, unless there is no broker that could confirm what it has."""
        publisher = self._random.choice(self._publishers)
        self._await_broker()
        publisher.terminate()
        if publisher.wait() is None:
            self._notes.complain(f"a publisher doesn't end: {publisher.log}")
            publisher.kill()
        publisher.start()

    def _kill_exporter(self) -> None:
        host = self._host()
        if exporter := host.fleet.children().get("exporter"):
            self._watches[host].expect_outage()
            end(exporter, signal.SIGKILL)

    def _kill_supervisor(self) -> None:
        host = self._host()
        self._watches[host].expect_outage()
        host.fleet.kill()
        self._wake(math.inf)  # the next supervisor waits 15 s for orphans, and refuses the directory if one is left
        host.fleet.start()

    def _kill_host(self) -> None:
        host = self._host()
        self._watches[host].expect_outage()
        host.destroy()
        host.fleet.start()

    def _restart_fleet(self) -> None:
        host = self._host()
        self._watches[host].expect_outage()
        host.fleet.terminate()
        if (status := host.fleet.wait()) != 0:
            self._notes.complain(f"{host.name}: `busmon up` ended with status {status} at SIGTERM")
        host.fleet.start()

    def _pause_worker(self) -> None:
        pid = self._worker().pid
        end(pid, signal.SIGSTOP)
        self._paused[pid] = time.monotonic() + PAUSE_SECONDS

    def _with_broker(self, do: Callable[[], object]) -> None:
        """Do it while the plan goes on; one after the other."""
        self._await_broker()
        self._broker = self._on_broker.submit(do)

    def _await_broker(self) -> None:
        if self._broker is not None:
            self._broker.result()

    def _broker_is_up(self) -> bool:
        return self._broker is None or self._broker.done()

    def _restart_broker(self, *, orderly: bool) -> None:
        """End the broker under load, and start it."""
        if orderly:
            self._node.rabbitmqctl("stop")
        self._node.restart()

    def _close_connections(self) -> None:
        self._node.rabbitmqctl("close_all_connections", "soak")


def _workers(hosts: Sequence[Host]) -> Iterator[Worker]:
    for host in hosts:
        for shards, pid in host.fleet.workers().items():
            yield Worker(host, pid, [host.registry_dir / f"shard{shard}.journal" for shard in shards.split(",")])


def _is_marked(journal: int) -> bool:
    """Tell whether the value files may hold a part of a commit: `marked` isn't `applied`."""
    marks = os.pread(journal, 16, 8)
    return marks[:8] != marks[8:]
