"""Celery's signals: tasks of a worker and messages of a client, without Celery's events. Any thread, any pool."""

from time import perf_counter, time_ns
from typing import Any

from celery import signals

from busmon.instrument.messages import PUBLISHED_AT, Messages
from busmon.instrument.tasks import Tasks
from busmon.publish import Gauge, Telemetry

_UID = "busmon"


def instrument_celery(telemetry: Telemetry) -> None:
    """Count the tasks that this process and its pool's children run, and those that it sends.

    `tasks_processed_total` counts tasks that ended, with success or without. `task_failures_total` counts failed
    attempts, also those that are retried and those that a time limit or a killed child ended. Messages count in
    `messages_published_total` where they are sent, and in `messages_consumed_total` and `message_latency_seconds`
    where their task begins; the label `queue` is the routing key. `celery_active_process_count` has the processes of
    the worker's pool, of each queue that it consumes from. Called again, it replaces the earlier `Telemetry`.

    Args:
        telemetry: the publisher of the figures, made before the worker forks its pool.
    """
    instrument = _Signals(telemetry)
    receivers = {
        signals.before_task_publish: instrument.stamp,
        signals.after_task_publish: instrument.publish,
        signals.task_prerun: instrument.start,
        signals.task_postrun: instrument.end,
        signals.task_success: instrument.succeed,
        signals.task_retry: instrument.retry,
        signals.task_failure: instrument.fail,
        signals.worker_ready: instrument.watch_pool,
        signals.heartbeat_sent: instrument.count_processes,
        signals.worker_process_shutdown: instrument.close,
        signals.worker_shutdown: instrument.close,
    }
    for signal, receiver in receivers.items():
        uid = f"{_UID}.{signal.name}"
        signal.disconnect(dispatch_uid=uid)
        signal.connect(receiver, weak=False, dispatch_uid=uid)


class _Signals:
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._messages = Messages(telemetry)
        self._tasks = Tasks(telemetry)
        self._began: dict[str, float] = {}
        self._consumer: Any = None
        self._processes: dict[str, Gauge] = {}

    def stamp(self, headers: dict[str, Any] | None = None, **_: Any) -> None:
        """Add the time of publishing to a message's headers."""
        if headers is not None:
            headers.setdefault(PUBLISHED_AT, time_ns())

    def publish(self, exchange: Any = None, routing_key: str | None = None, **_: Any) -> None:
        """Count a sent message; its exchange is given by name or as kombu's object."""
        self._messages.publish(getattr(exchange, "name", exchange) or "", routing_key or "")

    def start(self, task_id: str, task: Any, **_: Any) -> None:
        """Count an attempt as begun."""
        request = task.request
        stamp = getattr(request, PUBLISHED_AT, None)
        info = request.delivery_info or {}
        if not request.is_eager:
            # A task that waits for its eta is late by intention.
            published_at = stamp / 1e9 if isinstance(stamp, int) and not (request.eta or request.retries) else None
            self._messages.consume(str(info.get("routing_key") or ""), published_at)
        self._began[task_id] = perf_counter()
        self._tasks.start()

    def end(self, task_id: str, **_: Any) -> None:
        """Count an attempt as ended."""
        began = self._began.pop(task_id, None)
        if began is not None:
            self._tasks.end(perf_counter() - began)

    def succeed(self, **_: Any) -> None:
        """Count a task as processed with success."""
        self._tasks.succeed()

    def retry(self, reason: Any = None, **_: Any) -> None:
        """Count an attempt that is retried as failed, by the exception that caused the retry."""
        cause = getattr(reason, "exc", reason)
        self._tasks.fail_attempt(cause if isinstance(cause, BaseException) else None)

    def fail(self, exception: BaseException | None = None, **_: Any) -> None:
        """Count a task as processed without success."""
        self._tasks.fail_attempt(exception)
        self._tasks.fail()

    def watch_pool(self, sender: Any = None, **_: Any) -> None:
        """Count the processes of a worker that is ready, and from now on with each of its heartbeats."""
        self._consumer = sender
        self.count_processes()

    def count_processes(self, **_: Any) -> None:
        """Set the processes of the worker's pool, in the worker's main process; a pool of threads has none."""
        tasks = getattr(self._consumer, "task_consumer", None)  # there is none during a reconnect
        if tasks is None:
            return
        processes = len(self._consumer.pool.info.get("processes", ()))
        queues = {queue.name for queue in tasks.queues}
        for queue in queues - self._processes.keys():
            family = self._telemetry.gauge("celery_active_process_count", "", ["queue_name"], domain="task")
            self._processes[queue] = family.labels(queue)
        for queue, gauge in self._processes.items():
            gauge.set(processes if queue in queues else 0)

    def close(self, **_: Any) -> None:
        """Publish the last figures: a pool's child ends without exit functions."""
        self._telemetry.close()
