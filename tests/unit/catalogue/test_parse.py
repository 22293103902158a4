from pathlib import Path

import pytest

from busmon.catalogue import Family
from busmon.catalogue.family import DEFAULT_BUCKETS
from busmon.catalogue.parse import read
from busmon.errors import CatalogueError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.toml"


def parsed(path: Path, text: str) -> dict[str, Family]:
    path.write_text(text, encoding="utf-8")
    return read(path)


def test_a_family_is_read_whole(path: Path) -> None:
    text = """
        [counter.documents_indexed_total]
        help = "Documents put in the index"
        labels = ["index", "result"]
        values.result = ["success", "failure"]
        budgets.index = 20
        aggregate_away = ["pod"]

        [gauge.index_age_seconds]
        help = "Age of the oldest index"
        merge = "max"
        ttl_seconds = 60

        [gauge.index_last_backup_timestamp_seconds]
        help = "Time of an index's last backup"
        outlives_source = true

        [histogram.search_duration_seconds]
        help = "Time to answer a search"
        buckets = [0.1, 1, 10]

        [histogram.index_duration_seconds]
        help = "Time to index a document"

        [summary.hits]
        help = "Hits of a search"
        quantiles = [0.5, 0.99]
    """
    assert parsed(path, text) == {
        family.name: family
        for family in (
            Family(
                "documents_indexed_total",
                "counter",
                "Documents put in the index",
                ("index", "result"),
                values={"result": ("success", "failure")},
                budgets={"index": 20},
                aggregate_away=("pod",),
            ),
            Family("index_age_seconds", "gauge", "Age of the oldest index", merge="max", ttl_seconds=60.0),
            Family(
                "index_last_backup_timestamp_seconds", "gauge", "Time of an index's last backup", outlives_source=True
            ),
            Family("search_duration_seconds", "histogram", "Time to answer a search", buckets=(0.1, 1.0, 10.0)),
            Family("index_duration_seconds", "histogram", "Time to index a document", buckets=DEFAULT_BUCKETS),
            Family("hits", "summary", "Hits of a search", quantiles=(0.5, 0.99)),
        )
    }


def test_an_empty_file_adds_nothing(path: Path) -> None:
    assert parsed(path, "") == {}


