"""The pauses between a consumer's reads: a busy broker sends deliveries one by one, and each wake costs as much as ten.

So after few deliveries the next ones gather in the socket. A pause is so short that a full prefetch in each of them
makes 100,000 deliveries a second. Pure.
"""

from collections.abc import Callable, Sequence

from busmon.bus.frames.delivery import Delivery, sizes_of
from busmon.bus.frames.peeling import Entrance

FEW_BYTES = 65_536
"""Of deliveries that arrived together; no pause follows more of them."""

MOST_SECONDS = 0.01
SECONDS_OF_PREFETCHED = 1e-5
LEAST_SECONDS = 0.001
"""The loop's timers are no finer, so with a prefetch below 100 there is no pause."""


def pausing(entrance: Entrance, prefetch: int, pause: Callable[[float], None]) -> Entrance:
    """Return an entrance that has its connection pause after few deliveries.

    Args:
        entrance: takes the deliveries.
        prefetch: of its channel.
        pause: stops the connection's reads for so many seconds.
    """
    seconds = min(prefetch * SECONDS_OF_PREFETCHED, MOST_SECONDS)
    if seconds < LEAST_SECONDS:
        return entrance

    def enter(deliveries: Sequence[Delivery]) -> None:
        entrance(deliveries)
        if sum(sizes_of(deliveries)) < FEW_BYTES:
            pause(seconds)

    return enter
