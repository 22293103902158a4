"""The time for which a question to the broker has been unanswered while this process could have heard an answer.

Pure. Silence adds up only while the loop turns: a process that was stopped, or busy with one fold for a minute, has not
listened, and blames nobody.
"""

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

    def ask(self) -> None:
        """Note that a question was asked."""
        self.is_waiting = True

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
