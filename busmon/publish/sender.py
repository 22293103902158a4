"""The publishing thread of one source, and how a program waits for it.

The thread is a daemon: a program never waits for it but in `flush` and `close`, which return in time whatever the
broker does. An outage is logged once when it begins and once when it ends, by `logging` as the program has it.
"""

import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING

from busmon.errors import BusError, BusmonError
from busmon.plurals import format_count
from busmon.publish import uwsgi
from busmon.publish.batch import Origin
from busmon.publish.presence import HEARTBEAT_SECONDS
from busmon.publish.series import Series
from busmon.settings import Settings

if TYPE_CHECKING:
    from busmon.publish.rounds import Rounds

_IDLE_SECONDS = 5.0
"""Between answers to the broker's heartbeats, where the publish interval is longer."""

_LAST_WORDS_SECONDS = 1.0
"""Beyond the deadline, for the thread to write down what isn't confirmed and to say so."""

_MAX_HOST_CHARACTERS = 40
_THREAD_NAME = "busmon-publisher"
_STEERING = signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
"""All signals but those that a thread raises by what it does itself."""

_logger = logging.getLogger("busmon")


def new_origin(agent: str) -> Origin:
    """Make a new origin: one run of one process."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:_MAX_HOST_CHARACTERS]
    return Origin(f"{agent}-{host}-{os.getpid()}-{secrets.token_hex(8)}", agent)


class Sender:
    """Publishes what some series gather, in an interval, until it is closed."""

    def __init__(self, agent: str, series: Series, settings: Settings, confirmed: Callable[[bytes], None]) -> None:
        self.origin = new_origin(agent)
        self._rounds = _rounds(self.origin, series, settings, confirmed)
        # However seldom it publishes, a source must say often enough that it lives.
        self._interval_seconds = min(settings.publish_interval_seconds, HEARTBEAT_SECONDS, series.shared.resend_seconds)
        self._default_broker_hint = settings.default_broker_hint()
        self._changed = Condition()
        self._asked = 0
        self._answered = 0
        self._closes_at: float | None = None
        self._is_failing = False
        self._has_ended = False
        self._thread = Thread(target=self._run, name=_THREAD_NAME, daemon=True)
        self._has_begun = False
        if not uwsgi.is_before_fork():
            self.begin()

    def begin(self) -> bool:
        """Start the thread, unless it was started before; whether this call did."""
        if self._has_begun:
            return False
        self._has_begun = True
        # A signal that the kernel gave to this thread would not wake the program's own, which may wait in C: uWSGI's
        # workers would not end. A thread has the mask of who starts it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STEERING)
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True

    def flush(self, timeout: float) -> bool:
        """Have everything published now that was recorded before; whether it was confirmed in time."""
        self.begin()
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket or self._has_ended, timeout)
            return self._answered >= ticket

    def close(self, timeout: float) -> bool:
        """Flush and end the thread; whether everything was confirmed in time."""
        deadline = monotonic() + timeout
        self._rounds.end_waits_at(deadline)
        with self._changed:
            self._closes_at = deadline
            is_confirmed = self.flush(timeout)
        self._thread.join(max(0.0, deadline - monotonic()) + _LAST_WORDS_SECONDS)
        return is_confirmed

    def abandon(self) -> None:
        """Forget it in a forked child, where its thread doesn't exist."""
        self._rounds.abandon()

    def _run(self) -> None:
        try:
            self._publish_until_closed()
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _publish_until_closed(self) -> None:
        rounds = self._rounds
        seen, due = 0, monotonic() + self._interval_seconds
        while not self._is_over():
            asked = self._wait(seen, due)
            if asked == seen and monotonic() < due:
                rounds.idle()
                continue
            seen, is_confirmed = asked, self._publish()
            if is_confirmed:
                self._answer(asked)
            due = monotonic() + (self._interval_seconds if is_confirmed else rounds.back_off())
        left = rounds.close()
        for samples, fate in ((left.kept, "on disk for this agent's next start"), (left.lost, "perhaps lost")):
            if samples:
                _logger.warning("closed with %s not confirmed: %s", format_count(samples, "sample"), fate)

    def _wait(self, seen: int, due: float) -> int:
        """Sleep until a round is due, is asked for, or heartbeats are; returns how often one was asked for."""
        wakes_at = min(due, self._closes_at or due)
        with self._changed:
            seconds = min(max(0.0, wakes_at - monotonic()), _IDLE_SECONDS, self._interval_seconds)
            self._changed.wait_for(lambda: self._asked > seen, seconds)
            return self._asked

    def _publish(self) -> bool:
        try:
            self._rounds.publish()
        except Exception as error:  # noqa: BLE001 - nothing may end the thread: an agent is not restarted for its telemetry
            self._note_failure(error)
            return False
        if self._is_failing:
            self._is_failing = False
            _logger.info("telemetry of %s is published again", self.origin.source)
        return True

    def _note_failure(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            bug = None if isinstance(error, BusmonError) else error
            hint = self._default_broker_hint if isinstance(error, BusError) else ""
            _logger.warning(
                "telemetry is kept and tried again, since it can't be published: %s%s", error, hint, exc_info=bug
            )

    def _answer(self, asked: int) -> None:
        with self._changed:
            self._answered = asked
            self._changed.notify_all()

    def _is_over(self) -> bool:
        with self._changed:
            return self._closes_at is not None and (self._answered == self._asked or monotonic() >= self._closes_at)


def _rounds(origin: Origin, series: Series, settings: Settings, confirmed: Callable[[bytes], None]) -> "Rounds":
    # pika takes 0.1 s to import, which `from busmon import Telemetry` is not to cost. Nor may the thread do it: a fork
    # in the middle of an import leaves the child with half a module.
    from busmon.bus.publish.publisher import ConfirmedPublisher  # noqa: PLC0415
    from busmon.publish.rounds import Rounds  # noqa: PLC0415

    _quieten_pika()
    publisher = ConfirmedPublisher(settings.amqp_url, origin.source)
    return Rounds(origin, series, settings, publisher, confirmed)


def _quieten_pika() -> None:
    """Keep what pika says on this thread out of the program's log: ten lines for every attempt, a traceback among them.

    What a program does with pika on threads of its own is logged as before.
    """
    for name, logger in tuple(logging.root.manager.loggerDict.items()):
        if name.startswith("pika") and isinstance(logger, logging.Logger):
            logger.addFilter(_is_for_the_log)


def _is_for_the_log(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD_NAME or _logger.isEnabledFor(logging.DEBUG)
