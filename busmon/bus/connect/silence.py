"""The silence of the broker: the time for which a request stays unanswered while this process can receive.

Pure. Silence adds up only while the loop turns. A process that was stopped, or busy with one fold for a minute, could
not receive an answer, so that time doesn't count.
"""

SILENT_SECONDS = 10.0
"""How long the broker may leave a request unanswered; then it is stalled, frozen, or gone without a reset."""

STEP_SECONDS = 2.0
"""The most silence that one call of `add` adds, however long the loop did not turn."""


class Silence:
    """The silence after one request.

    Attributes:
        is_waiting: a request is unanswered.
    """

    def __init__(self) -> None:
        self.is_waiting = False
        self._seconds = 0.0

    def ask(self) -> None:
        """Note that a request was sent."""
        self.is_waiting = True

    @property
    def is_too_long(self) -> bool:
        """Return whether the silence exceeds `SILENT_SECONDS`."""
        return self._seconds >= SILENT_SECONDS

    def start_over(self) -> None:
        """Start the silence at zero: the broker sent something other than the answer."""
        self._seconds = 0.0

    def end(self) -> None:
        """Note that the request is answered, or that its answer isn't awaited any more."""
        self.is_waiting = False
        self._seconds = 0.0

    def add(self, elapsed_seconds: float) -> float:
        """Return the length of the silence, with the time since the last call."""
        if self.is_waiting:
            self._seconds += min(elapsed_seconds, STEP_SECONDS)
        return self._seconds
