"""A source's life, counted without a line of the program's."""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from busmon.publish import Telemetry
from busmon.publish.presence import Presence
from busmon.settings import Settings

from .gathering import Bench

STARTS, STOPS = ("agent_starts_total", "analyzer"), ("agent_stops_total", "analyzer")
RESTARTS, BEATS = ("agent_restarts_total", "analyzer"), ("agent_heartbeats_total", "analyzer")


class Life:
    """A bench in place of a telemetry, and its presence."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench()
        self.presence = Presence(self, "analyzer", directory)  # type: ignore[arg-type]

    def counter(self, name: str, labelnames: list[str], domain: str) -> Any:
        assert domain == "lifecycle"
        return self.bench.counter(name, *labelnames)


def test_a_start_a_beat_and_a_stop_are_counted(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.presence.start("analyzer-1")
    life.presence.beat()
    assert life.bench.cells() == {STARTS: 1, BEATS: 1}
    life.presence.stop()
    assert life.bench.cells() == {STOPS: 1}
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ended_unexpectedly_makes_the_next_start_a_restart(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Life(tmp_path).presence.start("analyzer-1")
        os._exit(0)
    os.waitpid(child, 0)
    second, third = Life(tmp_path), Life(tmp_path)
    second.presence.start("analyzer-2")
    assert second.bench.cells() == {STARTS: 1, RESTARTS: 1}
    third.presence.start("analyzer-3")
    assert third.bench.cells() == {STARTS: 1}, "the second run still lives"


def test_a_directory_that_cant_be_written_to_costs_only_the_restarts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    life = Life(tmp_path / "file")
    life.presence.start("analyzer-1")
    life.presence.stop()
    assert life.bench.cells() == {STARTS: 1, STOPS: 1}


@pytest.mark.parametrize(("ttl_seconds", "beat_at"), [(300, [0, 15, 30, 45, 60]), (30, [0, 10, 20, 30, 40, 50, 60])])
def test_an_idle_agent_is_heard_often_whatever_its_presence_ttl(
    ttl_seconds: float, beat_at: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr("busmon.publish.series.monotonic", lambda: next(clock))
    telemetry = Telemetry("analyzer", settings=replace(unreachable(tmp_path), presence_ttl_seconds=ttl_seconds))
    takes = [cells(telemetry) for _ in range(61)]
    telemetry.close(0.1)
    assert [second for second, taken in enumerate(takes) if BEATS in taken] == beat_at


def unreachable(directory: Path) -> Settings:
    return Settings(
        amqp_url="amqp://guest:guest@127.0.0.1:1/", publish_interval_seconds=3600, spool_bytes=0, spool_dir=directory
    )


@pytest.fixture
def telemetry(tmp_path: Path) -> Any:
    telemetry = Telemetry("analyzer", settings=unreachable(tmp_path), lifecycle=False)
    yield telemetry
    telemetry.close(0.1)


def cells(telemetry: Telemetry, now: float = 1000.0) -> dict[tuple[str, ...], Any]:
    rows, _ = telemetry._series.take(now)
    return {(row.table.name, *row.labelvalues): row.cell for row in rows}


class TestJobs:
    def test_a_run_is_counted_at_its_start_and_by_its_end(self, telemetry: Telemetry) -> None:
        with telemetry.job("backup"):
            assert cells(telemetry) == {("batch_jobs_started_total", "backup"): 1}
        ended = cells(telemetry)
        assert ended.pop(("batch_job_last_success_timestamp_seconds", "backup")) > 1e9
        assert ended == {("batch_jobs_completed_total", "backup"): 1}

    def test_a_success_is_never_said_again_as_one_of_later(self, telemetry: Telemetry) -> None:
        with telemetry.job("backup"):
            telemetry.gauge("queue_size", "", ["queue"]).labels("tasks").set(7)
        cells(telemetry)
        assert cells(telemetry, now=1e12) == {("queue_size", "tasks"): 7}

    def test_a_failure_is_counted_and_goes_on(self, telemetry: Telemetry) -> None:
        @telemetry.job("backup")
        def back_up() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            back_up()
        assert cells(telemetry) == {("batch_jobs_started_total", "backup"): 1, ("batch_jobs_failed_total", "backup"): 1}


class TestLooks:
    def test_they_are_as_seldom_as_asked_for_and_one_that_fails_costs_no_other(
        self, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
    ) -> None:
        looks: list[int] = []

        def fail() -> None:
            raise OSError("gone")

        telemetry.watch(fail, interval_seconds=0)
        telemetry.watch(lambda: looks.append(1), interval_seconds=3600)
        for _ in range(3):
            cells(telemetry)
        assert looks == [1]
        assert len([record for record in caplog.records if "gone" in record.getMessage()]) == 1

    def test_a_process_is_measured(self, telemetry: Telemetry) -> None:
        telemetry.watch_process(interval_seconds=0, network=True)
        busy = sum(number for number in range(1_000_000))
        found = cells(telemetry)
        assert busy
        assert found["agent_memory_usage_bytes", "analyzer"] > 1_000_000
        limit = found["agent_memory_limit_bytes", "analyzer"]
        assert limit > found["agent_memory_usage_bytes", "analyzer"]
        assert 0 < found["agent_cpu_seconds_total", "analyzer"] < 3600

    def test_a_total_that_fell_begins_anew(self, telemetry: Telemetry) -> None:
        from busmon.publish.process import Growth  # noqa: PLC0415 - of this test alone

        growth = Growth(telemetry.counter("hits_total"))
        for total in (5.0, 8.0, 8.0, 2.0):
            growth.reach(total)
        assert cells(telemetry) == {("hits_total",): 10}


def sqlalchemy_pool() -> Any:
    from sqlalchemy import create_engine  # noqa: PLC0415 - an optional library
    from sqlalchemy.pool import QueuePool  # noqa: PLC0415

    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=3, max_overflow=2)
    return engine, [engine.connect(), engine.connect()]


def redis_pool() -> Any:
    from redis import Redis  # noqa: PLC0415

    client = Redis(max_connections=5)
    return client, []


def psycopg_pool() -> Any:
    from psycopg_pool import ConnectionPool  # noqa: PLC0415

    return ConnectionPool("", min_size=0, max_size=4, open=False), []


class TestPools:
    @pytest.mark.parametrize(
        ("make", "type_", "size", "active"),
        [(sqlalchemy_pool, "sqlite", 5, 2), (redis_pool, "redis", 5, 0), (psycopg_pool, "postgres", 4, 0)],
    )
    def test_what_it_may_hold_and_has_in_use_is_published(
        self, telemetry: Telemetry, make: Callable[[], Any], type_: str, size: int, active: int
    ) -> None:
        pool, connections = make()
        telemetry.watch_pool(pool)
        assert cells(telemetry) == {
            ("connection_pool_size", type_): size,
            ("connection_pool_active", type_): active,
        }
        for connection in connections:
            connection.close()
        close = pool.dispose if make is sqlalchemy_pool else pool.close
        close()

    def test_pools_of_one_type_are_added_up(self, telemetry: Telemetry) -> None:
        pools = [redis_pool()[0] for _ in range(2)]
        for pool in pools:
            telemetry.watch_pool(pool, "cache")
        assert cells(telemetry)["connection_pool_size", "cache"] == 10

    def test_what_is_no_pool_is_refused(self, telemetry: Telemetry) -> None:
        with pytest.raises(TypeError, match="watch_pool: dict isn't"):
            telemetry.watch_pool({})
