"""The gathering of series: every call counted once, whatever is folded, taken or interrupted in between."""

import sys
import threading
from collections.abc import Iterator
from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.publish.instruments import Instrument
from busmon.publish.pending import FOLD_AT

from .gathering import KEYS, RESEND_SECONDS, Bench, Tally

THREADS = 6
CALLS = 12_000


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that are switched as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_no_call_is_lost_or_counted_twice_while_threads_call_and_another_takes() -> None:
    bench, tally, held = Bench(), Tally(), []
    tasks, failures = bench.counter("tasks_total", "worker"), bench.counter("failures_total")
    busy, documents = bench.gauge("busy"), bench.accumulating("documents")
    seconds, sizes = bench.histogram("seconds"), bench.summary("sizes")

    def work(number: int) -> None:
        for call in range(CALLS):
            tasks.labels(str((number + call) % 7)).inc()
            failures.inc(2)
            busy.inc(3)
            busy.dec(2)
            documents.inc()
            seconds.observe(call % 7)
            sizes.observe(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rows = bench.take()
        held += [row.cell for row in rows if row.table.name == "busy"]
        tally.add(row for row in rows if row.table.name != "busy")
    rows = bench.take()
    held += [row.cell for row in rows if row.table.name == "busy"]
    tally.add(row for row in rows if row.table.name != "busy")

    calls = THREADS * CALLS
    assert sum(tally.sums["tasks_total", str(worker)] for worker in range(7)) == calls
    assert tally.sums["failures_total",] == 2 * calls
    assert held[-1] == calls
    assert tally.sums["documents",] == calls
    assert tally.sums["sizes",] == calls
    assert sum(tally.buckets["sizes",].values()) == calls
    expected = [sum(call % 7 in values for call in range(CALLS)) * THREADS for values in ({0, 1}, {2}, {3, 4, 5}, {6})]
    assert list(tally.buckets["seconds",].values()) == expected
    assert tally.sums["seconds",] == sum(call % 7 for call in range(CALLS)) * THREADS


def relieve(instrument: Instrument) -> None:
    assert instrument._pending
    instrument._pending.relieve()


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.sampled_from(["fold", "take"]))))
def test_observations_add_up_the_same_however_they_are_folded_and_taken(steps: list[float | str]) -> None:
    bench, tally = Bench(), Tally()
    seconds = bench.histogram()
    for step in steps:
        if step == "take":
            tally.add(bench.take())
        elif step == "fold":
            relieve(seconds)
        else:
            seconds.observe(float(step))
    tally.add(bench.take())
    whole = Tally()
    values = [float(step) for step in steps if not isinstance(step, str)]
    whole._add(("seconds",), values)
    assert tally.buckets["seconds",] == whole.buckets["seconds",]
    assert tally.sums["seconds",] == pytest.approx(fsum(values), rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2**40), st.sampled_from(["fold", "take"]))))
def test_whole_increments_add_up_exactly_however_they_are_folded_and_taken(steps: list[int | str]) -> None:
    bench, tally = Bench(), Tally()
    tasks = bench.counter()
    for step in steps:
        if step == "take":
            tally.add(bench.take())
        elif step == "fold":
            relieve(tasks)
        else:
            tasks.inc(int(step))
    tally.add(bench.take())
    assert tally.sums["tasks_total",] == sum(step for step in steps if isinstance(step, int))


def test_a_caller_folds_before_its_series_grows_long() -> None:
    bench = Bench()
    tasks, size, seconds = bench.counter(), bench.gauge(), bench.histogram()
    for _ in range(10 * FOLD_AT):
        tasks.inc()
        size.inc()
        seconds.observe(3)
    for instrument in (tasks, size, seconds):
        assert instrument._pending
        assert len(instrument._pending.items) <= FOLD_AT
    assert bench.cells() == {
        ("tasks_total",): 10 * FOLD_AT,
        ("size",): 10 * FOLD_AT,
        ("seconds",): {"buckets": dict(zip(KEYS, (0, 0, 10 * FOLD_AT, 0), strict=True)), "sum": 30 * FOLD_AT},
    }


def test_a_caller_never_waits_for_the_lock() -> None:
    bench = Bench()
    tasks = bench.counter()
    with bench.series.shared.lock:
        for _ in range(2 * FOLD_AT):
            tasks.inc()
    assert bench.cells() == {("tasks_total",): 2 * FOLD_AT}


def test_few_observations_are_sent_as_they_are_and_many_as_counts() -> None:
    bench = Bench()
    seconds = bench.histogram()
    for value in (0.5, 7.0):
        seconds.observe(value)
    assert bench.cells() == {("seconds",): [0.5, 7.0]}
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        seconds.observe(value)
    assert bench.cells() == {("seconds",): {"buckets": {"1.0": 2, "2.0": 2, "5.0": 0, "+Inf": 1}, "sum": 12}}


def test_a_series_that_nobody_touched_is_not_sent() -> None:
    bench = Bench()
    bench.counter().inc(3)
    bench.summary().observe(1)
    assert len(bench.take()) == 2
    assert bench.take() == []


