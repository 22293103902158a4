"""Gauges that outlive their source: what a job said last stays, one value however many jobs there were."""

from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.registry.scrape.exposition import Exposition
from busmon.registry.storage import journal
from busmon.wire.envelope import Envelope, Part, Point
from busmon.wire.floats import go_float
from tests.unit.registry.registries import CATALOGUE, NOW, Registry, catalogue, parsed, scrape, stock, without_own

NAME = "batch_job_last_success_timestamp_seconds"
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}, "value": 42}


def success(at: float, job: str = "backup") -> dict[str, Any]:
    return {"name": NAME, "labels": {"job_name": job}, "value": at}


def line(at: float, job: str = "backup") -> str:
    return f'{NAME}{{job_name="{job}"}} {go_float(at)}\n'


def run(registry: Registry, source: str, at: float, **stated: Any) -> None:
    """A job that starts, says that it ended well, and is gone."""
    registry.deliver(None, success(at), QUEUE, source=source, now=at, final=True, **stated)
    registry.commit(at)


def shares(registry: Registry) -> list[Any]:
    """Read the shares of outliving gauges that the shard's next owner learns."""
    return [*orjson.loads(registry.shard._state.snapshot())["shares"].get("gauge_mostrecent", [])]


def test_its_value_stays_when_its_source_says_that_it_stops_and_when_it_was_silent_for_long(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        run(registry, "job-1", 1000.0)
        assert registry.text() == line(1000.0)
        registry.deliver(None, success(2000.0), QUEUE, source="job-2", now=2000.0)
        registry.commit(2000.0)
        assert registry.shard.expire(NOW) == 1
        registry.commit(NOW)
        assert registry.text() == line(2000.0)
    with Registry(tmp_path) as registry:
        assert registry.shard.expire(NOW) == 0
    assert scrape(tmp_path) == line(2000.0)
    assert without_own(stock(tmp_path))[next(iter(parsed(line(2000.0))))] == 2000.0


def test_only_a_later_value_takes_its_place_whoever_says_it(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for source, at, told in (("a", 1000.0, 1000.0), ("b", 3000.0, 3000.0), ("c", 2000.0, 3000.0)):
            run(registry, source, at)
            assert registry.text(NAME) == line(told)
        registry.deliver(None, success(7.0), source="a", ts=4000.0, now=4000.0)
        registry.commit(4000.0)
        assert registry.text(NAME) == line(7.0)


def test_each_shard_keeps_its_own_and_a_scrape_tells_the_latest(tmp_path: Path) -> None:
    with Registry(tmp_path) as first, Registry(tmp_path, 1) as second:
        run(second, "job-2", 2000.0)
        run(first, "job-1", 1000.0)
    assert scrape(tmp_path) == line(2000.0)


def test_every_form_of_a_sample_is_kept_alike(tmp_path: Path) -> None:
    table = {"name": NAME, "labels": ["job_name"], "rows": [["rows", 1000.0], ["others", 1000.0]]}
    point = Point("last_success", NAME, "gauge", 1000.0, {"job_name": "points"})
    with Registry(tmp_path) as registry:
        for number in range(3):
            source = f"job-{number}"
            registry.fold(success(1000.0, "samples"), tables=[table], source=source)
            parts = [Part(source, "a", {}, [point])]
            registry.shard.fold.envelope(Envelope(source, "a", None, [], [], parts=parts), NOW)
            registry.commit()
            registry.shard.fold.leave([source])
            registry.commit()
        assert registry.text() == "".join(line(1000.0, job) for job in ("others", "points", "rows", "samples"))
        assert len(shares(registry)) == 4


def test_it_takes_no_more_room_for_any_number_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 2000)
    with Registry(tmp_path) as registry:
        for number in range(50):
            run(registry, f"job-{number}", 1000.0 + number)
        assert [(source, value) for _, source, (_, value, _) in shares(registry)] == [("", 1049.0)]
        assert [*registry.shard._files.columns["gauge_mostrecent"].shares.sources()] == [""]
        entries = [key for key, _ in registry.shard._files.values["gauge_mostrecent"].entries() if NAME.encode() in key]
        assert len(entries) == 1
    with Registry(tmp_path) as registry:
        assert len(shares(registry)) == 1


def test_its_familys_own_ttl_hides_it(tmp_path: Path) -> None:
    text = f'[gauge.{NAME}]\nhelp = "A"\nlabels = ["job_name"]\noutlives_source = true\n'
    lasting, own = CATALOGUE, catalogue(tmp_path, f"{text}ttl_seconds = 60\n")
    with Registry(tmp_path, catalogue=own) as registry:
        run(registry, "job-1", NOW)
    for families, now, shown in ((lasting, NOW + 1e7, True), (own, NOW + 60, True), (own, NOW + 61, False)):
        told = Exposition(tmp_path, families, partial(float, now)).text().decode()
        assert (line(NOW) in told) is shown


def test_dropping_its_series_removes_it(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        run(registry, "job-1", 2000.0)
        assert registry.drop(NAME) == 1
        assert registry.text() == ""
        run(registry, "job-2", 1000.0)
        assert registry.text() == line(1000.0)


def test_a_family_that_was_written_otherwise_stays_so_until_it_is_dropped(tmp_path: Path) -> None:
    earlier = catalogue(tmp_path, f'[gauge.{NAME}]\nhelp = "A"\nlabels = ["job_name"]\n')
    with Registry(tmp_path, catalogue=earlier) as registry:
        registry.fold(success(1000.0), source="job-1")
        registry.commit()
    written = tmp_path / "families.jsonl"
    definitions = [orjson.loads(definition) for definition in written.read_bytes().splitlines()]
    for definition in definitions:
        del definition["outlives_source"]  # as an earlier version wrote them
    written.write_bytes(b"".join(orjson.dumps(definition) + b"\n" for definition in definitions))
    with Registry(tmp_path) as registry:
        assert registry.families.list_refused() == [NAME]
        run(registry, "job-1", 2000.0)
        assert registry.text() == ""
        registry.drop(NAME)
        assert registry.families.list_refused() == []
        run(registry, "job-2", 3000.0)
        assert registry.text() == line(3000.0)


KEPT = {"name": "backup_size_bytes", "type": "gauge", "labels": {"db": "a"}, "outlives_source": True}


def test_a_publisher_states_it_for_a_metric_that_no_catalogue_names(tmp_path: Path) -> None:
    table = {**KEPT, "labels": ["db"], "rows": [["b", 7]]}
    with Registry(tmp_path) as registry:
        registry.deliver(None, KEPT | {"value": 42}, tables=[table], source="job-1", final=True)
        registry.commit()
        assert registry.rejected() == {}
    with Registry(tmp_path) as registry:
        told = 'backup_size_bytes{db="a"} 42.0\nbackup_size_bytes{db="b"} 7.0\n'
        assert registry.text() == told
        assert registry.shard.expire(NOW + 1e6) == 0
    later = Exposition(tmp_path, CATALOGUE, partial(float, NOW + 1e7)).text().decode()
    assert "".join(f"{line}\n" for line in later.splitlines() if line.startswith("backup_size_bytes{")) == told


def test_who_does_not_say_it_goes_by_who_said_it_first(tmp_path: Path) -> None:
    plain = {key: value for key, value in KEPT.items() if key != "outlives_source"}
    with Registry(tmp_path) as registry:
        says: list[dict[str, Any]] = [{}, {"outlives_source": False}, {"outlives_source": None}]
        for number, stated in enumerate(says, start=1):
            at = NOW + number
            registry.deliver(None, KEPT | {"value": 0}, source=f"job-{number}", now=at - 0.5, final=True)
            registry.deliver(None, plain | stated | {"value": number}, source=f"other-{number}", now=at, final=True)
            registry.commit(at)
            assert registry.text() == f'backup_size_bytes{{db="a"}} {number}.0\n'
        assert registry.rejected() == {}


def test_it_cannot_be_stated_of_a_metric_that_was_taken_up_without_it(tmp_path: Path) -> None:
    plain = {key: value for key, value in KEPT.items() if key != "outlives_source"}
    with Registry(tmp_path) as registry:
        registry.fold(plain | {"value": 1}, source="s-1")
        registry.fold(KEPT | {"value": 2}, source="s-2")
        registry.commit()
        assert registry.rejected() == {"outlives_source_mismatch": 1.0}
        assert registry.text() == 'backup_size_bytes{db="a"} 1.0\n'
        registry.drop("backup_size_bytes")
        registry.fold(KEPT | {"value": 3}, source="s-3")
        registry.shard.fold.leave(["s-3"])
        registry.commit()
        assert registry.text() == 'backup_size_bytes{db="a"} 3.0\n'
