"""Has a check look once, as the runner would."""

import asyncio

import pytest

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, Check

DEADLINE_SECONDS = 30.0
CUT_OFF_SECONDS = 0.2


def look(check: Check) -> dict[str, Answer]:
    return asyncio.run(asyncio.wait_for(check.look(), DEADLINE_SECONDS))


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

    return asyncio.run(asyncio.wait_for(cut_off(), DEADLINE_SECONDS))
