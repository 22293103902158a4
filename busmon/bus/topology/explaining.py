"""The requests of a declaration: what the broker's refusals mean, and which of its errors are worth another attempt."""

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from pika import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from busmon.bus.connect import plugin
from busmon.bus.connect.connection import one_line
from busmon.bus.connect.not_found import is_unavailable
from busmon.bus.connect.session import Session
from busmon.bus.topology.topology import Topology
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BrokerUnsettledError, BusError, TopologyError

SETTLING_SECONDS = 60.0
"""The time that a cluster is given to elect its leaders."""

_RETRY_SECONDS = 1.0
Answer = TypeVar("Answer")

# Not structlog, which the base install lacks: `logging` prints a warning on stderr without any set-up.
_log = logging.getLogger(__name__)

# RabbitMQ 3.10: "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"; where
# one of them is absent, "received none but current is the value '5' of type 'signedint'".
_DIFFERENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' .*: received (?:the value )?(?P<wanted>none|'.*?')(?: of type '\w+')? "
    r"but current is (?:the value )?(?P<found>none|'.*?')(?: of type '\w+')?$"
)


class DifferentArgumentError(TopologyError):
    """The error for an object that exists with another argument.

    Args:
        line: the error's text.
        argument: the differing argument.
        is_absent: the existing object doesn't have the argument.
    """

    def __init__(self, line: str, *, argument: str, is_absent: bool) -> None:
        super().__init__(line)
        self.argument = argument
        self.is_absent = is_absent


def until_settled(declaration: Callable[[], Answer]) -> Answer:
    """Run a declaration, and run it again while the broker can't answer.

    A node of RabbitMQ 4 answers with INTERNAL_ERROR while its metadata store has no leader, and any cluster while the
    leader of a quorum queue or a stream is elected. A queue whose process starts gives the answer of `is_unavailable`.

    Raises:
        BrokerUnsettledError: the broker still gave such an answer after `SETTLING_SECONDS`.
    """
    return Retrying(
        retry=retry_if_exception_type(BrokerUnsettledError),
        stop=stop_after_delay(SETTLING_SECONDS),
        wait=wait_fixed(_RETRY_SECONDS),
        before_sleep=_tell,
        reraise=True,
    )(declaration)


def _tell(attempt: RetryCallState) -> None:
    if attempt.attempt_number == 1 and attempt.outcome:
        cause = attempt.outcome.exception()
        _log.warning("the broker can't declare yet, trying again for %g s: %s", SETTLING_SECONDS, cause)


def request(session: Session, topology: Topology, what: str, operation: Callable[[BlockingChannel], object]) -> None:
    """Make one request; an error names `what`, the object in question.

    Raises:
        TopologyError: the object exists with other arguments, or a plugin is missing.
        BrokerRefusedError: this user may not declare.
        BrokerUnsettledError: the broker can't answer yet.
        BrokerUnreachableError: the broker stops.
    """
    try:
        session.call(operation)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        raise explain(topology, what, error.reply_code, one_line(error.reply_text)) from error


def explain(topology: Topology, what: str, code: int, text: str) -> BusError | TopologyError:
    """Return the error for the code and the text with which the broker closed the channel or the connection."""
    if code == spec.INTERNAL_ERROR or is_unavailable(code, text):
        return BrokerUnsettledError(f"{what}: {text}")
    if code == spec.CONNECTION_FORCED:
        return BrokerUnreachableError(f"{what}: {text}")
    if code == spec.ACCESS_REFUSED:
        return BrokerRefusedError(f"{what}: {text}; declaring takes an operator's permissions")
    if plugin.is_off(text):
        return TopologyError(
            f"{topology.shards} shards need a plugin that RabbitMQ has off: {plugin.ENABLE}, or set shards = 1 in the "
            f"topology file ({topology.path}, or a copy that BUSMON_TOPOLOGY names)"
        )
    if different := _DIFFERENT.search(text):
        found, wanted = (different[side].strip("'") for side in ("found", "wanted"))
        return DifferentArgumentError(
            f"{what}: {different['argument']} is {found} on the broker, but {wanted} in {topology.path}; RabbitMQ "
            "can't change it: drain, delete and declare again (docs/topology.md, 'Changing an argument')",
            argument=different["argument"],
            is_absent=different["found"] == "none",
        )
    return TopologyError(f"{what}: {text}")