WRONG = {
    "counters.x.help = 'A'": "counters: expected tables [counter.NAME], [gauge.NAME]",
    "counter = 1": "counter: expected tables [counter.NAME]",
    "counter.x = 1": "counter.x: expected a table [counter.x]",
    "[counter.'a b']\nhelp='A'": "counter.a b: expected a name",
    "[counter.x]": "counter.x.help: expected a sentence",
    "[counter.x]\nhelp=''": "counter.x.help: expected a sentence",
    "[counter.x]\nhelp='''a\nb'''": "counter.x.help: expected a sentence, on one line",
    "[counter.x]\nhelp='A'\nlabel=['a']": "counter.x.label: expected one of the keys of a counter: help, labels",
    "[counter.x]\nhelp='A'\nlables=['a']": "; did you mean 'labels'?",
    "[gauge.x]\nhelp='A'\nmerge='latst'": "or 'add'; did you mean 'latest'?",
    "[histogram.x]\nhelp='A'\nbucket=[1]": "; did you mean 'buckets'?",
    "[conter.x]\nhelp='A'": "; did you mean 'counter'?",
    "[counter.x]\nhelp='A'\nmerge='sum'": "counter.x.merge: expected one of the keys of a counter",
    "[counter.x]\nhelp='A'\nlabels='a'": "counter.x.labels: expected a list of strings",
    "[counter.x]\nhelp='A'\nlabels=['a', 'a']": "counter.x.labels: expected each value once",
    "[counter.x]\nhelp='A'\nlabels=['le']": "label 'le': a scrape has it of its own; the label is named 'exported_le'",
    "[counter.x]\nhelp='A'\nlabels=['__a']": "counter.x.labels: expected other labels: label '__a'",
    "[counter.x]\nhelp='A'\nlabels=['job']": "the label is named 'exported_job'",
    "[counter.x]\nhelp='A'\nlabels=['a']\nvalues.b=['1']": "counter.x.values: expected a list of values for each",
    "[counter.x]\nhelp='A'\nlabels=['a']\nvalues.a=[1]": "counter.x.values.a: expected a list of strings",
    "[counter.x]\nhelp='A'\nlabels=['a']\nvalues.a=['']": "values.a: expected a list of strings, none of them empty",
    "[counter.x]\nhelp='A'\noutlives_source=true": "counter.x.outlives_source: expected one of the keys of a counter",
    "[gauge.x]\nhelp='A'\noutlives_source=1": "gauge.x.outlives_source: expected true or false",
    "[gauge.x]\nhelp='A'\nmerge='sum'\noutlives_source=true": "expected no such key, or merge 'latest'",
    "[counter.x]\nhelp='A'\ninternal=1": "counter.x.internal: expected true or false",
    "[counter.x]\nhelp='A'\nlabels=['a']\nbudgets.b=1": "counter.x.budgets: expected a number for each of these labels",
    "[counter.x]\nhelp='A'\nlabels=['a']\nbudgets.a=-1": "counter.x.budgets.a: expected a whole number of values",
    "[counter.x]\nhelp='A'\nlabels=['a']\nbudgets.a=true": "counter.x.budgets.a: expected a whole number of values",
    "[counter.x]\nhelp='A'\nttl_seconds='long'": "counter.x.ttl_seconds: expected a number of seconds; 0 without limit",
    "[counter.x]\nhelp='A'\nttl_seconds=-1": "counter.x.ttl_seconds: expected a number of seconds; 0 without limit",
    "[counter.x]\nhelp='A'\naggregate_away=['le']": "counter.x.aggregate_away: expected other labels: label 'le'",
    "[gauge.x]\nhelp='A'\naggregate_away=['a']": "gauge.x.aggregate_away: expected no such key: values that are set",
    "[gauge.x]\nhelp='A'\nmerge='mean'": "gauge.x.merge: expected 'latest' or 'sum' or 'min' or 'max' or 'add'",
    "[histogram.x]\nhelp='A'\nbuckets=[]": "histogram.x.buckets: expected a list of finite numbers",
    "[histogram.x]\nhelp='A'\nbuckets=[1, inf]": "histogram.x.buckets: expected a list of finite numbers",
    "[histogram.x]\nhelp='A'\nbuckets=[true]": "histogram.x.buckets: expected a list of finite numbers",
    f"[histogram.x]\nhelp='A'\nbuckets=[{10**400}]": "histogram.x.buckets: expected a list of finite numbers",
    "[histogram.x]\nhelp='A'\nbuckets=[2, 1]": "histogram.x.buckets: expected numbers in ascending order",
    "[histogram.x]\nhelp='A'\nbuckets=[1, 1.0]": "histogram.x.buckets: expected numbers in ascending order, each once",
    "[summary.x]\nhelp='A'\nquantiles=[0.5, 99]": "summary.x.quantiles: expected numbers from 0 to 1",
    "[counter.x]\nhelp='A'\n[gauge.x]\nhelp='B'": "gauge.x: expected one type for a name; it is a counter",
    "[counter.x]\nhelp='A'\nhelp='B'": "\"help='B'\"; expected valid TOML, each key once",
    "[counter.x]\nhelp='A'\n[counter.x]\nhelp='B'": "'[counter.x]'; expected valid TOML, each key once",
    "[counter.x\n": "expected valid TOML",
}


@pytest.mark.parametrize(("text", "line"), WRONG.items())
def test_a_mistake_is_one_line_that_names_file_key_and_what_was_expected(path: Path, text: str, line: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parsed(path, text)
    assert str(caught.value).startswith(f"{path}: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"search\.toml: can't be read: No such file or directory; expected a"):
        read(path)


def test_a_file_that_is_not_text_is_one_line(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueError, match=r"can't be read: it isn't UTF-8"):
        read(path)
