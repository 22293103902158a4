"""Exemplars in a scrape: the newest of each line over all shards, in OpenMetrics alone."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from busmon.registry.scrape.exposition import Exposition
from tests.unit.registry.registries import NOW, Registry

Rows = list[list[Any]]


def write(directory: Path, shard: int, families: dict[str, Rows]) -> None:
    draft = directory / "draft"
    draft.write_bytes(orjson.dumps(families))
    draft.replace(directory / f"exemplars_shard{shard}.json")


def exemplars(exposition: Exposition) -> dict[tuple[str, str], tuple[dict[str, str], float, float]]:
    """Parse the exemplars, by sample name and `le`."""
    text = exposition.openmetrics().decode() + "# EOF\n"
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # not annotated there
    return {
        (sample.name, sample.labels.get("le", "")): (
            sample.exemplar.labels,
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for family in families
        for sample in family.samples
        if sample.exemplar
    }


@pytest.fixture
def exposition(tmp_path: Path) -> Exposition:
    with Registry(tmp_path) as registry:
        registry.fold(
            {"name": "waits", "type": "histogram", "labels": {"zone": 'n"\n\\'}, "values": [0.2, 3]},
            {"name": "hits", "type": "counter", "labels": {"page": "/"}, "value": 1},
            {"name": "plain", "type": "counter", "value": 1},
        )
        registry.commit()
    return Exposition(tmp_path)


def test_the_newest_of_each_line_is_shown_in_openmetrics_alone(tmp_path: Path, exposition: Exposition) -> None:
    zone = {"zone": 'n"\n\\'}
    write(
        tmp_path,
        0,
        {"waits": [[zone, "0.25", {"trace_id": "old"}, 0.2, NOW], [zone, "+Inf", {"trace_id": "t"}, 30, NOW]]},
    )
    write(
        tmp_path,
        1,
        {"waits": [[zone, "0.25", {"trace_id": "new"}, 0.21, NOW + 1]], "plain": [[{}, "", {"trace_id": "p"}, 1, NOW]]},
    )
    assert exemplars(exposition) == {
        ("waits_bucket", "0.25"): ({"trace_id": "new"}, 0.21, NOW + 1),
        ("waits_bucket", "+Inf"): ({"trace_id": "t"}, 30.0, NOW),
        ("plain_total", ""): ({"trace_id": "p"}, 1.0, NOW),
    }
    assert b"trace_id" not in exposition.text()
    write(tmp_path, 1, {"hits": [[{"page": "/"}, "", {"trace_id": "h"}, 1, NOW]]})
    assert exemplars(exposition)["hits_total", ""] == ({"trace_id": "h"}, 1.0, NOW)
    assert exemplars(exposition)["waits_bucket", "0.25"][0] == {"trace_id": "old"}


@pytest.mark.parametrize(
    "row",
    [
        [{"page": "/"}, "", {"trace_id": "x" * 121}, 1, NOW],
        [{"page": "/"}, "", {"trace id": "t"}, 1, NOW],
        [{"page": "/"}, "", {"trace_id": "t"}, 1e400, NOW],
        [{"page": "/"}, "", {"trace_id": "t"}, 1, None],
        [{"page": "/other"}, "", {"trace_id": "t"}, 1, NOW],
        [{"page": "/"}, "0.5", {"trace_id": "t"}, 1, NOW],
    ],
    ids=["too long", "no label", "infinite", "no time", "no such series", "no such bucket"],
)
def test_what_openmetrics_does_not_allow_is_left_out(tmp_path: Path, exposition: Exposition, row: list[Any]) -> None:
    write(tmp_path, 0, {"hits": [row]})
    assert exemplars(exposition) == {}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"hits": 1}', b'{"hits": [[1]]}', b'{"hits": [[{}, [], {}, 1, 2]]}']
)
def test_a_file_that_is_none_is_named_and_breaks_nothing(
    tmp_path: Path, exposition: Exposition, content: bytes
) -> None:
    (tmp_path / "exemplars_shard0.json").write_bytes(content)
    assert b'hits_total{page="/"} 1.0\n' in exposition.openmetrics()
    assert set(exposition.skipped) <= {"exemplars_shard0.json"}


def test_what_a_shard_writes_is_shown(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold({"name": "hits", "type": "counter", "value": 1, "trace_id": "4bf92f"})
        registry.commit()
        registry.shard.write_for_readers()
    assert exemplars(Exposition(tmp_path))["hits_total", ""][0] == {"trace_id": "4bf92f"}
