"""Families are the same for every process of a directory and after every restart, and unknown ones have a budget."""

import os
from pathlib import Path
from typing import Any

import pytest

from busmon.catalogue.adoption import MAX_ADOPTED_BUCKETS
from busmon.errors import AdoptionError, RegistryError
from busmon.registry.admission.families import FILE_NAME, Families
from tests.unit.registry.registries import CATALOGUE, Registry, catalogue


def gauge(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "type": "gauge", "value": 1} | members


def test_an_unknown_metric_that_states_its_type_is_taken_up_by_the_fleet(tmp_path: Path) -> None:
    other = Families(tmp_path, CATALOGUE, 100)
    with Registry(tmp_path) as registry:
        registry.fold(gauge("nodes", labels={"b": "1", "a": "2"}))
        registry.commit()
        assert other.get("nodes") is None
        assert other.refresh()
        assert other.get("nodes") == registry.families.get("nodes")
    assert not other.refresh()


def test_the_first_definition_counts_whoever_wrote_it(tmp_path: Path) -> None:
    with Registry(tmp_path, 0) as first, Registry(tmp_path, 1) as second:
        first.fold({"name": "waits", "type": "histogram", "buckets": {"1": 1, "+Inf": 0}, "sum": 1})
        second.fold(
            {"name": "waits", "type": "histogram", "buckets": {"1": 1, "7": 1, "+Inf": 0}, "sum": 2},
            {"name": "waits", "type": "histogram", "buckets": {"3": 1, "+Inf": 0}, "sum": 2},
            {"name": "waits", "type": "counter", "value": 2},
        )
        first.commit()
        second.commit()
        assert second.rejected() == {"bucket_mismatch": 1.0, "type_mismatch": 1.0}
        assert (
            second.text() == 'waits_sum 3.0\nwaits_bucket{le="1.0"} 2.0\nwaits_bucket{le="+Inf"} 3.0\nwaits_count 3.0\n'
        )


