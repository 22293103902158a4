import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from busmon.exporter.overview import viewers
from busmon.exporter.overview.viewers import Viewers

Part = MutableMapping[str, Any]

SECONDS = 60


class Viewer:
    """One who watches, as a server would serve it."""

    def __init__(self, method: str = "GET", address: str = "10.0.0.1") -> None:
        self.parts: list[Part] = []
        self.left = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self._method = method
        self._address = address

    @property
    def lines(self) -> list[bytes]:
        return [part["body"] for part in self.parts if part.get("body", b"").startswith(b"data: ")]

    async def watch(self, watched: Viewers) -> None:
        await watched.stream(self._address)({"type": "http", "method": self._method}, self._receive, self._send)

    async def _receive(self) -> Part:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, part: Part) -> None:
        await self.takes.wait()
        self.parts.append(part)


class Reading:
    """A stand-in for the overview that counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> bytes:
        self.count += 1
        return b"%d" % self.count


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "UPDATE_SECONDS", 0.001)


async def until(promise: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not promise():  # noqa: ASYNC110 - what is waited for is the served application's, which sets no event
            await asyncio.sleep(0.001)


def test_all_viewers_get_the_same_update_of_one_reading() -> None:
    async def play() -> tuple[list[list[bytes]], int]:
        reading = Reading()
        watched, audience = Viewers(reading), [Viewer() for _ in range(20)]
        tasks = [asyncio.create_task(viewer.watch(watched)) for viewer in audience]
        await until(lambda: all(len(viewer.lines) >= 3 for viewer in audience))
        for viewer in audience:
            viewer.left.set()
        await asyncio.gather(*tasks)
        return [viewer.lines[:3] for viewer in audience], reading.count

    seen, readings = asyncio.run(play())
    assert seen == [[b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]] * 20
    assert readings < 20


def test_nothing_is_read_while_nobody_watches() -> None:
    async def play() -> None:
        reading = Reading()
        watched, viewer = Viewers(reading), Viewer()
        task = asyncio.create_task(viewer.watch(watched))
        await until(lambda: len(viewer.lines) >= 1)
        viewer.left.set()
        await task
        await until(lambda: len(asyncio.all_tasks()) == 1)
        before = reading.count
        await asyncio.sleep(0.02)
        assert reading.count == before
        late = Viewer()
        again = asyncio.create_task(late.watch(watched))
        await until(lambda: len(late.lines) >= 1)
        late.left.set()
        await again

    asyncio.run(play())


def test_a_viewer_that_takes_nothing_is_dropped_and_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "TAKE_SECONDS", 0.05)

    async def play() -> None:
        watched, stuck, other = Viewers(Reading()), Viewer(), Viewer()
        tasks = [asyncio.create_task(viewer.watch(watched)) for viewer in (stuck, other)]
        await until(lambda: len(stuck.lines) >= 1)
        stuck.takes.clear()
        async with asyncio.timeout(SECONDS):
            await tasks[0]
        seen = len(other.lines)
        await until(lambda: len(other.lines) > seen)
        other.left.set()
        await tasks[1]

    asyncio.run(play())


def test_viewers_beyond_the_limit_are_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "MAX_VIEWERS", 1)

    async def play() -> tuple[int, int]:
        watched, first, second, third = Viewers(Reading()), Viewer(), Viewer(), Viewer()
        task = asyncio.create_task(first.watch(watched))
        await until(lambda: len(first.lines) >= 1)
        await second.watch(watched)
        first.left.set()
        await task
        again = asyncio.create_task(third.watch(watched))
        await until(lambda: len(third.lines) >= 1)
        third.left.set()
        await again
        return second.parts[0]["status"], third.parts[0]["status"]

    assert asyncio.run(play()) == (503, 200)


def test_the_address_with_most_places_gives_its_oldest_to_those_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "MAX_VIEWERS", 4)

    async def play() -> tuple[list[bool], list[int]]:
        watched, tasks = Viewers(Reading()), []
        greedy = [Viewer() for _ in range(4)]
        others = [Viewer(address=f"10.0.0.{number}") for number in (2, 3, 3)]
        for viewer in (*greedy, *others):
            tasks.append(asyncio.create_task(viewer.watch(watched)))
            await until(lambda viewer=viewer: len(viewer.parts) > 0)  # type: ignore[misc]
        await until(lambda: len(others[0].lines) >= 2)
        ended = [task.done() for task in tasks]
        for viewer in (*greedy, *others):
            viewer.left.set()
        await asyncio.gather(*tasks)
        return ended, [viewer.parts[0]["status"] for viewer in (*greedy, *others)]

    # Of four places the greedy keeps two, and the last has to do with one: nobody would gain by an exchange.
    ended, statuses = asyncio.run(play())
    assert ended == [True, True, False, False, False, False, True]
    assert statuses == [200, 200, 200, 200, 200, 200, 503]


def test_a_reading_that_fails_ends_no_stream(capsys: pytest.CaptureFixture[str]) -> None:
    async def read() -> bytes:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the disk")
        return b"%d" % len(calls)

    calls: list[int] = []

    async def play() -> list[bytes]:
        watched, viewer = Viewers(read), Viewer()
        task = asyncio.create_task(viewer.watch(watched))
        await until(lambda: len(viewer.lines) >= 2)
        viewer.left.set()
        await task
        return viewer.lines[:2]

    assert asyncio.run(play()) == [b"data: 1\n\n", b"data: 3\n\n"]
    assert "viewers.update_failed" in capsys.readouterr().out


def test_a_head_request_opens_no_stream() -> None:
    async def play() -> list[Part]:
        viewer = Viewer("HEAD")
        await viewer.watch(Viewers(Reading()))
        return viewer.parts

    start, body = asyncio.run(play())
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    assert body == {"type": "http.response.body", "body": b"", "more_body": False}
