from itertools import islice

import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from busmon.bus.connect.connection import parameters, translate, translating, virtual_host
from busmon.bus.connect.retry import reconnect_waits
from busmon.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    BrokerUnsettledError,
    LoginRefusedError,
    SettingsError,
)

LOGIN = 'ConnectionClosedByBroker: (403) "ACCESS_REFUSED - Login was refused. For details see the broker logfile."'


def test_a_connection_has_a_name_and_no_endless_waits() -> None:
    found = parameters("amqp://u:p@rabbit/%2F", "busmon worker 1")
    assert found.client_properties == {"connection_name": "busmon worker 1"}
    assert (found.heartbeat, found.blocked_connection_timeout) == (30, 30)
    assert (found.socket_timeout, found.stack_timeout, found.connection_attempts) == (5, 5, 1)


def test_the_urls_own_options_come_first() -> None:
    found = parameters("amqp://u:p@rabbit/%2F?heartbeat=7&socket_timeout=2&client_properties={'a': 1}", "name")
    assert (found.heartbeat, found.socket_timeout) == (7, 2)
    assert found.client_properties == {"a": 1, "connection_name": "name"}


def test_user_password_and_virtual_host_are_decoded() -> None:
    found = parameters("amqp://us%40er:p%2Fw@rabbit:5673/v%2Fh", "name")
    assert (found.credentials.username, found.credentials.password) == ("us@er", "p/w")
    assert (found.host, found.port, found.virtual_host) == ("rabbit", 5673, "v/h")
    assert virtual_host("amqp://rabbit") == "/"


def test_a_user_without_a_password_has_an_empty_one() -> None:
    assert parameters("amqp://user@rabbit/", "name").credentials.password == ""


def test_amqps_verifies_the_brokers_certificate() -> None:
    found = parameters("amqps://u:p@rabbit/", "name")
    assert found.port == 5671
    assert found.ssl_options.context.check_hostname


@pytest.mark.parametrize(
    "query",
    ["heartbeat=soon", "hearbeat=30", "tcp_options={"],
)
def test_a_wrong_option_is_one_line_without_the_password(query: str) -> None:
    with pytest.raises(SettingsError, match=r"^amqp_url: amqps://u:\*\*\*@rabbit/\?") as caught:
        parameters(f"amqps://u:secret@rabbit/?{query}", "name")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "query", "line"),
    [
        ("amqps", "ssl_options={'protocol': 2}", "ssl_options: expected cacertfile, certfile and keyfile in its place"),
        ("amqps", "verify=verify_none", "verify: expected verify_peer, for the server is always verified"),
        ("amqps", "auth_mechanism=cram", "auth_mechanism: expected plain or external"),
        ("amqps", "keyfile=/nowhere", "keyfile: expected a certfile too"),
        ("amqps", "cacertfile=/nowhere", "cacertfile=/nowhere: can't read it: No such file or directory"),
        (
            "amqp",
            "auth_mechanism=external",
            "amqp://u:***@rabbit/?auth_mechanism=external: expected amqps://…, where certifi",
        ),
    ],
)
def test_no_option_leaves_the_broker_unverified(scheme: str, query: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parameters(f"{scheme}://u:secret@rabbit/?{query}", "name")
    assert str(caught.value).startswith(f"amqp_url: {line}")


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (ProbableAuthenticationError(LOGIN), LoginRefusedError, "ACCESS_REFUSED - Login was refused."),
        (
            ProbableAccessDeniedError("ConnectionClosedByBroker: (530) 'NOT_ALLOWED - vhost x not found'"),
            LoginRefusedError,
            "NOT_ALLOWED - vhost x not found",
        ),
        (
            ConnectionClosedByBroker(530, "NOT_ALLOWED - access to vhost '/' refused for user 'a'"),
            LoginRefusedError,
            "NOT_ALLOWED - access to vhost '/' refused for user 'a'",
        ),
        (
            ConnectionClosedByBroker(
                530, "NOT_ALLOWED - access to vhost '/' refused for user 'a': limit (5) is reached"
            ),
            BrokerRefusedError,
            "NOT_ALLOWED - access to vhost '/' refused for user 'a': limit (5) is reached",
        ),
        (
            ProbableAccessDeniedError("ConnectionClosedByBroker: (541) 'INTERNAL_ERROR - vhost x is down'"),
            BrokerUnsettledError,
            "INTERNAL_ERROR - vhost x is down",
        ),
        (
            IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)"),
            BrokerUnreachableError,
            "Transport indicated EOF",
        ),
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED - stop"), BrokerUnreachableError, "CONNECTION_FORCED - stop"),
        (ConnectionClosedByBroker(503, "COMMAND_INVALID - x"), BrokerRefusedError, "COMMAND_INVALID - x"),
        (ConnectionClosedByBroker(320, ""), BrokerUnreachableError, "closed with code 320"),
        (ChannelClosedByBroker(404, "NOT_FOUND - no queue\n'x'"), BrokerRefusedError, "NOT_FOUND - no queue 'x'"),
        (ChannelClosedByBroker(404, "NOT_FOUND - 'x' crashed"), BrokerUnsettledError, "NOT_FOUND - 'x' crashed"),
        (StreamLostError("Stream connection lost: reset"), BrokerUnreachableError, "Stream connection lost: reset"),
        (ConnectionBlockedTimeout("no answer"), BrokerUnreachableError, "no answer"),
        (ConnectionRefusedError(111, "Connection refused"), BrokerUnreachableError, "Connection refused"),
        (
            AMQPConnectionError(AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))),
            BrokerUnreachableError,
            "Connection refused",
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorStackTimeout("slow")]),
            BrokerUnreachableError,
            "no answer to the AMQP handshake in time",
        ),
        (AMQPConnectionError(), BrokerUnreachableError, "AMQPConnectionError"),
    ],
)
def test_each_failure_has_its_kind_and_one_line(error: Exception, kind: type[Exception], line: str) -> None:
    found = translate(error)
    assert type(found) is kind
    assert str(found) == line


def fail_inside_pika() -> None:
    with translating():
        raise StreamLostError("gone")


def test_what_pika_raises_leaves_as_ours_with_its_cause() -> None:
    with pytest.raises(BrokerUnreachableError, match=r"^gone$") as caught:
        fail_inside_pika()
    assert isinstance(caught.value.__cause__, StreamLostError)


def test_waits_grow_from_a_tenth_of_a_second_to_ten_seconds_and_differ() -> None:
    runs = [list(islice(reconnect_waits(), 40)) for _ in range(50)]
    assert all(0.1 <= wait <= 10 for run in runs for wait in run)
    assert max(run[0] for run in runs) < 0.5
    assert max(run[-1] for run in runs) > 5
    assert len({run[-1] for run in runs}) > 40


def test_waits_go_on_for_ever() -> None:
    assert 0.1 <= next(islice(reconnect_waits(), 5000, None)) <= 10
