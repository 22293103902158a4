import json
import re
from pathlib import Path

import pytest

from busmon.catalogue import Catalogue, Family, example, text

DOCS = Path(__file__).parents[3] / "docs" / "catalogue.md"
BUILT_IN = Catalogue.load()


def test_the_docs_table_is_the_catalogue() -> None:
    _, _, families = DOCS.read_text(encoding="utf-8").partition("<!-- families -->\n")
    assert families == text.markdown(BUILT_IN) + "\n", "run: busmon catalogue show --markdown"


def test_every_family_has_its_line() -> None:
    lines = text.lines(BUILT_IN).splitlines()
    assert len(lines) == len(BUILT_IN.families)
    assert "gauge\tqueue_size{queue}\tMessages in a queue" in lines
    assert "gauge\tuser_online_count\tUsers online" in lines


def test_a_family_in_full_says_all_that_it_means() -> None:
    shown = text.in_full(BUILT_IN, BUILT_IN.families["tasks_processed_total"])
    for part in ("counter", "Total number of tasks processed", "any value", "success, failure", "platform.toml"):
        assert part in shown
    printed = json.loads(shown[shown.index("{") :])
    expected = example.envelope(BUILT_IN.families["tasks_processed_total"])
    assert {**printed, "source": ""} == {**expected, "source": ""}
    assert re.fullmatch("my-agent-[0-9a-f]{16}", printed["source"])
    assert printed["source"] != expected["source"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("user_online_count", "sum, the sum over live sources"),
        ("batch_job_last_success_timestamp_seconds", "latest, outlives its source"),
        ("task_duration_seconds", "0.1, 0.5, 1, 2, 5, 10"),
        ("request_size_bytes", "0.5, 0.9, 0.95, 0.99"),
        ("message_latency_seconds", "busmon's workers observe it too"),
        ("busmon_batches_total", "refuses it from publishers"),
    ],
)
def test_what_only_some_families_have_is_shown(name: str, part: str) -> None:
    assert part in text.in_full(BUILT_IN, BUILT_IN.families[name])


def test_bounds_are_shown_in_full() -> None:
    assert text.particulars(Family("x", "histogram", "A", buckets=(0.0005, 1.0, 123456789.0))) == "0.0005, 1, 123456789"


def test_a_gauge_that_adds_has_an_example_that_adds() -> None:
    assert example.sample(Family("x", "gauge", "A", merge="add")) == {
        "name": "x",
        "type": "gauge",
        "op": "add",
        "value": 1,
    }
