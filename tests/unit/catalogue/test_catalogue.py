import subprocess
import sys
from pathlib import Path

import pytest

from busmon.catalogue import Catalogue, Family
from busmon.catalogue.catalogue import CELERY, OWN, PLATFORM
from busmon.catalogue.family import DEFAULT_BUCKETS
from busmon.errors import AdoptionError, CatalogueError

BUILT_IN = Catalogue.load()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.toml"


def load(path: Path, text: str) -> Catalogue:
    path.write_text(text, encoding="utf-8")
    return Catalogue.load([path])


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_users_file_adds_to_the_built_in_ones(path: Path) -> None:
    catalogue = load(path, "[counter.searches_total]\nhelp='Searches'")
    assert catalogue.families["searches_total"] == Family("searches_total", "counter", "Searches")
    assert catalogue.origins["searches_total"] == path
    assert BUILT_IN.families.items() < catalogue.families.items()


def test_a_users_family_replaces_a_built_in_one_whole(path: Path) -> None:
    catalogue = load(path, "[gauge.queue_size]\nhelp='Waiting'\nlabels=['queue', 'host']\nmerge='sum'")
    assert catalogue.families["queue_size"] == Family(
        "queue_size", "gauge", "Waiting", ("queue", "host"), merge="sum", ttl_seconds=300.0
    )
    assert catalogue.origins["queue_size"] == path


def test_a_later_file_replaces_an_earlier_one(path: Path, tmp_path: Path) -> None:
    path.write_text("[counter.searches_total]\nhelp='Searches'")
    later = tmp_path / "later.toml"
    later.write_text("[counter.searches_total]\nhelp='All searches'")
    assert Catalogue.load([path, later]).families["searches_total"].help == "All searches"


def test_the_type_of_a_built_in_family_may_change(path: Path) -> None:
    assert load(path, "[histogram.request_size_bytes]\nhelp='A'").families["request_size_bytes"].type == "histogram"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[gauge.task_duration_seconds_count]\nhelp='A'", "belongs to histogram.task_duration_seconds of"),
        ("[counter.tasks_processed]\nhelp='A'", "'tasks_processed' belongs to counter.tasks_processed_total of"),
        ("[gauge.tasks_processed]\nhelp='A'", "'tasks_processed' belongs to counter.tasks_processed_total of"),
        ("[summary.queue]\nhelp='A'\n[gauge.queue_sum]\nhelp='B'", "'queue_sum' belongs to summary.queue of"),
        ("[summary.user_online]\nhelp='A'", "'user_online_count' belongs to gauge.user_online_count of"),
        ("[counter.queue_size]\nhelp='A'\n[counter.queue_size_total]\nhelp='B'", "belongs to counter.queue_size of"),
    ],
)
def test_two_families_never_claim_one_exposed_name(path: Path, text: str, line: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(path, text)
    assert line in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name", ["busmon_workers", "process_cpu_seconds_total", "up", "scrape_duration_seconds", "ALERTS"]
)
def test_a_name_that_busmon_or_prometheus_makes_is_refused(path: Path, name: str) -> None:
    with pytest.raises(CatalogueError, match=f"gauge.{name}: expected another name"):
        load(path, f"[gauge.{name}]\nhelp='A'")


def test_a_user_can_give_busmons_own_histogram_other_buckets(path: Path) -> None:
    catalogue = load(path, "[histogram.busmon_commit_duration_seconds]\nhelp='A'\nbuckets=[0.1]")
    family = catalogue.families["busmon_commit_duration_seconds"]
    assert (family.buckets, family.internal) == ((0.1,), True)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[counter.busmon_batches_total]\nhelp='A'", "expected a counter with labels [trigger], as busmon measures it"),
        ("[histogram.message_latency_seconds]\nhelp='A'", "expected a histogram with labels [queue]"),
        ("[gauge.message_size_bytes]\nhelp='A'\nlabels=['type']", "expected a histogram with labels [type]"),
        ("[counter.x]\nhelp='A'\ninternal=true", "counter.x.internal: expected no such key"),
    ],
)
def test_what_busmon_measures_keeps_its_shape(path: Path, text: str, line: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(path, text)
    assert line in str(caught.value)


def test_every_family_says_which_file_it_is_from() -> None:
    assert BUILT_IN.origins.keys() == BUILT_IN.families.keys()
    own = {name for name, origin in BUILT_IN.origins.items() if origin == OWN}
    assert all(name.startswith("busmon_") for name in own)
    celery = {name for name, origin in BUILT_IN.origins.items() if origin == CELERY}
    assert all(name.startswith("celery_") for name in celery)
    assert {BUILT_IN.origins[name] for name in BUILT_IN.families.keys() - own - celery} == {PLATFORM}


def test_loading_imports_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; from busmon.catalogue import Catalogue; Catalogue.load();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_path(program)], capture_output=True, check=True, text=True
    )
    assert set(run.stdout.split()) == {"__main__", "busmon"}


def _with_path(program: str) -> str:
    root = str(PLATFORM.parents[2])
    return f"import sys; sys.path.append({root!r}); {program}"


# -- adoption --------------------------------------------------------------------------------------------------------


def test_an_unknown_metric_becomes_a_family() -> None:
    family = BUILT_IN.adopt("documents_indexed_total", "counter", ["index"])
    assert (family.name, family.type, family.labelnames) == ("documents_indexed_total", "counter", ("index",))
    assert BUILT_IN.adopt("waits", "histogram", []).buckets == DEFAULT_BUCKETS
    assert BUILT_IN.adopt("open_files", "gauge", [], "add").merge == "add"


def test_the_help_of_an_adopted_family_never_changes() -> None:
    assert BUILT_IN.adopt("a", "gauge", ["x"]).help == BUILT_IN.adopt("b", "counter", []).help


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("a b", "gauge", []), "invalid_name"),
        (("", "gauge", []), "invalid_name"),
        (("a\n", "gauge", []), "invalid_name"),
        (("größe", "gauge", []), "invalid_name"),
        (("n" * 201, "gauge", []), "invalid_name"),
        (("busmon_workers", "gauge", []), "reserved_name"),
        (("up", "gauge", []), "reserved_name"),
        (("a", "info", []), "invalid_type"),
        (("a", "counter", [], "add"), "invalid_merge"),
        (("a", "gauge", [], "mean"), "invalid_merge"),
        (("a", "gauge", ["pid"]), "invalid_label"),
        (("a", "gauge", ["__x"]), "invalid_label"),
        (("a", "gauge", ["job"]), "invalid_label"),
        (("a", "gauge", ["x", "x"]), "invalid_label"),
        (("a", "gauge", ["a-b"]), "invalid_label"),
        (("a", "gauge", [f"l{i}" for i in range(33)]), "invalid_label"),
        (("queue_size", "gauge", []), "name_clash"),
        (("tasks_processed", "counter", []), "name_clash"),
        (("task_duration_seconds_count", "counter", []), "name_clash"),
        (("user_online", "summary", []), "name_clash"),
    ],
)
def test_what_can_not_be_exposed_is_not_adopted(arguments: tuple[str, str, list[str]], reason: str) -> None:
    with pytest.raises(AdoptionError) as caught:
        BUILT_IN.adopt(*arguments)
    assert caught.value.reason == reason
