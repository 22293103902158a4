"""The contract between a queue's channel and the code that takes its deliveries.

Called on the thread of the consumer's loop. An error that a listener raises ends the loop: it leaves `ioloop.start()`.
"""

from collections.abc import Sequence
from typing import Protocol

from busmon.bus.frames.delivery import Delivery


class Listener(Protocol):
    """The receiver of one queue's deliveries."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries that arrived together; the listener owns each until it is settled, quarantined or void."""

    def void(self) -> None:
        """Forget the unsettled deliveries: their channel is lost, and the broker redelivers them."""

    def change(self, state: str, cause: str) -> None:
        """Note the queue's new state, and its cause.

        The state is `connecting`, `consuming`, `blocked`, `cancelled`, `closed`, `missing`, `suspended` or `draining`.
        The cause is one line, empty while nothing is wrong. At `cancelled` the channel is still open: deliveries that
        the listener settles before it returns are acknowledged. Then the channel is closed.
        """
