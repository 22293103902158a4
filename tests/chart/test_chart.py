"""The rendered chart: valid for every installation, restricted, within limits, and of one piece."""

import base64
import gzip
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from busmon import settings
from tests.chart.chart import CHART, NEWEST, OLDEST, Manifest, helm, only, pod, render, size, unchecked, validate
from tests.chart.values import EVERYTHING, INSTALLATIONS, MONITORED

MEBIBYTE = 1_048_576
ANNOTATIONS = 262_144
"""Bytes that all annotations of an object may take, `kubectl apply`'s copy of the object among them."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""That the policy `restricted` allows."""

every_installation = pytest.mark.parametrize("name", INSTALLATIONS)


def pods(documents: list[Manifest]) -> list[Manifest]:
    return [pod(document) for document in documents if document["kind"] in {"StatefulSet", "Deployment", "Job"}]


def fleet(documents: list[Manifest]) -> Manifest:
    (found,) = (document for document in documents if document["kind"] in {"StatefulSet", "Deployment"})
    return found


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@every_installation
def test_the_chart_passes_helms_linter(name: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, values=INSTALLATIONS[name]).stdout


@every_installation
@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.skipif(bool(unchecked()), reason=unchecked())
def test_every_object_is_valid(name: str, kubernetes: str) -> None:
    for document in render(INSTALLATIONS[name], kubernetes=kubernetes):
        validate(document, kubernetes)


@pytest.mark.skipif(bool(unchecked()), reason=unchecked())
@pytest.mark.parametrize("kind", ["StatefulSet", "NetworkPolicy", "PodMonitor", "PrometheusRule"])
def test_the_schemas_refuse_a_field_that_there_isnt(kind: str) -> None:
    document = next(each for each in render(EVERYTHING) if each["kind"] == kind)
    document["spec"]["replica"] = 1
    with pytest.raises(Exception, match="replica"):
        validate(document, NEWEST)


@every_installation
def test_every_pod_meets_the_policy_restricted(name: str) -> None:
    specs = pods(render(INSTALLATIONS[name]))
    assert specs
    for spec in specs:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert context.get("runAsUser") != 0
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= VOLUMES, volume
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}


@every_installation
def test_what_is_mounted_is_a_volume_and_every_volume_is_mounted(name: str) -> None:
    for document in render(INSTALLATIONS[name]):
        if document["kind"] in {"StatefulSet", "Job"}:
            spec = pod(document)
            claimed = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
            volumes = {volume["name"] for volume in spec["volumes"]} | claimed
            mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
            assert mounted == volumes


@every_installation
def test_every_variable_is_a_setting_and_every_file_that_one_names_is_mounted(name: str) -> None:
    rows = {row.variable: row for row in settings.schema.SCHEMA}
    for spec in pods(render(INSTALLATIONS[name])):
        (container,) = spec["containers"]
        mounts = tuple(mount["mountPath"] for mount in container["volumeMounts"])
        for variable in container["env"]:
            said = variable["name"]
            assert said == "BUSMON_CONFIG" or said.removesuffix("_FILE") in rows or said in rows, said
            if said.endswith("_FILE") and said not in rows:
                assert rows[said.removesuffix("_FILE")].secret, said
            if variable.get("value", "").startswith("/"):
                assert variable["value"].startswith(mounts), variable


def test_no_password_stands_in_an_object() -> None:
    text = yaml.safe_dump_all(render(EVERYTHING))
    assert "kind: Secret" not in text
    assert re.findall(r"amqps?://|postgres(?:ql)?://|rediss?://", text) == []


def test_the_settings_are_those_that_busmon_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files,) = (
        each["data"]
        for each in render(EVERYTHING)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "busmon"
    )
    document = tomllib.loads(files["busmon.toml"])
    assert document == EVERYTHING["settings"] | {
        "topology": "/etc/busmon/config/topology.toml",
        "catalogue": ["/etc/busmon/config/billing.toml", "/etc/busmon/config/search.toml"],
    }
    assert files["topology.toml"] == "shards = 8\n"
    assert files["search.toml"] == EVERYTHING["catalogue"]["search.toml"]

    path = tmp_path / "busmon.toml"
    path.write_text(files["busmon.toml"])
    monkeypatch.setenv("BUSMON_CONFIG", str(path))
    assert (settings.load().workers, settings.load().max_bytes) == (4, 268435456)


