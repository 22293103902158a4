"""In a loop's place: what is to be called later, called when the test says so."""

from collections.abc import Callable


class Later:
    """Takes calls, and makes those that are due when its time is moved on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        self._planned.append((self.now + seconds, call))

    def pass_(self, seconds: float) -> None:
        """Let time pass, in steps of a quarter of a second."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            due = [call for at, call in self._planned if at <= self.now]
            self._planned = [(at, call) for at, call in self._planned if at > self.now]
            for call in due:
                call()
