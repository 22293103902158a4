"""Has a check look once, as the runner would."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, Check

DEADLINE_SECONDS = 120.0
CUT_OFF_SECONDS = 0.2
POLL_SECONDS = 0.001
OWN_FILES = 1
"""The pipe by which a loop is woken."""

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
    """Tell whether a check without an answer ends when it is cancelled, instead of waiting for the answer."""

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
            async with asyncio.timeout(DEADLINE_SECONDS):
                while _open_files() > OWN_FILES:  # noqa: ASYNC110 - nothing else tells
                    await asyncio.sleep(POLL_SECONDS)

    return asyncio.run(to_the_end())


def _open_files() -> int:
    """How many files the running loop watches."""
    return len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]