def test_a_definition_outlives_its_fleet(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(gauge("nodes", labels={"zone": "1"}))
        registry.commit()
    with Registry(tmp_path) as registry:
        registry.fold(gauge("nodes", labels={"zone": "1"}, value=2), gauge("nodes"), {"name": "nodes", "value": 1})
        registry.commit()
        assert registry.text() == 'nodes{zone="1"} 2.0\n'
        assert registry.rejected() == {"label_mismatch": 2.0}


def test_the_fleet_takes_up_as_many_metrics_as_its_budget_says(tmp_path: Path) -> None:
    with Registry(tmp_path, 0, max_adopted=2) as first, Registry(tmp_path, 1, max_adopted=2) as second:
        first.fold(gauge("a"), gauge("a"))
        second.fold(gauge("b"), gauge("c"), gauge("a"))
        first.fold(gauge("d"), {"name": "queue_size", "labels": {"queue": "q"}, "value": 1})
        first.commit()
        second.commit()
        assert first.text() == 'a 1.0\nb 1.0\nqueue_size{queue="q"} 1.0\n'
        assert first.rejected() == {"family_budget": 2.0}
    with Registry(tmp_path, max_adopted=2) as registry:
        registry.fold(gauge("e"), gauge("b", value=2))
        registry.commit()
        assert registry.rejected() == {"family_budget": 3.0}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "hits", "type": "counter"}, {"name": "hits_total", "type": "counter"}),
        ({"name": "hits_total", "type": "counter"}, {"name": "hits", "type": "gauge"}),
        ({"name": "waits", "type": "histogram"}, {"name": "waits_count", "type": "gauge"}),
        ({"name": "waits", "type": "histogram"}, {"name": "waits_sum", "type": "counter"}),
        ({"name": "waits_bucket", "type": "gauge"}, {"name": "waits", "type": "histogram"}),
        ({"name": "waits", "type": "summary"}, {"name": "waits_count", "type": "summary"}),
    ],
    ids=lambda stated: f"{stated['type']} {stated['name']}",
)
def test_no_two_families_claim_one_exposed_name(first: dict[str, Any], second: dict[str, Any], tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(first | {"value": 1}, second | {"value": 1}, first | {"value": 1})
        registry.commit()
        assert registry.rejected() == {"name_clash": 1.0}


def test_a_later_catalogue_does_not_change_what_is_written(tmp_path: Path) -> None:
    changed = catalogue(
        tmp_path,
        """
        [counter.votes_cast_total]
        help = "Other"
        labels = ["type", "zone"]
        values.type = ["upvote"]
        values.zone = ["north"]

        [gauge.queue_size]
        help = "Other words alone"
        labels = ["queue"]
        """,
    )
    samples = [
        {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1},
        {"name": "queue_size", "labels": {"queue": "q"}, "value": 1},
    ]
    with Registry(tmp_path) as registry:
        registry.fold(*samples)
        registry.commit()
    with Registry(tmp_path, catalogue=changed) as registry:
        assert registry.families.list_refused() == ["votes_cast_total"]
        registry.shard.expose_at_zero(changed.families.values())
        registry.fold(*samples)
        registry.commit()
        assert registry.text("votes", "queue") == 'queue_size{queue="q"} 1.0\nvotes_cast_total{type="upvote"} 2.0\n'


def test_a_family_whose_name_is_taken_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    changed = catalogue(tmp_path, '[histogram.waits]\nhelp = "Waits"\nbuckets = [1]\n')
    with Registry(tmp_path) as registry:
        registry.fold(gauge("waits_count"))
        registry.commit()
    with Registry(tmp_path, catalogue=changed) as registry:
        assert registry.families.list_refused() == ["waits"]
        registry.shard.expose_at_zero(changed.families.values())
        registry.fold({"name": "waits", "value": 1}, gauge("waits_count", value=2))
        registry.commit()
        assert registry.text("waits") == "waits_count 2.0\n"
        assert registry.rejected() == {"name_clash": 1.0}


def test_a_reload_makes_a_rejected_metric_known(tmp_path: Path) -> None:
    grown = catalogue(tmp_path, '[gauge.nodes]\nhelp = "Nodes"\n')
    with Registry(tmp_path) as registry:
        registry.fold({"name": "nodes", "value": 1})
        assert registry.families.reload(grown) == []
        registry.shard.fold.reroute()
        registry.fold({"name": "nodes", "value": 2})
        registry.commit()
        assert registry.text() == "nodes 2.0\n"
        assert registry.rejected() == {"unknown_metric": 1.0}


def test_bounded_series_stand_at_0_and_no_other_is_written(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.shard.expose_at_zero(CATALOGUE.families.values())
        registry.commit()
        text = registry.text()
        frozen = {family.name for family in registry.families.frozen()}
    assert 'votes_cast_total{type="upvote"} 0.0\n' in text
    assert "session_duration_seconds_count 0.0\n" in text
    assert not {"tasks_processed_total", "queue_size", "task_queue_depth"} & frozen


def test_what_a_writer_left_half_written_is_overwritten(tmp_path: Path) -> None:
    families = Families(tmp_path, CATALOGUE, 100)
    families.freeze(CATALOGUE.families["queue_size"])
    with (tmp_path / FILE_NAME).open("ab") as stream:
        stream.write(b'{"name": "vot')
    other = Families(tmp_path, CATALOGUE, 100)
    other.freeze(CATALOGUE.families["votes_cast_total"])
    assert families.refresh()
    assert [family.name for family in families.frozen()] == ["queue_size", "votes_cast_total"]
    assert [family.name for family in Families(tmp_path, CATALOGUE, 100).frozen()] == ["queue_size", "votes_cast_total"]


def test_a_family_that_a_full_disk_takes_in_part_is_not_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    families = Families(tmp_path, CATALOGUE, 100)
    whole_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: whole_pwrite(descriptor, content[:9], at))
    with pytest.raises(OSError, match="No space left"):
        families.freeze(CATALOGUE.families["queue_size"])
    monkeypatch.undo()
    assert list(Families(tmp_path, CATALOGUE, 100).frozen()) == []
    families.freeze(CATALOGUE.families["queue_size"])
    assert [family.name for family in Families(tmp_path, CATALOGUE, 100).frozen()] == ["queue_size"]


@pytest.mark.parametrize(
    "line", [b"[]\n", b"nonsense\n", b"\0\0\0\n", b'{"adopted": true, "size": 7}\n', b"{}\n", b"7\n"]
)
def test_a_foreign_file_is_named_in_one_line(line: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(line)
    with pytest.raises(RegistryError, match=rf"{FILE_NAME}: expected") as refusal:
        Families(tmp_path, CATALOGUE, 100)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "reason"), [("a b", "invalid_name"), ("up", "reserved_name"), ("votes_cast", "name_clash")]
)
def test_a_proposal_that_cannot_be_is_refused_with_its_reason(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError) as refusal:
        Families(tmp_path, CATALOGUE, 100).propose(name, "counter", [], "latest", [])
    assert refusal.value.reason == reason


def test_a_publisher_cannot_have_a_histogram_of_any_number_of_bounds_taken_up(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        buckets = {**{str(bound): 1 for bound in range(MAX_ADOPTED_BUCKETS + 1)}, "+Inf": 0}
        registry.fold({"name": "wide", "type": "histogram", "buckets": buckets, "sum": 1})
        registry.commit()
        assert registry.rejected() == {"bucket_mismatch": 1}


@pytest.mark.parametrize("fsync", [False, True])
def test_with_fsync_a_family_is_on_the_disk_before_its_series_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fsync: bool
) -> None:
    synced: list[str] = []
    fsync_for_real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync_for_real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with Registry(tmp_path, fsync=fsync) as registry:
        synced.clear()
        registry.deliver("a:1", {"name": "surprises_total", "type": "counter", "value": 1})
        registry.commit()
    assert synced[:1] == (["families.jsonl"] if fsync else [])
