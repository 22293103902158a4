"""Attempts to connect: how long an address may take, which comes next, and what an error says of each."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.connect.causes import Cause, LossCause
from busmon.bus.connect.connection import address, certificates
from busmon.bus.connect.dialling import Addresses, open_blocking
from busmon.bus.connect.link import Link
from busmon.bus.frames.workflow import BrokerAddress, Failure
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BusError

QUICK = "?socket_timeout=0.2&stack_timeout=0.2"
NO_AMQP = "no answer to the AMQP handshake in time; AMQP's port is 5672 by default, 15672 is the management API's"
REFUSED = "Connection refused; check host and port in amqp_url (BUSMON_AMQP_URL)"


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that accepts connections, as a frozen node does, and never says a word; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def url(port: int, scheme: str = "amqp", host: str = "127.0.0.1") -> str:
    return f"{scheme}://user:hunter2@{host}:{port}/%2F{QUICK}"


def failure(amqp_url: str) -> BusError:
    with pytest.raises(BusError) as caught:
        open_blocking(amqp_url, "test")
    assert "hunter2" not in str(caught.value)
    return caught.value


def test_a_server_that_accepts_and_says_nothing_holds_nobody(silent: int) -> None:
    error = failure(url(silent))
    assert isinstance(error, BrokerUnreachableError)
    assert str(error) == f"RabbitMQ at 127.0.0.1:{silent}: {NO_AMQP}"


def test_a_server_that_does_not_answer_the_tls_handshake_holds_nobody(silent: int) -> None:
    assert (
        str(failure(url(silent, "amqps"))) == f"RabbitMQ at 127.0.0.1:{silent}: no answer to the TLS handshake in time"
    )


def test_a_host_that_drops_packets_holds_nobody() -> None:
    with ExitStack() as stack:
        # The kernel drops the handshakes that a full backlog has no room for.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(("127.0.0.1", port))
        assert str(failure(url(port))) == f"RabbitMQ at 127.0.0.1:{port}: no answer to the TCP handshake in time"


def test_by_default_an_address_has_five_seconds_for_all_three_handshakes() -> None:
    (parameters,) = Addresses("amqp://host", "test").of_urls
    assert (parameters.socket_timeout, parameters.stack_timeout, parameters.connection_attempts) == (5, 5, 1)


def test_an_error_says_of_each_address_why_it_failed(silent: int, closed: int) -> None:
    said = str(failure(f"{url(silent)},{url(closed)}"))
    parts = {f"at 127.0.0.1:{silent}: {NO_AMQP}", f"at 127.0.0.1:{closed}: {REFUSED}"}
    assert set(re.split("; (?=at )", said.removeprefix("RabbitMQ "))) == parts


def test_addresses_that_fail_alike_are_named_together(closed: int) -> None:
    said = str(failure(f"{url(closed)},{url(closed, host='127.0.0.2')}"))
    places = re.fullmatch(f"RabbitMQ at (.*): {re.escape(REFUSED)}", said)
    assert places is not None
    assert set(places[1].split(", ")) == {f"127.0.0.1:{closed}", f"127.0.0.2:{closed}"}


def test_a_name_that_does_not_resolve_costs_its_own_url_only(silent: int) -> None:
    said = str(failure(f"{url(silent)},{url(5672, host='nowhere.invalid')}"))
    assert f"at 127.0.0.1:{silent}: {NO_AMQP}" in said
    assert "at nowhere.invalid:5672: " in said


def test_each_address_of_a_name_is_told(closed: int) -> None:
    found = Addresses(f"amqp://rabbit:{closed}", "test")
    (parameters,) = found.of_urls
    for ip in ("10.0.0.1", "10.0.0.2"):
        found.note_failed(Failure(parameters, ip, ConnectionRefusedError(111, "Connection refused")))
    assert str(found.explain_failure()) == f"RabbitMQ at rabbit:{closed} (10.0.0.1, 10.0.0.2): {REFUSED}"
    assert str(found.reasons()) == REFUSED
    found.note_failed(Failure(parameters, "10.0.0.3", TimeoutError("TCP connection attempt timed out: x")))
    assert str(found.reasons()) == (
        f"RabbitMQ at rabbit:{closed} (10.0.0.1, 10.0.0.2): {REFUSED}; "
        f"at rabbit:{closed} (10.0.0.3): no answer to the TCP handshake in time"
    )
    assert isinstance(found.explain_failure(), BrokerUnreachableError)
    assert not isinstance(found.explain_failure(), BrokerRefusedError)


def addresses_of(count: int, found: Addresses) -> list[BrokerAddress]:
    (parameters,) = found.of_urls
    return [BrokerAddress(parameters, (2, 1, 6, "", (f"10.0.0.{number}", 5672))) for number in range(count)]


def test_the_order_is_random_and_stays() -> None:
    orders = []
    for _ in range(20):
        found = Addresses("amqp://rabbit", "test")
        known = addresses_of(8, found)
        order = found.in_order(known)
        assert sorted(order) == sorted(known)
        assert found.in_order(known) == order
        orders.append([address.ip for address in order])
    assert len({tuple(order) for order in orders}) > 10


def test_what_failed_or_was_lost_comes_last() -> None:
    found = Addresses("amqp://rabbit", "test")
    first, second, *others = found.in_order(addresses_of(4, found))
    found.note_failed(Failure(first.parameters, first.ip, OSError()), first)
    found.note_opened(second)
    known = [first, second, *others]
    assert found.in_order(known) == [second, *others, first]
    found.note_lost()
    assert found.in_order(known) == [*others, first, second]
    found.note_lost()
    assert found.in_order(known) == [*others, first, second]


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_an_attempt_is_dropped_at_any_moment(silent: int, seconds: float) -> None:
    loop = IOLoop()
    causes: list[Cause] = []
    link = Link(
        Addresses(f"amqp://user@127.0.0.1:{silent}", "test"),
        loop,
        opened=lambda _: None,
        lost=lambda cause, _: causes.append(cause),
        blocked=lambda _: None,
    )
    link.open()
    loop.call_later(seconds, lambda: link.close(loop.stop))
    loop.start()
    assert causes == []
    loop.close()


def test_a_link_gives_up_an_attempt_for_a_cause_of_its_own(silent: int) -> None:
    loop, causes = IOLoop(), []

    def note(cause: Cause, _wait: float | None) -> None:
        causes.append(cause)
        loop.stop()

    link = Link(Addresses(url(silent), "test"), loop, opened=lambda _: None, lost=note, blocked=lambda _: None)
    link.open()
    loop.call_later(0.05, lambda: link.give_up(Cause(LossCause.CHANNEL_SILENT, "no answer")))
    loop.start()
    assert causes == [Cause(LossCause.CHANNEL_SILENT, "no answer")]
    link.retire()
    loop.close()


def test_certificates_of_all_urls_are_watched(tmp_path: Path) -> None:
    urls = f"amqps://one?cacertfile={tmp_path}/ca.pem,amqp://two:7"
    assert certificates(urls) == {"amqp_ca": tmp_path / "ca.pem"}
    assert address("amqps://one,amqp://two:7") == "one:5671, two:7"
