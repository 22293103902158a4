"""Instruments: prometheus_client's manners, and mistakes found where they are made."""

import asyncio
import enum
import inspect
import threading
from decimal import Decimal
from functools import partial
from math import inf, nan
from typing import Any

import prometheus_client
import pytest

from busmon.publish import Counter, Gauge, Histogram, Summary
from busmon.publish.instruments import make_sampled_histogram
from busmon.publish.pending import Distribution

from .gathering import Bench


class Status(enum.StrEnum):
    OK = "ok"


class OldStatus(str, enum.Enum):  # noqa: UP042 - how programs wrote it before there was StrEnum
    OK = "ok"


class TestLabels:
    def test_values_are_given_in_order_or_by_name(self) -> None:
        tasks = Bench().counter("tasks_total", "agent", "status")
        assert tasks.labels("a", "ok") is tasks.labels(status="ok", agent="a")

    def test_values_become_strings(self) -> None:
        bench = Bench()
        tasks = bench.counter("tasks_total", "code")
        for value in (1, "1", Decimal(1), True, 1.0, Status.OK, OldStatus.OK, "ok", None, ["x"]):
            tasks.labels(value).inc()
        assert bench.cells() == {
            ("tasks_total", "1"): 3,
            ("tasks_total", "True"): 1,
            ("tasks_total", "1.0"): 1,
            ("tasks_total", "ok"): 3,
            ("tasks_total", "None"): 1,
            ("tasks_total", "['x']"): 1,
        }

    def test_a_value_from_outside_can_always_be_published(self) -> None:
        bench = Bench()
        tasks = bench.counter("tasks_total", "path")
        tasks.labels("caf\udce9").inc()
        tasks.labels("é" * 5000).inc()
        assert [name for _, name in bench.cells()] == ["caf?", "é" * 1024]

    @pytest.mark.parametrize(
        "given",
        [
            lambda tasks: tasks.labels("a"),
            lambda tasks: tasks.labels("a", "b", "c"),
            lambda tasks: tasks.labels(),
            lambda tasks: tasks.labels(agent="a"),
            lambda tasks: tasks.labels(agent="a", state="ok"),
            lambda tasks: tasks.labels("a", status="ok"),
            lambda tasks: tasks.labels("a", "ok").labels("a", "ok"),
            lambda tasks: tasks.inc(),
            lambda _: Bench().counter().labels("a"),
            lambda _: Bench().gauge("size", "queue").set_function(lambda: 1),
        ],
    )
    def test_labels_that_arent_the_instruments_are_refused_at_once(self, given: Any) -> None:
        with pytest.raises(ValueError, match=r"labels|label names|label values"):
            given(Bench().counter("tasks_total", "agent", "status"))

    def test_threads_that_bind_one_series_at_once_get_the_same(self) -> None:
        bench = Bench()
        tasks, barrier = bench.counter("tasks_total", "queue"), threading.Barrier(4)

        def bind() -> None:
            barrier.wait()
            for number in range(500):
                tasks.labels(str(number)).inc()

        threads = [threading.Thread(target=bind) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(bench.cells().values()) == {4}


@pytest.mark.parametrize("amount", [-1, -0.001, inf, nan, -inf])
def test_a_counter_takes_no_amount_that_isnt_finite_or_is_negative(amount: float) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="tasks_total"):
        bench.counter().inc(amount)
    assert bench.take() == []


@pytest.mark.parametrize("amount", [inf, nan, -inf])
def test_gauges_and_observations_take_finite_numbers_only(amount: float) -> None:
    bench = Bench()
    size, documents, seconds, sizes = bench.gauge(), bench.accumulating(), bench.histogram(), bench.summary()
    calls = (size.set, size.inc, size.dec, documents.inc, documents.dec, seconds.observe, sizes.observe)
    for call in calls:
        with pytest.raises(ValueError, match="finite"):
            call(amount)
    assert bench.take() == []


@pytest.mark.parametrize("amount", ["1", None, object()])
def test_what_is_no_number_is_refused_at_once(amount: Any) -> None:
    bench = Bench()
    for call in (bench.counter().inc, bench.gauge().set, bench.histogram().observe):
        with pytest.raises(TypeError):
            call(amount)
    assert bench.take() == []


def test_numbers_of_other_types_become_floats() -> None:
    bench = Bench()
    tasks = bench.counter()
    for amount in (Decimal("0.5"), True, 2):
        tasks.inc(amount)  # type: ignore[arg-type]
    assert bench.cells() == {("tasks_total",): 3.5}


def test_an_accumulating_gauge_is_only_added_to() -> None:
    bench = Bench()
    documents = bench.accumulating()
    documents.inc(5)
    documents.dec(7)
    with pytest.raises(ValueError, match="add"):
        documents.set(1)
    assert bench.cells() == {("documents",): -2}


