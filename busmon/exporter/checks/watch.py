"""One dependency under watch: its check, a deadline, a circuit breaker, and the finding that is kept.

A dependency that failed too often in a row is left alone for a while (the breaker is open), then asked once (half
open), and watched as before once it answers (closed). Lives on the checks' loop; the finding is read from anywhere.
"""

import asyncio
import time
from dataclasses import dataclass, replace

import structlog
from pybreaker import CircuitBreaker, CircuitBreakerError

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, Check
from busmon.exporter.checks.findings import UNCHECKED, Condition, Finding

log = structlog.get_logger(__name__)

_MISSED_ROUNDS = 3
"""How many rounds may be missed before a finding is not believed any more."""

_GATING = frozenset({"database_migration"})
"""The conditions that are required where their dependency is. A cold cache isn't: it serves, if slower, and nothing
would ever warm it if readiness waited for it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of a dependency's check.

    Attributes:
        interval_seconds: between two rounds.
        timeout_seconds: for a round.
        failures: in a row, after which it is left alone.
        retry_seconds: how long it is.
    """

    interval_seconds: float
    timeout_seconds: float
    failures: int
    retry_seconds: float


class Watch:
    """The watch.

    Args:
        name: the dependency's.
        check: how it is asked.
        required: nothing is ready without it.
        schedule: how often.
    """

    def __init__(self, name: str, check: Check, schedule: Schedule, *, required: bool) -> None:
        self._check = check
        self._schedule = schedule
        self._breaker = CircuitBreaker(schedule.failures, schedule.retry_seconds, throw_new_error_on_trip=False)
        self.finding = Finding(
            name=name,
            required=required,
            up=False,
            cause=UNCHECKED,
            conditions=self._conditions({}, required=required),
            checked_at=None,
            duration_seconds=0.0,
            breaker=self._state(),
            valid_seconds=_MISSED_ROUNDS * (schedule.interval_seconds + schedule.timeout_seconds),
        )

    async def keep(self) -> None:
        """Check at each interval, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._schedule.interval_seconds)

    async def look(self) -> None:
        """Check once, unless the breaker is open, and keep the finding."""
        began = time.perf_counter()
        try:
            with self._breaker.calling():
                self._note()
                async with asyncio.timeout(self._schedule.timeout_seconds):
                    answers = await self._check.look()
        except CircuitBreakerError:
            return
        except DependencyError as error:
            self._keep(str(error), {}, began)
        except TimeoutError:
            self._keep(f"no answer within {self._schedule.timeout_seconds:g} s", {}, began)
        except Exception as error:
            log.exception("watch.check_failed", dependency=self.finding.name)
            self._keep(f"its check fails: {type(error).__name__}", {}, began)
        else:
            self._keep("", answers, began)

    def _keep(self, cause: str, answers: dict[str, Answer], began: float) -> None:
        before, up = self.finding, not cause
        self.finding = replace(
            before,
            up=up,
            cause=cause,
            conditions=self._conditions(answers, required=before.required),
            checked_at=time.time(),
            duration_seconds=time.perf_counter() - began,
            breaker=self._state(),
        )
        if up and not before.up:
            log.info("watch.dependency_connected", dependency=before.name)
        elif cause and cause != before.cause:
            log.warning("watch.dependency_failed", dependency=before.name, cause=cause, required=before.required)

    def _note(self) -> None:
        """Note the breaker's state, which is half open during a trial."""
        self.finding = replace(self.finding, breaker=self._state())

    def _conditions(self, answers: dict[str, Answer], *, required: bool) -> tuple[Condition, ...]:
        unknown = Answer(met=False)
        return tuple(
            Condition(name, *answers.get(name, unknown), required=required and name in _GATING)
            for name in self._check.conditions
        )

    def _state(self) -> str:
        return self._breaker.current_state.replace("-", "_")
