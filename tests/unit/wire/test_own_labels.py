"""Labels and metrics that a scrape has of its own keep their values under another name, in every format."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest
from opentelemetry.metrics import Observation
from prometheus_client import CollectorRegistry, ProcessCollector

from busmon.catalogue import naming
from busmon.catalogue.catalogue import Catalogue
from busmon.wire import json_v1
from busmon.wire.arrival import Arrival
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import NOW, Registry, parsed, series

from .folded import Folded
from .producers import Sdk

OWN = {"pid": "7", "le": "0.5", "quantile": "0.9", "job": "j", "instance": "i"}
EXPORTED = {f"exported_{label}": value for label, value in OWN.items()}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path) as opened:
        yield opened


def body(format_: str, labels: Mapping[str, str]) -> bytes:
    """A gauge `depth` of 4 with these labels."""
    tags = ",".join(f"{label}={value}" for label, value in labels.items())
    match format_:
        case "otlp":
            sdk = Sdk()
            sdk.meter.create_gauge("depth").set(4, dict(labels))
            return sdk.export()
        case "statsd":
            return f"depth:4|g|#{tags.replace('=', ':')}".encode()
        case "influx":
            return f"depth,{tags} value=4".encode()
        case "prometheus":
            pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
            return f"# TYPE depth gauge\ndepth{{{pairs}}} 4\n".encode()
    raise ValueError(format_)


@pytest.mark.parametrize("format_", ["otlp", "statsd", "influx", "prometheus"])
def test_a_producers_labels_are_exported_under_other_names(format_: str, tmp_path: Path) -> None:
    folded = Folded(tmp_path, format_)
    folded.take(body(format_, OWN), now=1e10)
    agent = {"agent": "checkout"} if format_ == "otlp" else {}
    assert folded.value("depth", **agent, **EXPORTED) == 4
    assert folded.rejected() == {}
    folded.close()


@pytest.mark.parametrize("form", ["sample", "table"])
def test_so_are_those_of_busmons_own_json(form: str, registry: Registry) -> None:
    sample = {"name": "depth", "type": "gauge", "labels": OWN, "value": 4}
    table = {"name": "depth", "type": "gauge", "labels": [*OWN], "rows": [[*OWN.values(), 4]]}
    stated = {"samples": [sample]} if form == "sample" else {"tables": [table]}
    document = orjson.dumps({"v": 1, "source": "s", **stated})
    for _ in range(2):  # the second goes the short way
        registry.shard.fold.envelope(json_v1.decode(document, None, None, 1 << 20), NOW)
        registry.commit()
    assert parsed(registry.text(""))[series("depth", **EXPORTED)] == 4
    assert registry.rejected() == {}


def test_each_process_of_a_multiprocess_gauge_is_a_series(tmp_path: Path) -> None:
    folded = Folded(tmp_path, "prometheus")
    folded.take(b'# TYPE busy gauge\nbusy{pid="17"} 1\nbusy{pid="18"} 2\n')
    assert [folded.value("busy", exported_pid=pid) for pid in ("17", "18")] == [1, 2]
    folded.close()


def test_telegrafs_buckets_and_quantiles_are_readings_by_bound(tmp_path: Path) -> None:
    folded = Folded(tmp_path, "influx")
    folded.take(
        b"prometheus,host=a,le=0.5,url=http://x request_seconds_bucket=3 1700000000000000000\n"
        b"prometheus,host=a,le=+Inf,url=http://x request_seconds_bucket=4 1700000000000000000\n"
        b"prometheus,host=a,url=http://x request_seconds_sum=2.5,request_seconds_count=4 1700000000000000000\n"
        b"prometheus,host=a,quantile=0.9,url=http://x gc_seconds=0.25 1700000000000000000\n"
    )
    own = {"host": "a", "url": "http://x"}
    assert folded.value("prometheus_request_seconds_bucket", exported_le="0.5", **own) == 3
    assert folded.value("prometheus_request_seconds_bucket", exported_le="+Inf", **own) == 4
    assert folded.value("prometheus_request_seconds_count", **own) == 4
    assert folded.value("prometheus_gc_seconds", exported_quantile="0.9", **own) == 0.25
    assert folded.rejected() == {}
    folded.close()


def test_values_of_labels_that_become_one_are_joined(tmp_path: Path) -> None:
    folded = Folded(tmp_path, "statsd")
    folded.take(b"hits:1|c|#pid:1,exported_pid:2\nhits:2|c|#pid:1,exported_pid:3\n")
    assert folded.value("hits_total", exported_pid="2;1") == 1
    assert folded.value("hits_total", exported_pid="3;1") == 2
    folded.close()


# -- metrics of a process ----------------------------------------------------------------------------------------------


def test_the_exporter_has_the_metrics_that_are_taken_for_its_own() -> None:
    families = ProcessCollector(registry=CollectorRegistry()).collect()
    names = {sample.name for family in families for sample in family.samples} | {"process_cpu_seconds"}
    assert names == naming.EXPORTER_METRICS


def test_opentelemetrys_process_metrics_are_taken(tmp_path: Path) -> None:
    sdk, folded = Sdk(), Folded(tmp_path, "otlp")
    sdk.meter.create_counter("process.cpu.time", unit="s").add(2.5, {"process.cpu.state": "user"})
    sdk.meter.create_observable_gauge("process.memory.usage", [lambda _: [Observation(1024)]], unit="By")
    folded.take(sdk.export(), now=1e10)
    assert folded.value("process_cpu_time_seconds_total", agent="checkout", process_cpu_state="user") == 2.5
    assert folded.value("process_memory_usage_bytes", agent="checkout") == 1024
    assert folded.rejected() == {}
    folded.close()


@pytest.mark.parametrize("format_", ["prometheus", "json"])
def test_metrics_that_the_exporter_has_of_itself_are_exported_under_other_names(format_: str, tmp_path: Path) -> None:
    text = b"# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 3\n"
    text += b"# TYPE process_open_fds gauge\nprocess_open_fds 9\n"
    samples = [
        {"name": "process_cpu_seconds_total", "type": "counter", "labels": {"agent": "a"}, "value": 3},
        {"name": "process_open_fds", "type": "gauge", "labels": {"agent": "a"}, "value": 9},
    ]
    with Registry(tmp_path) as registry:
        envelope = (
            DECODERS["prometheus"](Arrival(text, None, None, 1 << 20, "a", published_at=NOW))
            if format_ == "prometheus"
            else json_v1.decode(orjson.dumps({"v": 1, "source": "s", "samples": samples}), None, None, 1 << 20)
        )
        registry.shard.fold.envelope(envelope, NOW)
        registry.commit()
        found = parsed(registry.text(""))
        assert found[series("exported_process_cpu_seconds_total", agent="a")] == 3
        assert found[series("exported_process_open_fds", agent="a")] == 9
        assert registry.rejected() == {}


def test_a_mapping_rule_gives_them_another_name(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(
        '[[mappings]]\nmatch = "process_resident_memory_bytes"\nname = "agent_memory_usage_bytes"\n'
        '[[mappings]]\nmatch = "process.cpu.time"\nname = "agent_cpu_seconds_total"\n'
    )
    (tmp_path / "registry").mkdir()
    with Registry(tmp_path / "registry", catalogue=Catalogue.load([path])) as registry:
        sdk = Sdk()
        sdk.meter.create_counter("process.cpu.time", unit="s").add(2.5, {"process.cpu.state": "user"})
        text = b"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 1024"
        for format_, body_ in (("otlp", sdk.export()), ("prometheus", text)):
            arrival = Arrival(body_, None, None, 1 << 20, "checkout")
            registry.shard.fold.envelope(DECODERS[format_](arrival), 1e10)
        registry.commit(1e10)
        found = parsed(registry.text(""))
        assert found[series("agent_cpu_seconds_total", agent="checkout")] == 2.5
        assert found[series("agent_memory_usage_bytes", agent="checkout")] == 1024