def test_a_changed_setting_replaces_the_pod() -> None:
    def checksum(values: Manifest) -> str:
        annotations = only(render(values), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum({"settings": {"workers": 3}}) != checksum({})
    assert checksum({"catalogue": {"a.toml": "# a\n"}}) != checksum({"catalogue": {"a.toml": "# b\n"}})
    assert checksum({"service": {"port": 80}}) == checksum({})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"amqp_url": "amqp://fleet:secret@rabbit"}}, "amqp_url"),
        ({"setings": {"workers": 2}}, "setings"),
        ({"urls": {"amqp": {"secret": ""}}}, "urls/amqp/secret"),
        ({"persistence": {"accessModes": ["ReadWriteMany"]}}, "accessModes"),
        ({"web": {"scheme": "HTTPS"}}, "scheme"),
        ({"monitoring": {"rules": {"without": ["recording"]}}}, "without"),
        ({"catalogue": {"busmon.toml": ""}}, "busmon.toml"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
        ({"replicas": 2}, "replicas"),
        ({"replication": {"enabled": True, "replicas": 0}}, "replicas"),
        ({"settings": {"replication": "stream"}}, "replication"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: Manifest, said: str) -> None:
    done = helm("template", "--kube-version", NEWEST, "busmon", CHART, values=values, check=False)
    assert done.returncode == 1
    assert said in done.stderr


@every_installation
def test_selectors_choose_the_fleets_pod_and_not_the_jobs(name: str) -> None:
    documents = render(INSTALLATIONS[name])
    labels = fleet(documents)["spec"]["template"]["metadata"]["labels"]
    jobs = [each["spec"]["template"]["metadata"]["labels"] for each in documents if each["kind"] == "Job"]
    chosen = {
        "Service": lambda spec: spec["selector"],
        "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
    }
    for document in documents:
        if document["kind"] in chosen and not document["metadata"]["name"].endswith("-rabbitmq"):
            selector = chosen[document["kind"]](document["spec"]).items()
            assert selector <= labels.items(), document["kind"]
            assert not any(selector <= each.items() for each in jobs), document["kind"]


def test_the_probes_ask_what_is_restarted_for_and_what_is_routed_for() -> None:
    (container,) = pod(only(render(), "StatefulSet"))["containers"]
    asked = {each: container[f"{each}Probe"]["httpGet"] for each in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/health", "port": "metrics", "scheme": "HTTP"},
        "liveness": {"path": "/health", "port": "metrics", "scheme": "HTTP"},
        "readiness": {"path": "/-/ready", "port": "metrics", "scheme": "HTTP"},
    }
    (secured,) = pod(only(render(EVERYTHING), "StatefulSet"))["containers"]
    assert {secured[f"{each}Probe"]["httpGet"]["scheme"] for each in asked} == {"HTTPS"}


def test_a_target_has_the_labels_that_rules_ask_for_and_none_that_hides_a_familys() -> None:
    monitors = {each["metadata"]["name"]: each for each in render(MONITORED) if each["kind"] == "PodMonitor"}
    for name, job in (("busmon", "busmon"), ("busmon-rabbitmq", "rabbitmq")):
        (endpoint,) = monitors[name]["spec"]["podMetricsEndpoints"]
        relabelings = endpoint["relabelings"]
        assert {"targetLabel": "job", "replacement": job} in relabelings
        assert {"action": "labeldrop", "regex": "container|endpoint"} in relabelings
        assert endpoint["interval"] == "5s"
    targets = [each.get("targetLabel") for each in monitors["busmon"]["spec"]["podMetricsEndpoints"][0]["relabelings"]]
    assert targets == ["job", "instance", None, "registry"]


def test_a_replicated_fleet_is_a_deployment_with_empty_directories_whose_totals_count_once() -> None:
    documents = render(INSTALLATIONS["replicated"])
    found = fleet(documents)
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 3)
    assert found["spec"]["strategy"] == {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    volumes = {volume["name"]: volume for volume in pod(found)["volumes"]}
    assert volumes["registry"] == {"name": "registry", "emptyDir": {"sizeLimit": "5Gi"}}
    assert "PersistentVolumeClaim" not in {document["kind"] for document in documents}
    files = next(each["data"] for each in documents if each["kind"] == "ConfigMap" and "data" in each)
    assert tomllib.loads(files["busmon.toml"]) == {"workers": 2, "replication": "stream"}
    (job,) = pod(only(documents, "Job"))["containers"]
    assert {"name": "BUSMON_REPLICATION", "value": "stream"} in job["env"]
    monitor = next(each for each in documents if each["kind"] == "PodMonitor")
    relabelings = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert relabelings[-1] == {"targetLabel": "registry", "replacement": "telemetry/busmon"}


def test_without_replication_the_one_pod_is_a_stateful_sets() -> None:
    documents = render()
    found = fleet(documents)
    assert (found["kind"], found["spec"]["replicas"]) == ("StatefulSet", 1)
    assert "topologySpreadConstraints" not in pod(found)
    assert "BUSMON_REPLICATION" not in yaml.safe_dump_all(documents)


def test_the_rules_are_those_that_busmon_builds_with_links_of_the_values() -> None:
    rendered = {each["metadata"]["name"]: each for each in render(EVERYTHING) if each["kind"] == "PrometheusRule"}
    files = ("celery", "monitoring", "pipeline", "platform", "recording", "symptoms")
    assert sorted(rendered) == [f"busmon-{name}" for name in files]
    for name, document in rendered.items():
        text = (CHART / f"files/rules/{name.removeprefix('busmon-')}.yml").read_text()
        linked = text.replace("https://runbooks.example.com", "https://wiki.example/busmon").replace(
            "http://localhost:3000/d", "https://grafana.example/d"
        )
        assert document["spec"] == yaml.safe_load(linked)
        assert document["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert "{{ $labels.job }}" in str(rendered["busmon-platform"]["spec"])


def test_rule_files_can_be_left_out() -> None:
    values = {"monitoring": {"rules": {"enabled": True, "without": ["monitoring", "platform"]}}}
    names = {each["metadata"]["name"] for each in render(values) if each["kind"] == "PrometheusRule"}
    assert names == {"busmon-celery", "busmon-pipeline", "busmon-recording", "busmon-symptoms"}


def test_every_dashboard_is_a_config_map_that_grafanas_sidecar_finds() -> None:
    found = {}
    for each in render(EVERYTHING):
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            ((file, text),) = each["data"].items()
            found[file] = json.loads(text)
            assert each["metadata"]["namespace"] == "monitoring"
            assert each["metadata"]["annotations"] == {"grafana_folder": "busmon"}
    assert found == {
        f"busmon-{path.name}": json.loads(path.read_text()) for path in (CHART / "files/dashboards").glob("*.json")
    }


def test_every_object_and_the_release_itself_fit_into_their_limits() -> None:
    documents = render(EVERYTHING)
    largest = max(documents, key=size)
    assert size(largest) < ANNOTATIONS < MEBIBYTE, largest["metadata"]["name"]

    # Helm keeps chart and objects, compressed and as base64, in one secret.
    chart = b"".join(path.read_bytes() for path in CHART.rglob("*") if path.is_file())
    record = chart + yaml.safe_dump_all(documents).encode()
    assert len(base64.b64encode(base64.b64encode(gzip.compress(record)))) < MEBIBYTE


def test_names_of_a_long_release_stay_within_kubernetes_limits() -> None:
    for document in render(EVERYTHING, release="r" * 53):
        assert len(document["metadata"]["name"]) <= 63, document["kind"]
    assert len(only(render(release="r" * 53), "StatefulSet")["metadata"]["name"]) <= 52


@pytest.mark.skipif(bool(unchecked()), reason=unchecked())
def test_the_installation_of_the_docs_is_valid_and_its_secrets_are_those_that_the_docs_make() -> None:
    page = (CHART.parents[1] / "docs/kubernetes.md").read_text()
    (values,) = re.findall(r"--values - <<'END'\n(.+?)END\n", page, re.DOTALL)
    made = dict(re.findall(r"create secret generic ([\w-]+)((?: \\\n)?(?: .*\n?)+?)(?=kubectl|helm)", page))
    documents = render(yaml.safe_load(values))
    for document in documents:
        validate(document, NEWEST)
    for spec in pods(documents):
        for volume in spec["volumes"]:
            sources = [each["secret"] for each in volume.get("projected", {}).get("sources", [])]
            if "secret" in volume:
                sources.append({"name": volume["secret"]["secretName"], "items": volume["secret"]["items"]})
            for source in sources:
                assert source["name"] in made
                assert {item["key"] for item in source["items"]} <= set(
                    re.findall(r"--from-literal=(\w+)=", made[source["name"]])
                )
