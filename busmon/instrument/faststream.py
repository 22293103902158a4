"""FastStream's middleware: messages of a RabbitMQ broker and their handlers. On the event loop.

`RabbitBroker(url, middlewares=[FastStreamMiddleware(telemetry)])`.
"""

from collections.abc import Awaitable, Callable
from time import perf_counter, time_ns
from typing import Any

from aiormq.abc import DeliveredMessage
from faststream import BaseMiddleware
from faststream.exceptions import AckMessage, IgnoredException, NackMessage, RejectMessage

from busmon.instrument.messages import PUBLISHED_AT, Messages
from busmon.instrument.tasks import Tasks
from busmon.publish import Telemetry


class FastStreamMiddleware:
    """Counts messages in `messages_*` and handlers in `tasks_processed_total`, `task_duration_seconds` and more.

    A handler that returns, or raises `AckMessage`, is a success. One that raises `NackMessage`, `RejectMessage` or an
    exception of its own is a failure. FastStream's other instructions, such as `SkipMessage`, count as neither.

    Args:
        telemetry: the publisher of the figures.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._messages = Messages(telemetry)
        self._tasks = Tasks(telemetry)

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        """Make the middleware of one message, as FastStream asks for it."""
        return _Middleware(msg, context=context, messages=self._messages, tasks=self._tasks)


class _Middleware(BaseMiddleware[Any, Any]):  # type: ignore[misc]  # untyped where FastStream isn't analysed
    def __init__(self, msg: Any, /, *, context: Any, messages: Messages, tasks: Tasks) -> None:
        super().__init__(msg, context=context)
        self._messages = messages
        self._tasks = tasks

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        raw = msg.raw_message
        self._messages.consume_incoming(self._queue(raw), raw)
        began = perf_counter()
        self._tasks.start()
        try:
            answer = await call_next(msg)
        except AckMessage:
            self._tasks.succeed()
            raise
        except Exception as error:
            if isinstance(error, NackMessage | RejectMessage) or not isinstance(error, IgnoredException):
                self._tasks.fail_attempt(error)
                self._tasks.fail()
            raise
        else:
            self._tasks.succeed()
            return answer
        finally:
            self._tasks.end(perf_counter() - began)

    async def publish_scope(self, call_next: Callable[[Any], Awaitable[Any]], cmd: Any) -> Any:
        cmd.add_headers({PUBLISHED_AT: time_ns()}, override=False)
        answer = await call_next(cmd)
        if not isinstance(answer, DeliveredMessage):  # that is one that the broker returned
            self._messages.publish(cmd.exchange.name or "", cmd.destination)
        return answer

    def _queue(self, raw: Any) -> str:
        """Return the name of the subscriber's queue, or the routing key where FastStream doesn't tell it."""
        queue = getattr(self.context.get("handler_"), "queue", None)
        return str(getattr(queue, "name", None) or raw.routing_key or "")
