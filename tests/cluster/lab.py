"""A fleet and agents on a cluster: where each is connected, how much is published and counted, and the pauses between.

The fleet and the agents run on one host of the network, in a virtual host of their own. A thread scrapes the exporter
several times a second.
"""

import base64
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from tests.cluster.network import Host
from tests.cluster.node import AMQP_PORT, MANAGEMENT_PORT, Node
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

AGENTS = 16
SCRAPE_SECONDS = 0.2
COUNTED_SECONDS = 180.0
MOVES = 12
_TASKS = re.compile(rb'^tasks_processed_total\{agent="(agent\d\d)",status="success"\} (\S+)$', re.MULTILINE)


class Counted(NamedTuple):
    """The counts of one scrape.

    Attributes:
        at: by the monotonic clock.
        tasks: by agent.
    """

    at: float
    tasks: dict[str, float]


class Gaps(NamedTuple):
    """The longest pauses in counting, in seconds: of all agents together, and of the agent that paused longest."""

    total: float
    worst: float


class _Fleet(RealFleet):
    """A fleet on a host of the network."""

    def __init__(self, host: Host, directory: Path, amqp_url: str, **environment: Any) -> None:
        super().__init__(directory, amqp_url, **environment)
        self._host = host

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a `busmon` command on the host."""
        return self._host.command(*super().command(*arguments))

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a page of the exporter from the host."""
        return self._host.call(super().get, path)


