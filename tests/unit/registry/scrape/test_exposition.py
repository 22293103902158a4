"""Our exposition says what prometheus_client's own collector says of the same files, and says it again and again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from busmon.registry.scrape.exposition import Exposition
from busmon.wire.floats import go_float
from tests.unit.registry import stock
from tests.unit.registry.fold.test_fold import CASES
from tests.unit.registry.registries import NOW, Registry, fresh_directory, parsed, series
from tests.unit.registry.stock import FAMILIES, Content, Entry, contents

ENVELOPES = [sample for case in CASES for sample in case.samples]


@settings(max_examples=150, deadline=None)
@given(contents())
def test_the_text_is_stocks(content: Content) -> None:
    with fresh_directory() as directory:
        stock.write(directory, content)
        exposition = Exposition(directory)
        assert stock.figures(exposition.text()) == stock.oracle(directory)
        assert exposition.skipped == {}


@settings(max_examples=75, deadline=None)
@given(contents())
def test_openmetrics_says_the_same(content: Content) -> None:
    with fresh_directory() as directory:
        stock.write(directory, content)
        text = Exposition(directory).openmetrics() + b"# EOF\n"
        assert stock.openmetrics_figures(text) == stock.openmetrics_oracle(directory)
        assert stock.openmetrics_figures(text) == stock.oracle(directory)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(ENVELOPES), max_size=20), st.lists(st.sampled_from(ENVELOPES), max_size=20))
def test_stock_reads_what_shards_write(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    with fresh_directory() as directory:
        for number, samples in enumerate((one, other)):
            with Registry(directory, number) as registry:
                registry.fold(*(sample | {"ts": NOW - number - 5} for sample in samples))
                registry.commit()
        assert stock.figures(Exposition(directory).text()) == stock.oracle(directory)


changes = st.lists(contents() | st.sampled_from([".", "/"]), min_size=2, max_size=6)


@settings(max_examples=100, deadline=None)
@given(changes, st.randoms(use_true_random=False))
def test_a_scrape_after_others_is_the_same_as_a_first_one(steps: list[Any], chance: Any) -> None:
    with fresh_directory() as directory:
        exposition = Exposition(directory)
        for step in steps:
            files = sorted(directory.iterdir())
            if isinstance(step, dict):
                stock.write(directory, step)
            elif step == "." and files:
                chance.choice(files).unlink()
            elif files:  # a process of the same number starts again: its file has the same name and, often, inode
                chance.choice(files).write_bytes(b"")
            fresh = Exposition(directory)
            assert sorted(exposition.text().splitlines()) == sorted(fresh.text().splitlines())
            assert exposition.skipped == fresh.skipped


def test_a_file_that_grows_between_scrapes_is_read_on(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path)
    hits = FAMILIES[1]
    for number in (1, 2, 10, 300, 301, 900):
        entries = [Entry(hits, ("x" * 100, str(i)), (number + i,), 0) for i in range(number)]
        stock.write(tmp_path, {"counter_7.db": entries})
        assert stock.figures(exposition.text()) == stock.oracle(tmp_path)
    assert (tmp_path / "counter_7.db").stat().st_size > 1 << 16


def test_a_file_made_anew_in_the_place_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    """Even where the file system gives it the same number."""
    exposition = Exposition(tmp_path)
    stock.write(tmp_path, {"counter_7.db": [Entry(FAMILIES[1], ("a", "b"), (1,), 0), Entry(FAMILIES[0], (), (2,), 0)]})
    exposition.text()
    other = tmp_path / "other"
    other.mkdir()
    stock.write(other, {"counter_7.db": [Entry(FAMILIES[0], (), (7,), 0), Entry(FAMILIES[1], ("c", "d"), (9,), 0)]})
    (tmp_path / "counter_7.db").write_bytes((other / "counter_7.db").read_bytes())
    assert stock.figures(exposition.text()) == stock.oracle(tmp_path)


def test_values_under_another_help_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {
        "counter_7.db": [Entry(FAMILIES[0], (), (2,), 0)],
        "histogram_7.db": [Entry(FAMILIES[2], ("x",), (1, 2, 3, 4, 5), 0)],
    }
    stock.write(tmp_path, content)
    monkeypatch.setattr(stock, "HELP", "Other words")
    stock.write(tmp_path, {name.replace("7", "8"): entries for name, entries in content.items()})
    stock.write(tmp_path, content)
    scraped = Exposition(tmp_path).text()
    assert parsed(scraped)[series("hits_total")] == 6
    assert stock.figures(scraped) == stock.oracle(tmp_path)


STOCK_PROCESS = """
import sys
from prometheus_client import Counter, Gauge, Histogram, Summary
number = int(sys.argv[1])
Counter("stock_hits", 'Hits: "a" \\\\ b', ["page"]).labels('a"b').inc(number)
Histogram("stock_waits_seconds", "Waits", ["zone"], buckets=(1, 2e6)).labels("n").observe(number)
Summary("stock_sizes_bytes", "Sizes").observe(number)
for mode in ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"):
    Gauge(f"stock_{mode}", "A gauge", ["a"], multiprocess_mode=mode).labels("x").set(number - 5)
    Gauge(f"stock_unset_{mode}", "Never set", multiprocess_mode=mode)
"""


def test_stock_processes_in_the_same_directory_are_served_too(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(*ENVELOPES[:5], {"name": "stock_hits", "type": "counter", "labels": {"page": 'a"b'}, "value": 4})
        registry.commit()
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        for number in (3, 7):
            subprocess.run([sys.executable, "-c", STOCK_PROCESS, str(number)], env=environment, check=True)
        exposition = Exposition(tmp_path)
        scraped = exposition.text()
    assert stock.figures(scraped) == stock.oracle(tmp_path)
    assert exposition.skipped == {}
    assert parsed(scraped)[series("stock_hits_total", page='a"b')] == 14
    assert parsed(scraped)[series("stock_livesum", a="x")] == 0
    assert parsed(scraped)[series("stock_mostrecent", a="x")] == 2


def stock_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


@given(st.floats())
def test_floats_are_written_as_stock_writes_them(value: float) -> None:
    assert go_float(value) == stock_float(value)


@given(st.integers(-(2**70), 2**70))
def test_whole_numbers_are_written_as_stock_writes_them(value: int) -> None:
    assert go_float(value) == stock_float(value)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e6, 999999.0, 123456.7, 1234567.25, 1e15, 1e16, 1e22, 1e-7, 100000.0])
def test_the_borders_of_the_exponent_are_stocks(value: float) -> None:
    assert go_float(value) == stock_float(value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"waits"}, {"waits_sum", "waits_bucket", "waits_count"}),
        ({"waits_sum", "hits_total"}, {"waits_sum", "hits_total"}),
        ({"hits"}, {"hits_total"}),
        ({"wait", "hits_", "waits_su", ""}, set()),
    ],
)
def test_only_what_is_named_is_shown(tmp_path: Path, names: set[str], expected: set[str]) -> None:
    content = {
        "counter_7.db": [Entry(FAMILIES[0], (), (2,), 0)],
        "histogram_7.db": [Entry(FAMILIES[2], ("x\r",), (1, 2, 3, 4, 5), 0)],
    }
    stock.write(tmp_path, content)
    exposition = Exposition(tmp_path)
    for text in (exposition.text(names), exposition.openmetrics(names)):
        assert {
            line.partition(b"{")[0].partition(b" ")[0].decode() for line in text.split(b"\n") if line[:1] not in b"#"
        } == expected
    assert {name for name, _ in parsed(exposition.text())} == {"hits_total", "waits_sum", "waits_bucket", "waits_count"}
