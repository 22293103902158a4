"""Labels that are left out before anything is counted: forbidden ones, and those that a family adds up over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from busmon.errors import CatalogueError
from busmon.registry.admission.budgets import UNBOUNDED, Budgets
from busmon.settings import Settings
from tests.unit.registry.registries import Registry, catalogue, series, stock

FORBIDDING = replace(UNBOUNDED, forbidden_labels=frozenset({"user_id", "trace_id"}))


def vote(**labels: Any) -> dict[str, Any]:
    return {"name": "votes_cast_total", "labels": {"type": "upvote", **labels}, "value": 1}


def test_a_forbidden_label_is_left_out_and_counted_with_its_agent(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=FORBIDDING) as registry:
        registry.fold(vote(user_id="u1"), vote(trace_id="t", user_id="u2"), vote(), agent="web")
        table = {"name": "votes_cast_total", "labels": ["user_id", "type"], "rows": [["u3", "upvote", 5], ["u4", 1]]}
        registry.fold(tables=[table], agent="web")
        registry.commit()
        assert registry.rejected() == {"label_mismatch": 1}
    scraped = stock(tmp_path)
    assert scraped[series("votes_cast_total", type="upvote")] == 8
    assert scraped[series("busmon_labels_dropped_total", label="user_id", agent="web")] == 3
    assert scraped[series("busmon_labels_dropped_total", label="trace_id", agent="web")] == 1


def test_an_unknown_metric_is_taken_up_without_it(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=FORBIDDING) as registry:
        labels = {"user_id": "u", "page": "start"}
        registry.fold({"name": "visits_total", "type": "counter", "labels": labels, "value": 1})
        table = {"name": "hits_total", "type": "counter", "labels": ["page", "user_id"], "rows": [["start", "u", 2]]}
        registry.fold(tables=[table])
        registry.commit()
    scraped = stock(tmp_path)
    assert scraped[series("visits_total", page="start")] == 1
    assert scraped[series("hits_total", page="start")] == 2


def test_a_family_that_names_a_forbidden_label_keeps_it(tmp_path: Path) -> None:
    own = catalogue(tmp_path, '[counter.logins_total]\nhelp = "Logins"\nlabels = ["user_id"]')
    with Registry(tmp_path, catalogue=own, budgets=FORBIDDING) as registry:
        registry.fold({"name": "logins_total", "labels": {"user_id": "u"}, "value": 1})
        registry.commit()
    assert stock(tmp_path)[series("logins_total", user_id="u")] == 1


def test_what_is_forbidden_follows_the_settings(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(vote(user_id="u"))
        registry.shard.limit(Budgets.of(Settings()))
        registry.fold(vote(user_id="u"))
        registry.commit()
        assert registry.rejected() == {"label_mismatch": 1}
    assert stock(tmp_path)[series("votes_cast_total", type="upvote")] == 1


AGGREGATING = """
[counter.pod_hits_total]
help = "Hits"
labels = ["service"]
aggregate_away = ["pod", "node"]

[histogram.pod_wait_seconds]
help = "Waits"
buckets = [1]
aggregate_away = ["pod"]
"""


def test_a_label_that_is_aggregated_away_may_be_sent_and_is_added_up_over(tmp_path: Path) -> None:
    with Registry(tmp_path, catalogue=catalogue(tmp_path, AGGREGATING)) as registry:
        for i in range(3):
            registry.fold({"name": "pod_hits_total", "labels": {"pod": f"p{i}", "service": "s"}, "value": i})
            registry.fold({"name": "pod_wait_seconds", "labels": {"pod": f"p{i}"}, "value": i})
        registry.fold({"name": "pod_hits_total", "labels": {"node": "n", "pod": "p", "service": "s"}, "value": 10})
        registry.fold({"name": "pod_hits_total", "labels": {"service": "s"}, "value": 100})
        registry.fold({"name": "pod_hits_total", "labels": {"service": "s", "zone": "z"}, "value": 1000})
        registry.commit()
        assert registry.rejected() == {"label_mismatch": 1}
    scraped = stock(tmp_path)
    assert scraped[series("pod_hits_total", service="s")] == 113
    assert scraped[series("pod_wait_seconds_count")] == 3
    assert not any(name == "busmon_labels_dropped_total" for name, _ in scraped)


def test_a_gauge_that_is_set_cannot_be_aggregated_away(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"gauge\.x\.aggregate_away: expected no such key: values that are set"):
        catalogue(tmp_path, "[gauge.x]\nhelp='A'\naggregate_away=['pod']")
    with pytest.raises(CatalogueError, match=r"aggregate_away: expected other labels: 'pod' is one that the family"):
        catalogue(tmp_path, "[counter.x]\nhelp='A'\nlabels=['pod']\naggregate_away=['pod']")
    catalogue(tmp_path, "[gauge.x]\nhelp='A'\nmerge='add'\naggregate_away=['pod']")
