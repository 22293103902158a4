"""The time for which a question to the broker has been unanswered while this process could have heard an answer.

Pure. Silence adds up only while the loop turns: a process that was stopped, or busy with one fold for a minute, has not
listened, and blames nobody.
"""

SILENT_SECONDS = 10.0
"""How long the broker may leave a question unanswered while anything else comes on the connection. Where nothing comes
at all, it may stand still and come back, and is given twice that."""

STEP_SECONDS = 2.0
"""At most so much silence is added at a time, however long the loop did not turn."""


class Silence:
    """The silence after one question.

    Attributes:
        is_waiting: a question is unanswered.
    """

    def __init__(self) -> None:
        self.is_waiting = False
        self._seconds = 0.0
        self._bytes_at_question = 0

    def ask(self, bytes_received: int = 0) -> None:
        """Note that a question was asked, and how many bytes the connection had received by then."""
        if not self.is_waiting:
            self._bytes_at_question = bytes_received
        self.is_waiting = True

    def allowed_seconds(self, bytes_received: int) -> float:
        """Return how long the silence may be, now that the connection has received so many bytes."""
        return SILENT_SECONDS if bytes_received != self._bytes_at_question else 2 * SILENT_SECONDS

    def heard(self) -> None:
        """Start over: the other side did something, if it is not the answer."""
        self._seconds = 0.0

    def end(self) -> None:
        """Note that the question is answered, or that nobody waits for its answer."""
        self.is_waiting = False
        self._seconds = 0.0

    def add(self, elapsed_seconds: float) -> float:
        """Return the length of the silence, with the time since the last call."""
        if self.is_waiting:
            self._seconds += min(elapsed_seconds, STEP_SECONDS)
        return self._seconds
