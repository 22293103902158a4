"""Has a check look once, as the runner would."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, Check

DEADLINE_SECONDS = 30.0
CUT_OFF_SECONDS = 0.2
TURNS_TO_CLOSE = 5

Outcome = TypeVar("Outcome")


def look(check: Check) -> dict[str, Answer]:
    return run(check.look())


def failure(check: Check) -> str:
    """Why the check failed, on one line."""
    with pytest.raises(DependencyError) as caught:
        look(check)
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line


def is_cut_off(check: Check) -> bool:
    """Whether a look that gets no answer ends when it is cancelled, instead of waiting for one."""

    async def cut_off() -> bool:
        try:
            async with asyncio.timeout(CUT_OFF_SECONDS):
                await check.look()
        except TimeoutError:
            return True
        return False

    return run(cut_off())


def run(looking: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The outcome; the loop lives on until the transports that were closed are gone, as an exporter's does."""

    async def to_the_end() -> Outcome:
        try:
            return await asyncio.wait_for(looking, DEADLINE_SECONDS)
        finally:
            for _ in range(TURNS_TO_CLOSE):
                await asyncio.sleep(0)

    return asyncio.run(to_the_end())
