"""A dependency under watch: the breaker, of one that goes away and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer
from busmon.exporter.checks.findings import UNCHECKED, Finding
from busmon.exporter.checks.redis import RedisCheck
from busmon.exporter.checks.watch import Schedule, Watch
from tests.patience import PATIENCE_SECONDS

from .servers import Redis

PACE = Schedule(interval_seconds=0.01, timeout_seconds=5.0, failures=2, retry_seconds=0.2)


class Told:
    """A check that finds what it is told, and counts how often it is asked."""

    conditions: tuple[str, ...] = ("database_migration",)

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Exception | Answer | None = Answer(met=True)

    async def look(self) -> dict[str, Answer]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        return {"database_migration": self.answer or Answer(met=False)}


@asynccontextmanager
async def kept(watch: Watch) -> AsyncIterator[None]:
    going = asyncio.create_task(watch.keep())
    try:
        yield
    finally:
        going.cancel()


async def until(watch: Watch, breaker: str, *, up: bool) -> Finding:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (watch.finding.breaker, watch.finding.up) != (breaker, up):
        assert time.monotonic() < deadline, watch.finding
        await asyncio.sleep(0.001)
    return watch.finding


def test_a_dependency_that_goes_away_opens_the_breaker_and_coming_back_closes_it() -> None:
    async def story(redis: Redis) -> None:
        watch = Watch("redis", RedisCheck(redis.url(), "warm"), PACE, required=True)
        async with kept(watch):
            await until(watch, "closed", up=True)
            redis.stop()
            gone = await until(watch, "open", up=False)
            assert gone.cause == "Connection refused"
            await until(watch, "half_open", up=False)
            redis.start()
            back = await until(watch, "closed", up=True)
            assert back.cause == ""

    with Redis() as redis:
        asyncio.run(story(redis))


def test_an_open_breaker_leaves_the_dependency_alone_and_its_last_failure_stands() -> None:
    async def story() -> None:
        check = Told()
        check.answer = DependencyError("Connection refused")
        watch = Watch("billing", check, Schedule(60.0, 5.0, failures=2, retry_seconds=3600.0), required=True)
        for _ in range(5):
            await watch.look()
        assert check.asked == 2
        assert (watch.finding.breaker, watch.finding.cause) == ("open", "Connection refused")

    asyncio.run(story())


def test_a_trial_that_fails_opens_the_breaker_again() -> None:
    async def story() -> None:
        check = Told()
        check.answer = DependencyError("Connection refused")
        watch = Watch("billing", check, Schedule(60.0, 5.0, failures=1, retry_seconds=0.0), required=True)
        await watch.look()
        assert watch.finding.breaker == "open"
        await watch.look()
        assert (check.asked, watch.finding.breaker) == (2, "open")
        check.answer = Answer(met=True)
        await watch.look()
        assert (watch.finding.breaker, watch.finding.up) == ("closed", True)

    asyncio.run(story())


def test_one_that_hangs_is_given_up_at_the_deadline_and_its_conditions_are_unknown() -> None:
    async def story() -> None:
        check = Told()
        check.answer = None
        watch = Watch("postgres", check, Schedule(60.0, 0.05, failures=3, retry_seconds=60.0), required=True)
        await watch.look()
        assert watch.finding.cause == "no answer within 0.05 s"
        assert watch.finding.duration_seconds >= 0.05
        assert [condition.met for condition in watch.finding.conditions] == [False]

    asyncio.run(story())


def test_a_check_with_a_mistake_in_it_fails_alone_and_is_logged() -> None:
    async def story() -> None:
        check = Told()
        check.answer = KeyError("oops")
        watch = Watch("postgres", check, PACE, required=True)
        await watch.look()
        assert watch.finding.cause == "its check fails: KeyError"

    with capture_logs() as lines:
        asyncio.run(story())
    assert [line["event"] for line in lines] == ["watch.check_failed", "watch.dependency_failed"]


def test_coming_and_going_is_logged_once_each() -> None:
    async def story() -> None:
        check = Told()
        watch = Watch("billing", check, Schedule(60.0, 5.0, failures=10, retry_seconds=60.0), required=False)
        for answer in (Answer(met=True), DependencyError("gone"), Answer(met=True)):
            check.answer = answer
            await watch.look()
            await watch.look()

    with capture_logs() as lines:
        asyncio.run(story())
    assert [line["event"] for line in lines] == [
        "watch.dependency_connected",
        "watch.dependency_failed",
        "watch.dependency_connected",
    ]


@pytest.mark.parametrize(("required", "gating"), [(True, True), (False, False)])
def test_a_migration_is_required_where_its_database_is(*, required: bool, gating: bool) -> None:
    (condition,) = Watch("postgres", Told(), PACE, required=required).finding.conditions
    assert condition.required is gating


def test_nothing_is_claimed_before_the_first_look() -> None:
    finding = Watch("postgres", Told(), PACE, required=True).finding
    assert (finding.up, finding.cause, finding.checked_at) == (False, UNCHECKED, None)
