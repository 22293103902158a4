from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from busmon import __version__, status
from busmon.exporter.metrics import own as module
from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.own import Durations, Own
from busmon.exporter.readiness import rollcall
from tests.unit.exporter.fleet import NOW, healthy, replicated, shard, supervisor, worker

Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture
def registry_dir(tmp_path: Path) -> Path:
    status.write(
        tmp_path, replace(supervisor(), restarts={"0": 0, "1": 2, "exporter": 1}, config_reloads={"success": 4})
    )
    for process in healthy().workers:
        status.write(tmp_path, process)
    return tmp_path


def own(registry_dir: Path, skipped: Mapping[str, str] = {}, series: Mapping[str, int] = {}) -> Own:
    return Own(registry_dir, lambda: skipped, lambda: series)


def samples(exposition: bytes) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_families(exposition.decode())
        for sample in family.samples
    }


def test_the_fleets_state_is_told(registry_dir: Path) -> None:
    found = samples(own(registry_dir).exposition(Format.TEXT))
    assert found["busmon_workers", ()] == 2
    assert found["busmon_worker_up", (("worker", "0"),)] == 1
    assert found["busmon_worker_restarts_total", (("worker", "0"),)] == 0
    assert found["busmon_worker_restarts_total", (("worker", "1"),)] == 2
    assert found["busmon_worker_restarts_total", (("worker", "exporter"),)] == 1
    assert found["busmon_queue_depth", (("queue", "telemetry.fold.3"),)] == 0
    assert found["busmon_config_reloads_total", (("result", "success"),)] == 4
    assert found["busmon_config_reloads_total", (("result", "failure"),)] == 0
    assert found["process_resident_memory_bytes", ()] > 0


def test_the_quarantines_depth_is_told_by_the_worker_that_knows_it(registry_dir: Path) -> None:
    assert ("busmon_quarantine_depth", ()) not in samples(own(registry_dir).exposition(Format.TEXT))
    status.write(registry_dir, replace(worker(0, shard(0)), quarantined=5))
    assert samples(own(registry_dir).exposition(Format.TEXT))["busmon_quarantine_depth", ()] == 5


def test_a_shard_is_in_exactly_one_of_all_states(registry_dir: Path) -> None:
    status.write(registry_dir, worker(1, shard(1, "blocked"), beat_age=30))
    found = samples(own(registry_dir).exposition(Format.TEXT))
    states = {labels: value for (name, labels), value in found.items() if name == "busmon_shard_state"}
    assert {labels for labels, value in states.items() if value} == {
        (("shard", "0"), ("state", "consuming")),
        (("shard", "1"), ("state", "silent")),
        (("shard", "2"), ("state", "consuming")),
    }
    assert len(states) == 3 * len(rollcall.STATES)


def test_reconnects_are_told_by_worker_so_that_one_workers_end_resets_its_own_series_only(registry_dir: Path) -> None:
    status.write(registry_dir, replace(worker(0, shard(0)), reconnects={"connection_lost": 3}))
    status.write(registry_dir, replace(worker(1, shard(1)), reconnects={"connection_lost": 5}))
    found = samples(own(registry_dir).exposition(Format.TEXT))
    assert found["busmon_reconnects_total", (("cause", "connection_lost"), ("worker", "0"))] == 3
    assert found["busmon_reconnects_total", (("cause", "connection_lost"), ("worker", "1"))] == 5


def test_forwarded_envelopes_are_told_by_worker(registry_dir: Path) -> None:
    status.write(registry_dir, replace(worker(0, shard(0)), forwarded=7))
    found = samples(own(registry_dir).exposition(Format.TEXT))
    assert found["busmon_envelopes_forwarded_total", (("worker", "0"),)] == 7


def test_the_build_is_told(registry_dir: Path) -> None:
    found = samples(own(registry_dir).exposition(Format.TEXT))
    (labels,) = [dict(labels) for name, labels in found if name == "busmon_build_info"]
    assert labels["version"] == __version__


def test_skipped_files_and_series_are_told(registry_dir: Path) -> None:
    found = samples(own(registry_dir, {"counter_x.db": "it is empty"}, {"votes_cast_total": 2}).exposition(Format.TEXT))
    assert found["busmon_scrape_files_skipped", (("file", "counter_x.db"), ("reason", "it is empty"))] == 1
    assert found["busmon_series", (("family", "votes_cast_total"),)] == 2


def test_openmetrics_is_valid_and_says_the_same(registry_dir: Path) -> None:
    families = own(registry_dir)
    exposition = families.exposition(Format.OPENMETRICS).decode()
    assert exposition.endswith("# EOF\n")
    names = {sample.name for family in openmetrics_families(exposition) for sample in family.samples}  # type: ignore[no-untyped-call]
    assert names == {name for name, _ in samples(families.exposition(Format.TEXT))}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"worker": 0, "unheard_of": 1}'])
def test_a_status_file_that_cant_be_read_costs_no_other_family(registry_dir: Path, content: str) -> None:
    (registry_dir / "status" / "worker-9.json").write_text(content)
    found = samples(own(registry_dir).exposition(Format.TEXT))
    assert found["busmon_worker_up", (("worker", "0"),)] == 1
    assert ("busmon_series", ()) not in found


def test_a_collector_that_fails_costs_its_own_families_only(
    registry_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(module, "_fleet", fail)
    names = {name for name, _ in samples(own(registry_dir).exposition(Format.TEXT))}
    assert "busmon_worker_up" not in names
    assert {"busmon_build_info", "busmon_scrape_duration_seconds_count", "process_cpu_seconds_total"} <= names


def test_durations_are_a_cumulative_histogram() -> None:
    durations = Durations()
    for seconds in (0.001, 0.005, 0.2, 60.0):
        durations.observe(seconds)
    buckets = dict(durations.buckets())
    assert (buckets["0.005"], buckets["0.1"], buckets["0.25"], buckets["10.0"], buckets["+Inf"]) == (2, 2, 3, 3, 4)
    assert durations.total == pytest.approx(60.206)


def test_replicas_are_told_with_their_host_and_none_without_replication(registry_dir: Path) -> None:
    plain = own(registry_dir).exposition(Format.TEXT).decode()
    assert "busmon_replica" not in plain
    assert "busmon_shard_owner" not in plain
    status.write(registry_dir, worker(0, replicated(0), replicated(2, "following", "host-b")))
    status.write(registry_dir, worker(1, replicated(1, "reading", "")))
    found = samples(Own(registry_dir, dict, dict, host="host-a").exposition(Format.TEXT))
    told = {key: value for key, value in found.items() if "replica" in key[0] or "log" in key[0] or "owner" in key[0]}
    states = {key: told.pop(key) for key in [*told] if key[0] == "busmon_replica_state"}
    assert len(states) == 3 * 5
    assert {(dict(labels)["shard"], dict(labels)["state"]) for (_, labels), value in states.items() if value} == {
        ("0", "owning"),
        ("1", "reading"),
        ("2", "following"),
    }

    def labels(shard: str, host: str = "host-a") -> tuple[tuple[str, str], ...]:
        return (("host", host), ("shard", shard))

    assert told == {
        ("busmon_shard_owner", labels("0")): 1,
        ("busmon_shard_owner", labels("2", "host-b")): 1,
        ("busmon_replica_lag_seconds", labels("0")): 1.5,
        ("busmon_replica_lag_seconds", labels("2")): 1.5,
        **{("busmon_log_bytes", labels(shard)): 600 for shard in "012"},
        **{("busmon_log_limit_bytes", labels(shard)): 1000 for shard in "012"},
    }
