"""The pauses between a consumer's reads: a busy broker sends deliveries one by one, and each wake costs as much as ten.

So after few deliveries the next ones gather in the socket, for as long as a tenth of the prefetch takes to arrive at
the present rate. A longer pause would use up the prefetch, and limit the rate. On the thread of the loop.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from busmon.bus.frames.delivery import Delivery, sizes_of
from busmon.bus.frames.peeling import Entrance

FEW_BYTES = 65_536
"""Of deliveries that arrived together; no pause follows more of them."""

SHARE_OF_PREFETCH = 0.1
MOST_SECONDS = 0.01
LEAST_SECONDS = 0.002
"""Where deliveries arrive quicker than that, they arrive many at a time, and no pause follows."""


def pausing(entrance: Entrance, prefetch: int, pause: Callable[[float], None]) -> Entrance:
    """Return an entrance that has its connection pause after few deliveries.

    Args:
        entrance: takes the deliveries.
        prefetch: of its channel.
        pause: stops the connection's reads for so many seconds.
    """
    wanted, since, arrived = prefetch * SHARE_OF_PREFETCH, monotonic(), 0

    def enter(deliveries: Sequence[Delivery]) -> None:
        nonlocal since, arrived
        arrived += len(deliveries)
        now = monotonic()
        entrance(deliveries)
        if sum(sizes_of(deliveries)) < FEW_BYTES:
            seconds = min((now - since) * wanted / arrived, MOST_SECONDS)
            since, arrived = now, 0
            left = now + seconds - monotonic()  # deliveries gather while others are handled, too
            if seconds >= LEAST_SECONDS and left > 0.0:
                pause(left)

    return enter
