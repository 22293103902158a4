"""No publisher makes a series that passes for one of Prometheus, of a recording rule or of another program's alerts."""

from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.naming import RULED_METRICS
from busmon.errors import CatalogueError
from busmon.wire import json_v1
from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import CATALOGUE, NOW, Registry

FORGED = (
    "agent:tasks:error_rate5m",
    "service:service_up:min",
    ":",
    "a:b:c",
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "scrape_duration_seconds",
    "scrape_anything",
    "busmon_ready",
    "busmon_envelopes_consumed_total",
    "busmon_of_mine",
    "__name__",
    *sorted(RULED_METRICS),
)


def own_json(**stated: Any) -> bytes:
    return orjson.dumps({"v": 1, "source": "s", "agent": "a", **stated})


def sample(name: str) -> bytes:
    return own_json(samples=[{"name": name, "type": "gauge", "value": 1}])


def table(name: str) -> bytes:
    return own_json(tables=[{"name": name, "type": "gauge", "labels": [], "rows": [[1]]}])


def cloudevent(name: str) -> bytes:
    data = orjson.loads(sample(name))
    return orjson.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": data})


def otlp(name: str) -> bytes:
    gauge = {"name": name, "gauge": {"dataPoints": [{"asDouble": 1}]}}
    return orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge]}]}]})


def influx(name: str) -> bytes:
    return f"{name} value=1".encode()


def exposition(name: str) -> bytes:
    return f"# TYPE {name} gauge\n{name} 1\n".encode()


def quoted(name: str) -> bytes:
    return f'# TYPE "{name}" gauge\n{{"{name}"}} 1\n'.encode()


def statsd(name: str) -> bytes:
    return f"{name}:1|g".encode()


FORMATS: Mapping[str, tuple[str, Callable[[str], bytes]]] = {
    "sample": ("json", sample),
    "table": ("json", table),
    "otlp": ("otlp", otlp),
    "influx": ("influx", influx),
    "prometheus": ("prometheus", exposition),
    "prometheus, quoted": ("prometheus", quoted),
    "statsd": ("statsd", statsd),
    "etsy_statsd": ("etsy_statsd", statsd),
    "cloudevents": ("cloudevents", cloudevent),
}


def decoded(format_: str, body: bytes) -> Envelope:
    if format_ == "json":
        return json_v1.decode(body, None, None, 1 << 20)
    content_type = "application/json" if format_ in {"otlp", "cloudevents"} else None
    return DECODERS[format_](Arrival(body, content_type, None, 1 << 20))


def is_kept(name: str, format_: str) -> bool:
    """OpenTelemetry's names lose '_' at their ends and a gauge's `_total`: these no longer pass for another's."""
    return format_ != "otlp" or name.startswith("busmon_") or not (name.endswith("_total") or name.startswith("_"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_that_passes_for_anothers_is_refused_in_every_format(form: str, tmp_path: Path) -> None:
    format_, body = FORMATS[form]
    with Registry(tmp_path) as registry:
        for name in FORGED:
            for _ in range(2):  # the second meets what the fleet remembers of the first
                registry.shard.fold.envelope(decoded(format_, body(name)), NOW)
        registry.shard.fold.envelope(decoded(format_, body("load")), NOW)
        registry.commit()
        shown = {line.partition("{")[0].partition(" ")[0] for line in registry.text("").splitlines()}
        assert shown & {*FORGED} <= {"busmon_envelopes_consumed_total"}
        assert not [name for name in shown if ":" in name or name.startswith(("busmon_of_mine", "scrape_"))]
        assert "load" in shown
        assert registry.rejected() == {"reserved_name": 2.0 * sum(map(is_kept, FORGED, repeat(format_)))}


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        ("counter", "node_cpu_seconds"),
        ("counter", "up"),
        ("histogram", "busmon"),
        ("summary", "busmon"),
        ("counter", "busmon"),
        ("counter", "prometheus_rule_evaluation_failures"),
        ("summary", "up"),
    ],
)
def test_neither_does_a_part_of_a_metric(type_: str, name: str, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold({"name": name, "type": type_, "value": 1})
        registry.commit()
        assert registry.rejected() == {"reserved_name": 1}


def test_a_catalogue_may_name_another_programs_metric(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[gauge.node_memory_MemTotal_bytes]\nhelp = "Of hosts that nothing scrapes."\nlabels = ["host"]\n')
    (tmp_path / "registry").mkdir()
    with Registry(tmp_path / "registry", catalogue=Catalogue.load([path])) as registry:
        registry.fold({"name": "node_memory_MemTotal_bytes", "labels": {"host": "a"}, "value": 8})
        registry.commit()
        assert registry.text("node_") == 'node_memory_MemTotal_bytes{host="a"} 8.0\n'
        assert registry.rejected() == {}


def test_a_catalogue_names_no_recording_rule(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[gauge."job:errors:rate5m"]\nhelp = "x"\n')
    with pytest.raises(CatalogueError, match=r"own.toml: .*':' is for the names of recording rules"):
        Catalogue.load([path])
    path.write_text('[[mappings]]\nmatch = "x"\nname = "job:errors:rate5m"\n')
    with pytest.raises(CatalogueError, match=r"own.toml: .*':' is for the names of recording rules"):
        Catalogue.load([path])


def test_what_an_earlier_version_took_up_is_counted_no_more_and_can_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = {"name": "agent:tasks:error_rate5m", "type": "gauge", "value": 1}
    with monkeypatch.context() as earlier, Registry(tmp_path) as registry:
        earlier.setattr("busmon.catalogue.naming.adoption_fault", lambda *_: None)
        earlier.setattr("busmon.catalogue.naming.metric_name_fault", lambda *_: None)
        registry.fold(forged)
        registry.commit()
        assert registry.text("agent:") == "agent:tasks:error_rate5m 1.0\n"
    with Registry(tmp_path, catalogue=CATALOGUE) as registry:
        registry.fold(forged | {"value": 2})
        registry.commit()
        assert registry.text("agent:") == "agent:tasks:error_rate5m 1.0\n"
        assert registry.rejected() == {"reserved_name": 1}
        registry.drop("agent:tasks:error_rate5m")
        assert registry.text("agent:") == ""


def test_a_counter_that_had_no_name_but_its_suffix_hides_no_other_once_it_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = {"name": "_total", "type": "counter", "value": 1}
    with monkeypatch.context() as earlier, Registry(tmp_path) as registry:
        earlier.setattr("busmon.catalogue.naming.metric_name_fault", lambda *_: None)
        registry.fold(nameless, {"name": "orders_total", "type": "counter", "value": 3})
        registry.commit()
    with Registry(tmp_path, catalogue=CATALOGUE) as registry:
        registry.fold(nameless)
        registry.commit()
        assert registry.rejected() == {"invalid_name": 1}
        registry.drop("_total")
        assert registry.text("orders_") == "orders_total 3.0\n"