class TestHeldGauges:
    def test_the_last_of_several_calls_counts(self) -> None:
        bench = Bench()
        size = bench.gauge()
        size.set(5)
        size.inc(2)
        size.dec(4)
        assert bench.cells() == {("size",): 3}
        size.inc()
        assert bench.cells() == {("size",): 4}

    def test_a_value_that_is_set_carries_the_time_of_the_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench()
        size = bench.gauge()
        monkeypatch.setattr("busmon.publish.instruments.time", lambda: 998.5)
        size.set(5)
        monkeypatch.undo()
        (row,) = bench.take()
        assert row.at == 998.5

    def test_a_later_call_has_a_later_time_even_if_the_clock_steps_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench()
        size = bench.gauge()
        times = []
        for at in (998.5, 998.5, 500.0):
            monkeypatch.setattr("busmon.publish.instruments.time", lambda at=at: at)
            size.set(at)
            (row,) = bench.take()
            times.append(row.at or 0.0)
        assert times == sorted(set(times))

    def test_an_untouched_value_is_sent_again_when_it_is_due_as_of_then(self) -> None:
        bench = Bench()
        size = bench.gauge()
        size.set(5)
        (first,) = bench.take()
        bench.now += RESEND_SECONDS - 1
        assert bench.take() == []
        bench.now += 1
        (again,) = bench.take()
        assert again == first._replace(at=max(bench.now, first.at or 0.0))
        assert bench.take() == []

    def test_a_gauge_that_was_never_set_is_never_sent(self) -> None:
        bench = Bench()
        relieve(bench.gauge())
        bench.now += 10 * RESEND_SECONDS
        assert bench.take() == []

    def test_a_function_is_asked_at_each_take(self) -> None:
        bench = Bench()
        waiting: list[int] = []
        bench.gauge().set_function(lambda: len(waiting))
        assert bench.cells() == {("size",): 0}
        waiting.append(1)
        assert bench.cells() == {("size",): 1}

    def test_a_function_that_fails_costs_nothing_but_its_own_reading_and_is_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        bench.gauge("broken").set_function(lambda: 1 / 0)
        tasks = bench.counter()
        for _ in range(3):
            tasks.inc()
            assert bench.cells() == {("tasks_total",): 1}
        assert len(caplog.records) == 1
        assert "broken" in caplog.text


class TestBounds:
    def test_raw_observations_are_bounded_by_number_and_the_older_ones_are_given_up_and_counted(self) -> None:
        bench = Bench(max_values=4 * FOLD_AT)
        sizes = bench.summary()
        total = 50 * FOLD_AT
        for value in range(total):
            sizes.observe(value)
        assert sizes._pending
        assert len(sizes._pending.items) <= 5 * FOLD_AT
        rows, discarded = bench.series.take(bench.now)
        (row,) = rows
        assert len(row.cell) + discarded == total
        assert row.cell == list(range(total - len(row.cell), total))

    def test_a_take_makes_room_again(self) -> None:
        bench = Bench(max_values=2 * FOLD_AT)
        sizes = bench.summary()
        for _ in range(20):
            for value in range(FOLD_AT + 1):
                sizes.observe(value)
            rows, discarded = bench.series.take(bench.now)
            assert (len(rows[0].cell), discarded) == (FOLD_AT + 1, 0)

    def test_series_beyond_the_bound_are_dropped_counted_and_logged_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("busmon.publish.series.MAX_SERIES", 3)
        bench = Bench()
        tasks, sizes = bench.counter("tasks_total", "queue"), bench.summary("sizes", "queue")
        for queue in range(5):
            tasks.labels(str(queue)).inc(7)
            sizes.labels(str(queue)).observe(1)
        rows, discarded = bench.series.take(bench.now)
        assert len(rows) == 3
        assert discarded == 7
        assert len(caplog.records) == 1

    def test_a_known_series_goes_on_when_there_is_no_room_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busmon.publish.series.MAX_SERIES", 1)
        tasks = (bench := Bench()).counter("tasks_total", "queue")
        for queue in ("a", "b", "a"):
            tasks.labels(queue).inc()
        assert bench.cells() == {("tasks_total", "a"): 2}

    @pytest.mark.parametrize("kind", ["counter", "histogram", "gauge"])
    def test_what_leaves_a_doubles_range_is_never_sent(self, kind: str) -> None:
        bench = Bench()
        instrument = getattr(bench, kind)()
        call = instrument.observe if kind == "histogram" else instrument.inc
        for _ in range(20):
            call(1.7e308)
        assert bench.take() == []


def test_a_forked_childs_series_are_empty() -> None:
    bench = Bench()
    tasks, size, sizes = bench.counter(), bench.gauge(), bench.summary()
    tasks.inc()
    size.set(1)
    sizes.observe(1)
    bench.take()
    tasks.inc()
    bench.series.shared.lock.acquire()  # by a thread that the child doesn't have
    bench.series.reset()
    bench.now += 10 * RESEND_SECONDS
    assert bench.take() == []
    size.inc()
    assert bench.cells() == {("size",): 1}
