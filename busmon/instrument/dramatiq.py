"""Dramatiq's middleware: messages and actors of a worker. Any thread.

`broker.add_middleware(DramatiqMiddleware(telemetry))`.
"""

from time import perf_counter
from typing import Any

import dramatiq

from busmon.instrument.messages import Messages
from busmon.instrument.tasks import Tasks
from busmon.publish import Telemetry


class DramatiqMiddleware(dramatiq.Middleware):
    """Counts messages in `messages_*` and actors in `tasks_processed_total`, `task_duration_seconds` and more.

    A message counts as processed after a success, and after its last attempt that failed: Dramatiq rejects it then, or
    acknowledges it without another attempt where the broker has no middleware `Retries`. Each failed attempt counts in
    `task_failures_total`. Latency is that of the first attempt of a message without a
    delay, from Dramatiq's own timestamp, in milliseconds.

    Args:
        telemetry: the publisher of the figures.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._messages = Messages(telemetry)
        self._tasks = Tasks(telemetry)
        self._attempts: dict[str, _Attempt] = {}

    def after_enqueue(self, _: Any, message: Any, delay: int | None) -> None:
        """Count a message as published to its queue; the name of a queue of delayed messages ends in `.DQ`."""
        del delay
        self._messages.publish("", message.queue_name)
        if attempt := self._attempts.get(message.message_id):
            attempt.is_retried = True

    def before_process_message(self, _: Any, message: Any) -> None:
        """Count a message as consumed, and its actor as in work."""
        is_first = not message.options.get("retries") and "eta" not in message.options
        self._messages.consume(message.queue_name, message.message_timestamp / 1000 if is_first else None)
        self._attempts[message.message_id] = _Attempt()
        self._tasks.start()

    def after_process_message(
        self, _: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Count the end of an attempt."""
        del result
        attempt = self._end(message)
        if exception is None:
            self._tasks.succeed()
        else:
            self._tasks.fail_attempt(exception)
            if attempt is not None:
                attempt.has_failed = True

    def after_skip_message(self, _: Any, message: Any) -> None:
        """End an attempt that another middleware skipped."""
        self._end(message)

    def after_ack(self, _: Any, message: Any) -> None:
        """Count a message as failed that is acknowledged after a failed attempt, if no other attempt follows."""
        attempt = self._attempts.pop(message.message_id, None)
        if attempt is not None and attempt.has_failed and not attempt.is_retried:
            self._tasks.fail()

    def after_nack(self, _: Any, message: Any) -> None:
        """Count a message as failed: it is rejected, and no attempt follows."""
        self._attempts.pop(message.message_id, None)
        self._tasks.fail()

    def _end(self, message: Any) -> "_Attempt | None":
        attempt = self._attempts.get(message.message_id)
        if attempt is not None:
            self._tasks.end(perf_counter() - attempt.began)
        return attempt


class _Attempt:
    """One processing of a message, until Dramatiq settles the message."""

    __slots__ = ("began", "has_failed", "is_retried")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.has_failed = self.is_retried = False
