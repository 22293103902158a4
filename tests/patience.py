"""The time that a test waits for what must happen. It is long, since it is spent only where a test fails."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 120.0
Answer = TypeVar("Answer")


def wait_until(
    promise: Callable[[], Answer | None], what: str = "a true answer", seconds: float = PATIENCE_SECONDS
) -> Answer:
    """Return the first true answer; fail after a while."""
    deadline = time.monotonic() + seconds
    while not (answer := promise()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return answer