class Lab:
    """Agents and a fleet in a virtual host of their own, from start to stop.

    Args:
        nodes: the cluster's.
        host: runs agents and fleet.
        directory: of their files.
        leading: leads the queues.
    """

    def __init__(self, nodes: Sequence[Node], host: Host, directory: Path, leading: Node) -> None:
        self.nodes = nodes
        self._host = host
        self._directory = directory
        self._vhost = f"lab-{secrets.token_hex(4)}"
        self._leading = leading
        url = ",".join(self._amqp_url(node) for node in nodes)
        self.fleet = _Fleet(
            host,
            directory,
            url,
            BUSMON_WORKERS="1",
            BUSMON_MANAGEMENT_URL=",".join(f"http://guest:guest@{node.host.ip}:{MANAGEMENT_PORT}" for node in nodes),
        )
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")},
            "BUSMON_AMQP_URL": url,
            "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.25",
            "BUSMON_SPOOL_DIR": str(directory / "spool"),
        }
        self.counted: list[Counted] = []
        self._ends = Event()
        self._watch = Thread(target=self._scrape_until_ended, name="scrapes")

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True)
        self.ask(self._leading, "PUT", f"/api/vhosts/{self._vhost}")
        self.ask(
            *(self._leading, "PUT", f"/api/permissions/{self._vhost}/guest"),
            body={"configure": ".*", "write": ".*", "read": ".*"},
        )
        self._declare()
        self.fleet.start()
        with (self._directory / "agents.log").open("wb") as log:
            self._agents = subprocess.Popen(
                self._host.command(sys.executable, "-P", "-m", "tests.cluster.agents", str(AGENTS)),
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._watch.join()
        self._agents.kill()
        self._agents.communicate()
        if self.fleet.process.poll() is None:
            self.fleet.stop()
        with suppress(OSError):
            self.ask(self._leading, "DELETE", f"/api/vhosts/{self._vhost}")

    def ask(self, node: Node, method: str, path: str, body: object = None) -> Any:
        """Ask the management API of a node; returns the answer."""
        return self._host.call(_request, node.host.ip, method, path, body)

    def leader(self) -> Node:
        """Return the node that leads most of the shards' queues."""
        queues = self.ask(self._leading, "GET", f"/api/queues/{self._vhost}")
        leaders = Counter(queue["leader"] for queue in queues if ".fold." in queue["name"])
        return self._named(leaders.most_common(1)[0][0])

    def consuming(self) -> Node:
        """Return the node that the fleet consumes from."""
        return self._named(self._consumer()["node"])

    def move_fleet(self, wanted: Collection[Node]) -> None:
        """Close the fleet's connection until the fleet consumes from one of these nodes."""
        for _ in range(MOVES):
            connection = self._consumer()
            if self._named(connection["node"]) in wanted:
                break
            self.ask(self._leading, "DELETE", f"/api/connections/{quote(connection['name'])}")
            wait_until(partial(self._has_reconnected, connection["name"]), "the fleet to reconnect", COUNTED_SECONDS)
        wait_until(self.fleet.is_consuming, "the fleet to consume")

    def until_all_count(self) -> None:
        """Wait until tasks of every agent are counted."""
        wait_until(lambda: self.counted and len(self.counted[-1].tasks) == AGENTS, "every agent to be counted")

    def until_counting_goes_on(self, since: float) -> None:
        """Wait until tasks of every agent have been counted that were published after a moment."""
        start = wait_until(lambda: next((row for row in self.counted if row.at >= since), None), "a scrape")
        wait_until(lambda: self._has_each_grown(start.tasks), "the counting to go on", COUNTED_SECONDS)

    def stop_agents(self) -> dict[str, float]:
        """Stop the agents; returns the tasks that each published."""
        self._agents.send_signal(signal.SIGTERM)
        said, _ = self._agents.communicate(timeout=COUNTED_SECONDS)
        published = json.loads(said)
        assert published["confirmed"], f"an agent's tasks are not all confirmed, see {self._directory / 'agents.log'}"
        return published["tasks"]  # type: ignore[no-any-return]  # as `agents.py` writes it

    def until_counted(self, published: dict[str, float]) -> dict[str, float]:
        """Wait until at least as much is counted as was published; returns the tasks that are counted, by agent."""
        deadline = time.monotonic() + COUNTED_SECONDS
        while sum(self.counted[-1].tasks.values()) < sum(published.values()) and time.monotonic() < deadline:
            time.sleep(SCRAPE_SECONDS)
        # What would be counted twice comes after what is counted once.
        time.sleep(2)
        return self.counted[-1].tasks

    def gaps(self, since: float, until: float) -> Gaps:
        """Measure the longest pauses in counting between two moments."""
        rows = [row for row in self.counted if since <= row.at <= until]
        agents = sorted(rows[-1].tasks)
        total = _longest_pause((row.at, sum(row.tasks.values())) for row in rows)
        worst = max(_longest_pause((row.at, row.tasks.get(agent, 0.0)) for row in rows) for agent in agents)
        return Gaps(total, worst)

    def _amqp_url(self, node: Node) -> str:
        return f"amqp://guest:guest@{node.host.ip}:{AMQP_PORT}/{self._vhost}"

    def _declare(self) -> None:
        environment = {**self._environment, "BUSMON_AMQP_URL": self._amqp_url(self._leading)}
        subprocess.run(self.fleet.command("topology", "declare"), env=environment, check=True, capture_output=True)

    def _named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def _consumer(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            connections = self.ask(self._leading, "GET", f"/api/vhosts/{self._vhost}/connections")
            named = [each for each in connections if each.get("user_provided_name") == "busmon worker 0"]
            return named[0] if len(named) == 1 else None

        return wait_until(found, "the fleet's connection to be listed", COUNTED_SECONDS)

    def _has_reconnected(self, before: str) -> bool:
        return bool(self._consumer()["name"] != before)

    def _has_each_grown(self, start: dict[str, float]) -> bool:
        now = self.counted[-1].tasks
        return all(now[agent] > tasks for agent, tasks in start.items())

    def _scrape_until_ended(self) -> None:
        while not self._ends.wait(SCRAPE_SECONDS):
            with suppress(OSError):
                _status, body = self.fleet.get("/metrics")
                tasks = {agent.decode(): float(value) for agent, value in _TASKS.findall(body)}
                self.counted.append(Counted(time.monotonic(), tasks))


def _longest_pause(counts: Iterable[tuple[float, float]]) -> float:
    """Return for how long at most the count stayed as it was."""
    longest, (changed_at, last), at = 0.0, (0.0, -1.0), 0.0
    for at, count in counts:
        if count != last:
            longest = max(longest, at - changed_at) if last >= 0 else 0.0
            changed_at, last = at, count
    return max(longest, at - changed_at)


def _request(ip: str, method: str, path: str, body: object) -> Any:
    connection = http.client.HTTPConnection(ip, MANAGEMENT_PORT, timeout=30)
    credentials = base64.b64encode(b"guest:guest").decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    assert response.status < http.HTTPStatus.BAD_REQUEST, f"{method} {path}: {response.status} {answer!r}"
    return json.loads(answer) if answer else None