class TestRemoval:
    def test_a_series_that_is_removed_publishes_what_it_had_and_no_more(self) -> None:
        bench = Bench()
        sizes, tasks = bench.gauge("size", "queue"), bench.counter("tasks_total", "queue")
        for queue in ("a", "b"):
            sizes.labels(queue).set(1)
            tasks.labels(queue).inc()
        sizes.labels("a").set_function(lambda: 7)
        sizes.remove("a")
        tasks.clear()
        assert bench.cells() == {
            ("size", "a"): 1,
            ("size", "b"): 1,
            ("tasks_total", "a"): 1,
            ("tasks_total", "b"): 1,
        }
        bench.now += 1000
        assert bench.cells() == {("size", "b"): 1}
        tasks.labels("a").inc()
        assert bench.cells() == {("tasks_total", "a"): 1}

    def test_a_place_is_given_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busmon.publish.series.MAX_SERIES", 1)
        bench = Bench()
        tasks = bench.counter("tasks_total", "queue")
        for queue in "abc":
            tasks.labels(queue).inc()
            tasks.remove(queue)
            assert bench.cells() == {("tasks_total", queue): 1}
            assert bench.take() == []


def test_of_many_observations_one_is_taken_and_stands_for_as_many() -> None:
    bench = Bench()
    make = partial(Distribution, bounds=(1.0, 5.0), are_agreed=True, each_stands_for=10)
    seconds = bench._made(make_sampled_histogram(10), "seconds", ("queue",), make).labels("a")
    for _ in range(20_000):
        seconds.observe(2)
    (cell,) = bench.cells().values()
    assert cell["buckets"]["1.0"] == cell["buckets"]["+Inf"] == 0
    assert cell["buckets"]["5.0"] % 10 == 0
    assert cell["buckets"]["5.0"] == pytest.approx(20_000, rel=0.1)
    assert cell["sum"] == 2 * cell["buckets"]["5.0"]


class TestAroundCode:
    def test_time_is_observed_in_a_block_and_around_a_function(self) -> None:
        bench = Bench()
        seconds = bench.histogram()
        with seconds.time() as timer:
            pass

        @seconds.time()
        def work(number: int) -> int:
            """Work."""
            return number + 1

        assert work(1) == 2
        assert (work.__name__, work.__doc__) == ("work", "Work.")
        (observed,) = bench.cells().values()
        assert len(observed) == 2
        assert observed[0] == timer.duration

    def test_a_timers_labels_may_be_given_inside(self) -> None:
        bench = Bench()
        with bench.summary("sizes", "queue").time() as timer:
            timer.labels("tasks")
        assert list(bench.cells()) == [("sizes", "tasks")]

    def test_a_decorated_function_may_call_itself(self) -> None:
        bench = Bench()

        @bench.histogram().time()
        def work(depth: int) -> None:
            if depth:
                work(depth - 1)

        work(2)
        (observed,) = bench.cells().values()
        assert observed == sorted(observed)
        assert len(observed) == 3

    def test_a_coroutine_function_is_measured_while_it_runs(self) -> None:
        bench = Bench()
        failures, busy, seen = bench.counter("failures_total"), bench.gauge("busy"), []

        @failures.count_exceptions(KeyError)
        @busy.track_inprogress()
        async def work() -> None:
            await asyncio.sleep(0)
            seen.append(bench.cells())
            raise KeyError

        assert inspect.iscoroutinefunction(work)
        coroutine = work()
        assert bench.take() == []
        with pytest.raises(KeyError):
            asyncio.run(coroutine)
        assert seen == [{("busy",): 1}]
        assert bench.cells() == {("busy",): 0, ("failures_total",): 1}

    def test_exceptions_of_the_given_types_are_counted_and_go_on(self) -> None:
        bench = Bench()
        failures = bench.counter()
        for error in (KeyError, IndexError, ValueError):
            with pytest.raises(error), failures.count_exceptions((KeyError, IndexError)):
                raise error
        with failures.count_exceptions():
            pass
        assert bench.cells() == {("tasks_total",): 2}

    def test_work_in_progress_is_tracked(self) -> None:
        bench = Bench()
        busy = bench.gauge()
        with busy.track_inprogress(), busy.track_inprogress():
            assert bench.cells() == {("size",): 2}
        assert bench.cells() == {("size",): 0}

    def test_a_gauge_takes_a_duration_and_the_time_of_day(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench()
        monkeypatch.setattr("busmon.publish.instruments.time", lambda: 1234.5)
        bench.gauge("ran_at").set_to_current_time()
        with bench.gauge("took").time() as timer:
            pass
        assert bench.cells() == {("ran_at",): 1234.5, ("took",): timer.duration}


@pytest.mark.parametrize(
    ("ours", "theirs", "methods"),
    [
        (Counter, prometheus_client.Counter, ["labels", "inc", "count_exceptions", "remove", "clear"]),
        (
            Gauge,
            prometheus_client.Gauge,
            ["labels", "inc", "dec", "set", "set_to_current_time", "track_inprogress", "time", "set_function"],
        ),
        (Histogram, prometheus_client.Histogram, ["labels", "observe", "time"]),
        (Summary, prometheus_client.Summary, ["labels", "observe", "time"]),
    ],
)
def test_methods_have_prometheus_clients_names_and_argument_order(ours: Any, theirs: Any, methods: list[str]) -> None:
    for method in methods:
        our_parameters = [*inspect.signature(getattr(ours, method)).parameters.values()]
        their_parameters = [*inspect.signature(getattr(theirs, method)).parameters.values()]
        shapes = [[(p.kind, p.default) for p in parameters] for parameters in (our_parameters, their_parameters)]
        assert shapes[0] == shapes[1][: len(shapes[0])], method
