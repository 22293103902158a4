import io

from rich.console import Console

from busmon.catalogue import Family
from busmon.demo.audit import ENVELOPES, Line, compare, table, totals
from busmon.simulator.totals import Series, Totals

SCRAPE = """\
# HELP tasks_processed_total Tasks.
# TYPE tasks_processed_total counter
tasks_processed_total{agent="a",status="success"} 7
tasks_processed_total{agent="b",status="failure"} 5
tasks_processed_total{agent="b",status="success"} 0
# HELP message_latency_seconds Time.
# TYPE message_latency_seconds histogram
message_latency_seconds_bucket{queue="tasks",le="+Inf"} 3
message_latency_seconds_sum{queue="tasks"} 1.5
message_latency_seconds_count{queue="tasks"} 3
message_latency_seconds_bucket{queue="telemetry.fold.0",le="+Inf"} 99
message_latency_seconds_sum{queue="telemetry.fold.0"} 0.99
message_latency_seconds_count{queue="telemetry.fold.0"} 99
# HELP request_size_bytes Size.
# TYPE request_size_bytes summary
request_size_bytes{quantile="0.5"} 100
request_size_bytes_sum 4096
request_size_bytes_count 4
# HELP queue_size Depth.
# TYPE queue_size gauge
queue_size{queue="tasks"} 42
# HELP busmon_envelopes_consumed_total Envelopes.
# TYPE busmon_envelopes_consumed_total counter
busmon_envelopes_consumed_total{shard="0"} 9
busmon_envelopes_consumed_total{shard="1"} 90
# HELP busmon_batches_total Batches.
# TYPE busmon_batches_total counter
busmon_batches_total{trigger="size"} 8
"""

FAMILIES = (
    Family("tasks_processed_total", "counter", "Tasks.", ("agent", "status")),
    Family("message_latency_seconds", "histogram", "Time.", ("queue",), buckets=(0.1,)),
    Family("request_size_bytes", "summary", "Size."),
    Family("queue_size", "gauge", "Depth.", ("queue",)),
    Family("votes_cast_total", "counter", "Votes."),
    Family("busmon_batches_total", "counter", "Batches.", ("trigger",), internal=True),
)

PUBLISHED: Series = {
    "tasks_processed_total": {'{"agent":"a","status":"success"}': 7, '{"agent":"b","status":"failure"}': 5},
    "message_latency_seconds_count": {'{"queue":"tasks"}': 3},
    "message_latency_seconds_sum": {'{"queue":"tasks"}': 0.5 + 0.7 + 0.3},
    "request_size_bytes_count": {"{}": 4},
    "request_size_bytes_sum": {"{}": 4096},
}


def compared(published: Series, scrape: str = SCRAPE, envelopes: int = 99) -> list[Line]:
    return compare(Totals(published, envelopes), scrape, FAMILIES)


def differing(published: Series, scrape: str = SCRAPE, envelopes: int = 99) -> list[str]:
    return [line.name for line in compared(published, scrape, envelopes) if not line.equal]


def test_every_name_of_either_side_is_compared_and_no_other() -> None:
    lines = compared(PUBLISHED)
    assert [line.name for line in lines] == [ENVELOPES, *sorted(PUBLISHED)]
    assert all(line.equal for line in lines)


def test_what_was_published_and_isnt_scraped_is_a_difference() -> None:
    assert differing(PUBLISHED | {"surprise_total": {"{}": 1}}) == ["surprise_total"]


def test_what_is_scraped_and_wasnt_published_is_a_difference() -> None:
    assert differing({}) == ["request_size_bytes_count", "request_size_bytes_sum", "tasks_processed_total"]


def test_an_envelope_that_is_missing_is_a_difference() -> None:
    assert differing(PUBLISHED, envelopes=100) == [ENVELOPES]


def test_equal_totals_dont_hide_that_two_series_differ() -> None:
    swapped: Series = {
        "tasks_processed_total": {'{"agent":"a","status":"success"}': 5, '{"agent":"b","status":"failure"}': 7}
    }
    (line,) = [line for line in compared(PUBLISHED | swapped) if not line.equal]
    assert line.published == line.scraped == 12
    assert len(line.differing) == 2


def test_a_count_is_compared_to_the_last_unit() -> None:
    scrape = "# TYPE votes_cast_total counter\nvotes_cast_total 4503599627370497\n"
    assert differing({"votes_cast_total": {"{}": 2**52}}, scrape, envelopes=0) == ["votes_cast_total"]
    assert differing({"votes_cast_total": {"{}": 2**52 + 1}}, scrape, envelopes=0) == []


def test_sums_of_floats_may_differ_by_the_order_of_adding() -> None:
    scrape = SCRAPE.replace(
        'message_latency_seconds_sum{queue="tasks"} 1.5', 'message_latency_seconds_sum{queue="tasks"} {}'
    )
    assert differing(PUBLISHED, scrape.replace("{}", "1.5000000000000002")) == []
    assert differing(PUBLISHED, scrape.replace("{}", "1.500001")) == ["message_latency_seconds_sum"]


def test_totals_are_the_series_of_just_these_samples() -> None:
    assert totals(SCRAPE, {"queue_size", "request_size_bytes_count"}) == {
        "queue_size": {'{"queue":"tasks"}': 42},
        "request_size_bytes_count": {"{}": 4},
    }


def test_a_difference_stands_out_in_the_table() -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(table([Line("a_total", 3, 1_234_567.0, 1_234_567.0, ()), Line("b_sum", 1, 0.5, 0.75, ("{}",))]))
    _, equal, different = console.export_text().splitlines()
    assert equal.split() == ["a_total", "3", "1,234,567", "1,234,567", "="]
    assert different.split() == ["b_sum", "1", "0.500", "0.750", "≠"]
