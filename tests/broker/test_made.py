"""A declaration that fails deletes what it made, and nothing that another makes between its look and its request."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pika import spec
from pika.frame import Method

from busmon.bus.topology import explaining
from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.made import declare_queue
from busmon.bus.topology.topology import load
from busmon.errors import BrokerUnreachableError, BrokerUnsettledError, TopologyError

from .proxy import Proxy
from .topologies import ONE_SHARD, Client, objects, topology_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pika.adapters.blocking_connection import BlockingChannel

    from busmon.bus.topology.topology import Queue, Topology
    from busmon.demo.broker import PrivateNode

    Act = Callable[[BlockingChannel], object]

_DECLARES = {"exchanges": b"\x00\x28\x00\x0a", "queues": b"\x00\x32\x00\x0a"}
_METHOD = slice(7, 11)
_NAME_AT = 13
_OPTIONAL = "x-max-length-bytes"


class Rival:
    """Another declarer, before the broker: it acts once, when a client's request to declare an object arrives.

    Attributes:
        topology: the client's; with one shard no plugin is needed.
        wanted: the object, as `queues/NAME` or `exchanges/NAME`.
        act: what it does, on a channel of its own.
        closes_with: the code with which the client's connection ends in place of an answer; None passes the request.
    """

    def __init__(self, node: PrivateNode, vhost: Any, topology: Topology, channel: BlockingChannel) -> None:
        self._node = node
        self._vhost = vhost
        self._channel = channel
        self._acted = False
        self._proxy = Proxy(node.amqp_port)
        self.topology = topology
        self.wanted = "queues/telemetry.quarantine"
        self.act: Act = _make_another_queue
        self.closes_with: int | None = None

    def declare(self, declaring: Callable[..., object] = declare) -> None:
        """Declare the topology behind the rival's back."""
        with self._proxy as proxy:
            proxy.serves = self._serves
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/{self._vhost.name}"
            try:
                declaring(self.topology, url, *((None, {}) if declaring is declare else ()))
            finally:
                assert self._acted

    def objects(self) -> set[str]:
        """Name what is there."""
        return objects(self._node, self._vhost.name)

    def _serves(self, connection: int, _: int, frame: bytes) -> bool:
        if self._acted or not self._is_requested(frame):
            return True
        self._acted = True
        self.act(self._channel)
        if self.closes_with is None:
            return True
        self._proxy.inject(connection, Method(0, spec.Connection.Close(self.closes_with, "not now", 0, 0)).marshal())
        return False

    def _is_requested(self, frame: bytes) -> bool:
        """Tell if the frame declares the object, and doesn't only look for it."""
        kind, _, name = self.wanted.partition("/")
        if frame[_METHOD] != _DECLARES[kind]:
            return False
        found, rest = _short_text(frame[_NAME_AT:])
        if kind == "exchanges":
            _, rest = _short_text(rest)
        is_passive = rest[0] & 1
        return found == name and not is_passive


def _short_text(content: bytes) -> tuple[str, bytes]:
    end = content[0] + 1
    return content[1:end].decode(), content[end:]


def _make_another_queue(channel: BlockingChannel) -> None:
    channel.queue_declare("telemetry.quarantine", durable=True, arguments={"x-max-length": 5})


def _make_another_exchange(channel: BlockingChannel) -> None:
    channel.exchange_declare("telemetry.quarantine", "direct", durable=True)


@pytest.fixture
def rival(vhost: Any, node: PrivateNode, tmp_path: Path) -> Iterator[Rival]:
    with Client(vhost.amqp_url) as client:
        yield Rival(node, vhost, load(topology_file(tmp_path, ONE_SHARD), "telemetry"), client.channel)


@pytest.fixture(
    params=[
        ("queues/telemetry.quarantine", _make_another_queue),
        ("exchanges/telemetry.quarantine", _make_another_exchange),
    ],
    ids=["queue", "exchange"],
)
def other_rival(rival: Rival, request: pytest.FixtureRequest) -> Rival:
    """A rival that makes the object with other arguments."""
    rival.wanted, rival.act = request.param
    return rival


@pytest.mark.parametrize("declaring", [declare, ensure])
def test_what_another_declarer_makes_meanwhile_is_left(other_rival: Rival, declaring: Callable[..., object]) -> None:
    with pytest.raises(TopologyError, match=r"telemetry\.quarantine': .* on the broker, but"):
        other_rival.declare(declaring)
    assert other_rival.objects() == {other_rival.wanted}


@pytest.mark.parametrize(
    ("settling_seconds", "expected"), [(30.0, TopologyError), (0.0, BrokerUnsettledError)], ids=["tried again", "not"]
)
def test_what_another_declarer_makes_is_left_though_the_outcome_of_the_request_is_open(
    other_rival: Rival, monkeypatch: pytest.MonkeyPatch, settling_seconds: float, expected: type[Exception]
) -> None:
    monkeypatch.setattr(explaining, "SETTLING_SECONDS", settling_seconds)
    other_rival.closes_with = spec.INTERNAL_ERROR
    with pytest.raises(expected):
        other_rival.declare()
    assert other_rival.objects() == {other_rival.wanted}


def test_a_queue_that_lacks_a_newer_argument_is_anothers_and_left(rival: Rival) -> None:
    def change(queue: Queue) -> Queue:
        """Let the broker refuse the quarantine, and each other queue have an argument that is optional."""
        if queue.name == rival.topology.quarantine:
            return replace(queue, arguments={**queue.arguments, "x-max-length": -1})
        older = {key: value for key, value in queue.arguments.items() if key != _OPTIONAL}
        return replace(queue, arguments=older, newer=(((3, 0), {_OPTIONAL: 1000}),))

    rival.topology = replace(rival.topology, queues=tuple(map(change, rival.topology.queues)))
    fold = next(queue for queue in rival.topology.queues if queue.name == rival.topology.fold_queue(0))
    rival.wanted = f"queues/{fold.name}"
    rival.act = lambda channel: channel.queue_declare(fold.name, durable=True, arguments=dict(fold.arguments))
    with pytest.raises(TopologyError, match="invalid arg 'x-max-length'"):
        rival.declare()
    assert rival.objects() == {rival.wanted}


@pytest.mark.parametrize("code", [spec.INTERNAL_ERROR, spec.CONNECTION_FORCED])
def test_what_a_request_may_have_made_is_taken_back(rival: Rival, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(explaining, "SETTLING_SECONDS", 0.0)
    quarantine = next(queue for queue in rival.topology.queues if queue.name == rival.topology.quarantine)
    rival.act = partial(declare_queue, quarantine, quarantine.arguments)
    rival.closes_with = code
    with pytest.raises(BrokerUnreachableError, match="not now"):
        rival.declare()
    assert rival.objects() == set()
