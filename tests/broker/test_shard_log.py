"""A shard's log on a real broker: what is read is what was appended, and each loss is told once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from busmon.bus.frames.ending import drop
from busmon.bus.log.reading import PREFETCH, TAKE_BYTES, LogEntry
from busmon.bus.log.shard_log import ShardLog
from busmon.errors import LogInterruptedError, LogMissingError, LogReplacedError
from tests.patience import PATIENCE_SECONDS

from .proxy import Proxy
from .topologies import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from busmon.demo.broker import PrivateNode

EXCHANGE, STREAM = "telemetry.log", "telemetry.log.0"
SEGMENT = 1_000_000


def declare(client: Client, **arguments: Any) -> None:
    client.channel.exchange_declare(EXCHANGE, "direct", durable=True)
    client.channel.queue_declare(STREAM, durable=True, arguments={"x-queue-type": "stream", **arguments})
    client.channel.queue_bind(STREAM, EXCHANGE, "0")


def append(client: Client, *bodies: bytes) -> None:
    for body in bodies:
        client.channel.basic_publish(EXCHANGE, "0", body, mandatory=True)


@pytest.fixture
def client(vhost: Any) -> Iterator[Client]:
    with Client(vhost.amqp_url) as client:
        declare(client)
        yield client


def opened(amqp_url: str) -> ShardLog:
    return ShardLog(amqp_url, "test log", exchange=EXCHANGE, stream=STREAM, routing_key="0")


@pytest.fixture
def log(vhost: Any, client: Client) -> Iterator[ShardLog]:
    del client
    log = opened(vhost.amqp_url)
    yield log
    log.close()


def through(vhost: Any, node: PrivateNode, proxy: Proxy) -> str:
    return str(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"))


def until(condition: Callable[[], object], log: ShardLog, seconds: float = PATIENCE_SECONDS) -> list[LogEntry]:
    """Turn the log until the condition holds; return what was read by then."""
    found: list[LogEntry] = []
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, found[-3:]
        found.extend(log.take(0.1))
    return found


def read(log: ShardLog, count: int, seconds: float = PATIENCE_SECONDS) -> list[LogEntry]:
    found: list[LogEntry] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, (len(found), found[-1:])
        found.extend(log.take(0.1))
    return found


def interrupted(log: ShardLog, kind: type[LogInterruptedError] = LogInterruptedError) -> str:
    """Turn the log until it raises; return the words."""
    with pytest.raises(kind) as caught:
        until(lambda: False, log)
    return str(caught.value)


def bodies(entries: list[LogEntry]) -> list[bytes]:
    return [entry.body for entry in entries]


def lose(log: ShardLog) -> None:
    """Lose the connection, as by a failed socket."""
    assert log._link.connection is not None
    drop(log._link.connection)


class TestReading:
    def test_reads_what_was_there_and_what_follows_in_order(self, log: ShardLog, client: Client) -> None:
        append(client, b"a", b"b")
        assert read(log, 2) == [(0, b"a"), (1, b"b")]
        append(client, b"c")
        assert read(log, 1) == [(2, b"c")]
        assert log.take(0) == []

    def test_reads_from_an_offset_and_anew_at_any_time(self, log: ShardLog, client: Client) -> None:
        append(client, b"a", b"b", b"c")
        log.read_from(1)
        assert read(log, 2) == [(1, b"b"), (2, b"c")]
        log.read_from("first")
        log.read_from(2)
        log.read_from("first")
        assert read(log, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]

    def test_reads_from_the_last_entries_on(self, log: ShardLog, client: Client) -> None:
        append(client, *(b"%d" % number for number in range(200)))
        log.read_from("last")
        found = until(lambda: log.take(0) or log.is_connected, log)
        while not found or found[-1].body != b"199":
            found += read(log, 1)
        assert [entry.body for entry in found] == [b"%d" % entry.offset for entry in found]
        assert found[-1].offset == 199

    def test_an_entry_that_must_be_there_is_read(self, log: ShardLog, client: Client) -> None:
        append(client, b"a", b"b", b"c")
        log.read_from(1, is_known=True)
        assert read(log, 2) == [(1, b"b"), (2, b"c")]

    def test_an_entry_that_must_be_there_and_is_not_shows_another_log(self, log: ShardLog, client: Client) -> None:
        append(client, b"a")
        log.read_from(7, is_known=True)
        assert interrupted(log, LogReplacedError) == (
            f"log_replaced: {STREAM!r} was made again or lost its end: it ends before offset 7, which was read"
        )
        log.read_from("first")
        assert read(log, 1) == [(0, b"a")]

    def test_many_small_and_large_entries_arrive_whole(self, log: ShardLog, client: Client) -> None:
        sizes = [1, 131_000, 131_064, 131_072, 131_073, 262_144, 1_100_000, 0, 15_000_000, 2]
        given = [bytes([number]) * size for number, size in enumerate(sizes)]
        append(client, *given)
        assert bodies(read(log, len(given))) == given
        many = [b"%d" % number for number in range(5 * PREFETCH)]
        append(client, *many)
        assert bodies(read(log, len(many))) == many

    def test_a_slow_reader_loses_nothing_and_holds_a_bounded_number(self, log: ShardLog, client: Client) -> None:
        until(lambda: log.is_connected, log)
        given = [bytes([number]) * 300_000 for number in range(3 * PREFETCH)]
        append(client, *given)
        found: list[LogEntry] = []
        while len(found) < len(given):
            taken = log.take(5)
            assert sum(map(len, bodies(taken))) < TAKE_BYTES + 300_000
            assert log._reader._waiting_bytes <= PREFETCH * 300_000
            found += taken
        assert bodies(found) == given

    def test_a_reader_beyond_retention_sees_an_offset_that_jumps(self, vhost: Any, client: Client) -> None:
        client.channel.queue_delete(STREAM)
        limits = {"x-max-length-bytes": 3 * SEGMENT, "x-stream-max-segment-size-bytes": SEGMENT}
        declare(client, **limits)
        append(client, b"first")
        log = opened(vhost.amqp_url)
        assert read(log, 1) == [(0, b"first")]
        lose(log)
        assert interrupted(log)
        append(client, *[bytes([number]) * 200_000 for number in range(100)])
        found = read(log, 1)
        while found[-1].body[0] < 99:
            found += read(log, 1)
        assert found[0].offset > 50
        # Offsets have holes, so only what the entries hold shows that none is missing.
        assert [body[0] for body in bodies(found)] == [*range(found[0].body[0], 100)]
        log.close()

    def test_a_policy_that_shrinks_the_log_is_seen_as_a_jump(
        self, vhost: Any, node: PrivateNode, client: Client
    ) -> None:
        client.channel.queue_delete(STREAM)
        declare(client, **{"x-max-length-bytes": 1_000_000_000, "x-stream-max-segment-size-bytes": SEGMENT})
        append(client, *[bytes([number]) * 200_000 for number in range(50)])
        log = opened(vhost.amqp_url)
        assert read(log, 1)[0].offset == 0
        log.close()
        definition = {"max-length-bytes": 2 * SEGMENT, "stream-max-segment-size-bytes": SEGMENT}
        policy = {"pattern": r"\.log\.", "definition": definition, "apply-to": "queues"}
        node.management("PUT", f"/api/policies/{vhost.name}/short", policy)
        append(client, *[bytes([number]) * 200_000 for number in range(50)])

        def first() -> int:
            log = opened(vhost.amqp_url)
            offset = read(log, 1)[0].offset
            log.close()
            return offset

        client.until(lambda: first() > 0, "retention by the policy")


class TestAppending:
    def test_an_entry_is_read_back_with_its_offset(self, log: ShardLog) -> None:
        until(lambda: log.is_connected, log)
        log.append(b"one")
        log.append(b"two")
        assert read(log, 2) == [(0, b"one"), (1, b"two")]

    def test_before_a_connection_an_append_is_refused(self, log: ShardLog) -> None:
        with pytest.raises(LogInterruptedError, match="the log isn't connected yet"):
            log.append(b"one")

    def test_entries_of_one_mebibyte_keep_their_order(self, log: ShardLog) -> None:
        until(lambda: log.is_connected, log)
        given = [bytes([number]) * 1_100_000 for number in range(30)]
        for body in given:
            log.append(body)
        assert bodies(read(log, len(given))) == given

    def test_an_entry_that_no_stream_takes_is_told(self, log: ShardLog, client: Client) -> None:
        until(lambda: log.is_connected, log)
        client.channel.queue_unbind(STREAM, EXCHANGE, "0")
        log.append(b"lost")
        assert interrupted(log).startswith("append_refused: returned: exchange 'telemetry.log' has no stream")
        client.channel.queue_bind(STREAM, EXCHANGE, "0")
        until(lambda: log.is_connected, log)
        log.append(b"kept")
        assert read(log, 1) == [(0, b"kept")]

    def test_a_missing_exchange_is_told(self, log: ShardLog, client: Client) -> None:
        until(lambda: log.is_connected, log)
        client.channel.exchange_delete(EXCHANGE)
        log.append(b"lost")
        assert interrupted(log).startswith("exchange_missing: NOT_FOUND - no exchange 'telemetry.log'")


class TestLosses:
    def test_what_had_arrived_is_returned_before_the_loss_is_raised_and_reading_goes_on(
        self, log: ShardLog, client: Client
    ) -> None:
        append(client, b"a")
        assert bodies(read(log, 1)) == [b"a"]
        append(client, b"b")
        while not log._reader.has_entries:
            log._poll(1)
        lose(log)
        append(client, b"c")
        assert log.take(5) == [(1, b"b")]
        assert interrupted(log)
        assert read(log, 1) == [(2, b"c")]
        assert log.reconnects == {"connection_lost": 1}

    def test_a_loss_is_raised_once_however_often_the_next_attempts_fail(
        self, vhost: Any, node: PrivateNode, client: Client
    ) -> None:
        append(client, b"a")
        with Proxy(node.amqp_port) as proxy:
            log = opened(through(vhost, node, proxy))
            assert read(log, 1)
        assert interrupted(log)
        raised = []
        while log.reconnects["unreachable"] < 3:
            try:
                assert log.take(0.1) == []
            except LogInterruptedError as error:
                raised.append(str(error).partition(":")[0])
        assert raised == ["unreachable"]
        assert not log.is_connected
        log.close()

    def test_a_stream_that_does_not_exist_is_named(self, vhost: Any, client: Client) -> None:
        client.channel.queue_delete(STREAM)
        log = opened(vhost.amqp_url)
        assert f"no queue '{STREAM}'" in interrupted(log, LogMissingError)
        declare(client)
        append(client, b"a")
        assert read(log, 1) == [(0, b"a")]
        log.close()

    def test_a_stream_that_was_deleted_and_made_again_longer_is_told_apart(self, log: ShardLog, client: Client) -> None:
        append(client, b"a", b"b")
        assert len(read(log, 2)) == 2
        client.channel.queue_delete(STREAM)
        assert interrupted(log).startswith("consumer_cancelled: ")
        declare(client)
        append(client, b"x", b"y", b"z")
        said = replaced(log)
        assert said == f"log_replaced: '{STREAM}' was made again or lost its end: it has another entry at offset 1"
        assert not log.take(0)
        log.read_from("first")
        assert bodies(read(log, 3)) == [b"x", b"y", b"z"]

    def test_a_stream_that_was_made_again_shorter_or_lost_its_end_is_told_apart(
        self, log: ShardLog, client: Client
    ) -> None:
        append(client, b"a", b"b", b"c")
        assert len(read(log, 3)) == 3
        client.channel.queue_delete(STREAM)
        declare(client)
        append(client, b"x")
        said = replaced(log)
        assert (
            said == f"log_replaced: '{STREAM}' was made again or lost its end: it ends before offset 2, which was read"
        )
        log.read_from("first")
        assert bodies(read(log, 1)) == [b"x"]

    def test_a_broker_that_falls_silent_is_given_up(self, vhost: Any, node: PrivateNode, client: Client) -> None:
        append(client, b"a")
        with Proxy(node.amqp_port) as proxy:
            log = opened(through(vhost, node, proxy))
            assert read(log, 1)
            proxy.silent = True
            assert interrupted(log).startswith("channel_silent: no answer on the channel of 'telemetry.log.0' for 1")
            log.close()


def replaced(log: ShardLog) -> str:
    """Turn the log until it says that its stream was replaced; a loss or a missing stream may come first."""
    while True:
        try:
            until(lambda: False, log)
        except LogReplacedError as error:
            return str(error)
        except LogInterruptedError:
            continue


def test_under_an_alarm_nothing_is_appended_and_one_loss_is_told(dedicated_node: PrivateNode) -> None:
    with Client(dedicated_node.amqp_url) as client:
        declare(client)
        log = opened(dedicated_node.amqp_url)
        until(lambda: log.is_connected, log)
        log.append(b"before")
        assert read(log, 1) == [(0, b"before")]
        dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
        log.append(b"during")
        until(lambda: not log.is_connected, log)
        with pytest.raises(LogInterruptedError, match="connection_blocked: "):
            log.append(b"refused")
        assert interrupted(log).startswith("connection_blocked: ")
        dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.9")
        assert read(log, 1) == [(1, b"during")]
        until(lambda: log.is_connected, log)
        log.close()
