"""The publishing connection without a broker: each attempt is counted, and only the first is logged."""

from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.spec import Basic
from structlog.testing import capture_logs

from busmon.bus.connect.causes import Interruptions, LossCause
from busmon.bus.connect.dialling import Addresses
from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.outgoing import Outgoing

NOBODY = "amqp://user:secret@127.0.0.1:1/"
ATTEMPTS = 3
POLL_SECONDS = 0.02


def test_attempts_that_fail_for_one_cause_are_one_line() -> None:
    loop, interruptions = IOLoop(), Interruptions()
    outgoing = Outgoing(Addresses(NOBODY, "test"), loop, interruptions, lambda _: None, user_id=None)
    outlet = outgoing.outlet("telemetry.quarantine", LossCause.QUARANTINE_REFUSED, lambda _: None)

    def look() -> None:
        if interruptions.counts[LossCause.UNREACHABLE] < ATTEMPTS:
            loop.call_later(POLL_SECONDS, look)
        else:
            outgoing.close(loop.stop)

    method = Basic.Deliver("tag", delivery_tag=1, exchange="", routing_key="key")
    outlet.publish("q", Delivery.from_pika(method, BasicProperties(), b"{}"), lambda _: BasicProperties(), lambda: None)
    look()
    with capture_logs() as lines:
        loop.start()
    loop.close()
    assert [line["cause"] for line in lines if line["event"] == "outgoing.connection_lost"] == ["unreachable"]
