"""The waits between attempts: tenacity's policies, for callers that an event loop calls back.

tenacity's `Retrying` sleeps between attempts, and a loop can't: it has heartbeats and acks to serve. So the policy is
asked alone, with the state that tenacity passes to it. Pure.
"""

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base


class Backoff:
    """The waits of one policy, each for one more failed attempt than the last."""

    def __init__(self, policy: wait_base) -> None:
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        """Begin with the first wait again: an attempt has succeeded."""
        self._state = RetryCallState(Retrying(), None, (), {})

    def next_wait(self) -> float:
        """Return the seconds until the next attempt."""
        seconds = self._policy(self._state)
        self._state.attempt_number += 1
        return seconds
