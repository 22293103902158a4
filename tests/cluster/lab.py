"""Fleets and agents on a cluster, and where each is connected.

The agents run on a host of the network, a fleet on the same host or replicated ones on hosts of their own, all in a
virtual host of their own.
"""

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.cluster.counts import SCRAPE_SECONDS, Counted, Counts
from tests.cluster.fleets import NetworkFleet, ReplicatedFleet
from tests.cluster.network import Host
from tests.cluster.node import AMQP_PORT, MANAGEMENT_PORT, Node
from tests.patience import wait_until

AGENTS = 16
COUNTED_SECONDS = 180.0
MOVES = 12


class Lab:
    """Agents and fleets in a virtual host of their own, from start to stop.

    Args:
        nodes: the cluster's.
        host: runs the agents.
        replicas: run a replicated fleet each; without them one fleet runs on the agents' host.
        directory: of their files.
        leading: leads the queues.

    Attributes:
        replicated: the fleets on the hosts of `replicas`.
        counts: what the fleets' exporters show.
    """

    def __init__(
        self, nodes: Sequence[Node], host: Host, replicas: Sequence[Host], *, directory: Path, leading: Node
    ) -> None:
        self.nodes = nodes
        self._host = host
        self._directory = directory
        self._vhost = f"lab-{secrets.token_hex(4)}"
        self._leading = leading
        url = ",".join(self._amqp_url(node) for node in nodes)
        given = {
            "BUSMON_WORKERS": "1",
            "BUSMON_MANAGEMENT_URL": ",".join(f"http://guest:guest@{node.host.ip}:{MANAGEMENT_PORT}" for node in nodes),
        }
        self.replicated = [ReplicatedFleet(each, directory / each.ip, url, **given) for each in replicas]
        alone = [] if replicas else [NetworkFleet(host, directory / host.ip, url, **given)]
        self._fleets: Sequence[NetworkFleet] = [*self.replicated, *alone]
        self.counts = Counts(self._fleets)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")},
            "BUSMON_AMQP_URL": url,
            "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.25",
            "BUSMON_SPOOL_DIR": str(directory / "spool"),
        }
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        self.ask(self._leading, "PUT", f"/api/vhosts/{self._vhost}")
        self._ending.callback(self._delete_vhost)
        self.ask(
            *(self._leading, "PUT", f"/api/permissions/{self._vhost}/guest"),
            body={"configure": ".*", "write": ".*", "read": ".*"},
        )
        self._declare()
        for fleet in self._fleets:
            (self._directory / fleet.host.ip).mkdir(parents=True)
            self._ending.enter_context(fleet)
        with (self._directory / "agents.log").open("wb") as log:
            self._agents = subprocess.Popen(
                self._host.command(sys.executable, "-P", "-m", "tests.cluster.agents", str(AGENTS)),
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._ending.callback(self._agents.communicate)
        self._ending.callback(self._agents.kill)
        self._ending.enter_context(self.counts)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def ask(self, node: Node, method: str, path: str, body: object = None) -> Any:
        """Ask the management API of a node; returns the answer."""
        return self._host.call(_request, node.host.ip, method, path, body)

    def leader(self) -> Node:
        """Return the node that leads most of the shards' queues."""
        queues = self.ask(self._leading, "GET", f"/api/queues/{self._vhost}")
        leaders = Counter(queue["leader"] for queue in queues if ".fold." in queue["name"])
        return self._named(leaders.most_common(1)[0][0])

    def owner(self) -> ReplicatedFleet:
        """Return the replicated host that owns most shards."""
        return max(self.replicated, key=lambda fleet: len(fleet.owned()))

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
        (fleet,) = self._fleets
        wait_until(fleet.is_consuming, "the fleet to consume")

    def until_all_count(self) -> None:
        """Wait until each exporter shows tasks of every agent, and each replicated host owns shards."""
        wait_until(lambda: {len(tasks) for tasks in self.counts.last()} == {AGENTS}, "every agent to be counted")
        wait_until(lambda: all(fleet.owned() for fleet in self.replicated), "shards to spread")

    def until_counting_goes_on(self, since: float) -> None:
        """Wait until tasks of every agent have been counted that were published after a moment."""
        start = wait_until(lambda: self._first(since), "a scrape")
        wait_until(lambda: self._has_each_grown(start.tasks), "the counting to go on", COUNTED_SECONDS)

    def stop_agents(self) -> dict[str, float]:
        """Stop the agents; returns the tasks that each published."""
        self._agents.send_signal(signal.SIGTERM)
        said, _ = self._agents.communicate(timeout=COUNTED_SECONDS)
        published = json.loads(said)
        assert published["confirmed"], f"an agent's tasks are not all confirmed, see {self._directory / 'agents.log'}"
        return published["tasks"]  # type: ignore[no-any-return]  # as `agents.py` writes it

    def until_counted(self, published: Mapping[str, float]) -> list[Mapping[str, float]]:
        """Wait until each exporter shows what was published; returns the tasks that each shows, by agent."""
        total, deadline = sum(published.values()), time.monotonic() + COUNTED_SECONDS
        while min(sum(tasks.values()) for tasks in self.counts.last()) < total and time.monotonic() < deadline:
            time.sleep(SCRAPE_SECONDS)
        # What would be counted twice comes after what is counted once.
        time.sleep(2)
        return self.counts.last()

    def _amqp_url(self, node: Node) -> str:
        return f"amqp://guest:guest@{node.host.ip}:{AMQP_PORT}/{self._vhost}"

    def _declare(self) -> None:
        replication = "stream" if self.replicated else "off"
        environment = {**self._environment, "BUSMON_AMQP_URL": self._amqp_url(self._leading)}
        subprocess.run(
            self._fleets[0].command("topology", "declare", "--replication", replication),
            env=environment,
            check=True,
            capture_output=True,
        )

    def _delete_vhost(self) -> None:
        with suppress(OSError):
            self.ask(self._leading, "DELETE", f"/api/vhosts/{self._vhost}")

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

    def _first(self, since: float) -> Counted | None:
        return next((row for row in self.counts.merged() if row.at >= since), None)

    def _has_each_grown(self, start: Mapping[str, float]) -> bool:
        now = self.counts.merged()[-1].tasks
        return all(now[agent] > tasks for agent, tasks in start.items())


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
