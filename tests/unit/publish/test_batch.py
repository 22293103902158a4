"""Rows become envelopes that the wire format's decoder takes, of a bounded size, one domain each."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.publish.batch import MAX_BYTES, MAX_NUMBERS, Origin, Row, Sealed, Table, heartbeat, seal
from busmon.wire.json_v1 import decode

ORIGIN = Origin("analyzer-1", "analyzer")
TASKS = Table("tasks_total", ("agent", "status"))


def decoded(sealed: Sealed) -> list[dict[str, Any]]:
    envelope = decode(sealed.body, "application/json", None, 1 << 20)
    assert (envelope.source, envelope.agent, envelope.ts, envelope.samples) == ("analyzer-1", "analyzer", 12.5, [])
    return envelope.tables


def test_rows_of_an_instrument_share_a_table() -> None:
    rows = [Row(TASKS, ("a", "ok"), 1), Row(Table("hits_total", (), "counter"), (), 4), Row(TASKS, ("b", "ok"), 2)]
    (sealed,) = seal(ORIGIN, 12.5, rows)
    assert decoded(sealed) == [
        {"name": "tasks_total", "labels": ["agent", "status"], "rows": [["a", "ok", 1], ["b", "ok", 2]]},
        {"name": "hits_total", "type": "counter", "labels": [], "rows": [[4]]},
    ]


def test_gauges_of_one_time_share_a_table() -> None:
    size = Table("size", ("queue",))
    (sealed,) = seal(ORIGIN, 12.5, [Row(size, ("a",), 1, 9.5), Row(size, ("b",), 2, 9.75), Row(size, ("c",), 3, 9.5)])
    assert [(table["ts"], len(table["rows"])) for table in decoded(sealed)] == [(9.5, 2), (9.75, 1)]


def test_an_accumulating_gauge_says_so() -> None:
    (sealed,) = seal(ORIGIN, 12.5, [Row(Table("documents", (), op="add"), (), -2)])
    assert decoded(sealed)[0]["op"] == "add"


def test_each_domain_has_an_envelope_of_its_own() -> None:
    rows = [Row(Table(f"a{number}", (), domain=("task", "queue")[number % 2]), (), 1) for number in range(6)]
    envelopes = list(seal(ORIGIN, 12.5, rows))
    assert {sealed.domain: len(decoded(sealed)) for sealed in envelopes} == {"task": 3, "queue": 3}


def test_no_rows_make_no_envelope() -> None:
    assert list(seal(ORIGIN, 12.5, [])) == []


def test_a_heartbeat_is_an_envelope_without_samples() -> None:
    assert decoded(heartbeat(ORIGIN, 12.5)) == []


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 10), st.lists(st.floats(0, 1), min_size=1, max_size=50)), max_size=300))
def test_no_sample_is_lost_or_doubled_by_the_cutting(cells: list[Any]) -> None:
    table = Table("seconds", ("number",))
    rows = [Row(table, (str(number),), cell) for number, cell in enumerate(cells)]
    envelopes = list(seal(ORIGIN, 12.5, rows))
    found = [row for sealed in envelopes for each in decoded(sealed) for row in each["rows"]]
    assert found == [[str(number), cell] for number, cell in enumerate(cells)]
    assert sum(sealed.samples for sealed in envelopes) == len(cells)


def test_an_envelope_has_a_bounded_number_of_numbers() -> None:
    observed = [float(number) for number in range(2 * MAX_NUMBERS + 1)]
    rows = [*(Row(TASKS, (str(n), "ok"), 1) for n in range(MAX_NUMBERS + 1)), Row(Table("bytes"), (), observed)]
    envelopes = [decoded(sealed) for sealed in seal(ORIGIN, 12.5, rows)]
    assert [sum(len(table["rows"]) for table in tables) for tables in envelopes] == [MAX_NUMBERS, 1, 1, 1, 1]
    parts = [table["rows"][0][0] for tables in envelopes for table in tables if table["name"] == "bytes"]
    assert [value for part in parts for value in part] == observed


def test_an_envelope_has_a_bounded_size() -> None:
    rows = [Row(TASKS, (str(number), "x" * 1000), 1) for number in range(900)]
    envelopes = list(seal(ORIGIN, 12.5, rows))
    assert all(len(sealed.body) <= MAX_BYTES for sealed in envelopes)
    assert [row[0] for sealed in envelopes for table in decoded(sealed) for row in table["rows"]] == [
        str(number) for number in range(900)
    ]
