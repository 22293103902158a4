import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec.models import ComposeSpecification
from packaging.requirements import Requirement

from busmon.cli import parser
from busmon.demo.rabbitmq import script
from busmon.settings.schema import SCHEMA
from tests.stack import inbox

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

# Debian's programs that stand for the images'.
PROGRAMS = {
    "prometheus": "prometheus",
    "prometheus-b": "prometheus",
    "alertmanager": "prometheus-alertmanager",
    "alertmanager-b": "prometheus-alertmanager",
    "node-exporter": "prometheus-node-exporter",
    "victoriametrics": "victoria-metrics",
}
PORTS = {
    "busmon": {9797},
    "rabbitmq": {5672, 15672, 15692},
    "postgres": {5432},
    "redis": {6379},
    "prometheus": {9090},
    "prometheus-b": {9090},
    "inbox": {9095},
    "alertmanager": {9093, 9094},
    "alertmanager-b": {9093, 9094},
    "host.docker.internal": {9100},
    "victoriametrics": {8428},
    "grafana": {3000},
}
EXTRAS = ("postgres", "redis", "otlp")
"""That the image has."""

OF_BUSMON = [name for name, service in SERVICES.items() if "build" in service]
CONFIGURATIONS = sorted((DOCKER / "prometheus").glob("*.yml"))

every_service = pytest.mark.parametrize("name", SERVICES)


def command(name: str) -> list[str]:
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[name].get("command", [])]


def test_the_compose_file_is_one_by_the_specification() -> None:
    assert ComposeSpecification(**COMPOSE)


def test_the_dockerfile_passes_its_linter() -> None:
    subprocess.run([Path(sys.executable).with_name("hadolint"), DOCKER / "Dockerfile"], check=True)


def test_the_dockerfile_copies_what_there_is_and_what_isnt_ignored() -> None:
    kept = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}

    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_runs_as_nobody_in_particular_and_knows_its_settings() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()

    assert re.search(r"^USER [1-9]\d*$", dockerfile, re.MULTILINE)
    image = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert set(re.findall(r"BUSMON_\w+(?==)", image)) <= {row.variable for row in SCHEMA}
    assert {service["read_only"] for service in map(SERVICES.__getitem__, OF_BUSMON)} == {True}


def test_the_image_is_compiled_and_runs_without_a_compiler() -> None:
    stages = (DOCKER / "Dockerfile").read_text().split("\nFROM ")[1:]
    bases = [stage.split()[0] for stage in stages]

    assert ["BUSMON_COMPILE=required" in stage for stage in stages] == [True, False, False]
    assert ["-slim-" in base for base in bases] == [False, True, True]
    # An extension module fits the version of Python that it was compiled for.
    assert {base.replace("-slim", "") for base in bases} == {bases[0]}


def test_every_package_of_the_image_is_locked_by_hash_and_is_one_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    optional = project["project"]["optional-dependencies"]
    wanted = {
        "requirements": [*project["project"]["dependencies"], *(each for name in EXTRAS for each in optional[name])],
        "build-requirements": ["build", *project["build-system"]["requires"]],
    }
    for name, requirements in wanted.items():
        text = (DOCKER / f"{name}.txt").read_text()
        locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE))
        assert len(locked) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(locked[requirement.name.lower()]), f"{requirement}: run `make lock`"


def test_every_image_is_pinned() -> None:
    froms = re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    images = [service["image"] for service in SERVICES.values() if "build" not in service]

    assert [image for image in froms + images if not re.search(r":v?\d+\.\d+", image)] == []


@every_service
def test_every_service_has_limits(name: str) -> None:
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


@every_service
def test_every_mounted_file_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).partition(":")[0]
        if source.startswith("."):
            assert (DOCKER / source).exists(), volume
        elif not source.startswith("/"):
            assert source in COMPOSE["volumes"], volume


@every_service
def test_who_waits_for_health_waits_for_someone_who_is_checked(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        # The image of busmon has a check of its own.
        checked = "healthcheck" in SERVICES[other] or other in OF_BUSMON
        assert how["condition"] == "service_completed_successfully" or checked, other
        profiles = SERVICES[other].get("profiles")
        assert not profiles or profiles == SERVICES[name].get("profiles") or how.get("required") is False


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_flag_is_one_of_its_program(name: str) -> None:
    said = subprocess.run([PROGRAMS[name], "--help"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"(?<![\w-])--?([a-z][\w.-]+)", said.stdout + said.stderr, re.IGNORECASE))

    assert {re.match(r"--?([\w.-]+)", flag)[1] for flag in command(name)} <= known  # type: ignore[index]


@pytest.mark.parametrize("name", [name for name in OF_BUSMON if "entrypoint" not in SERVICES[name]])
def test_busmon_takes_its_command_and_settings(name: str) -> None:
    assert parser().parse_args(command(name))
    assert set(SERVICES[name].get("environment", {})) <= {row.variable for row in SCHEMA}


def test_no_password_has_a_default() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+_PASSWORD)", text))

    assert re.findall(r"\$\{\w*PASSWORD:?-", text) == []
    assert named == set(re.findall(r"\$\{(\w+_PASSWORD):\?", text))
    assert named == set(re.findall(r"^(\w+_PASSWORD)=", (DOCKER / "demo.env").read_text(), re.MULTILINE))


def test_every_address_is_a_services() -> None:
    files = [
        *DOCKER.glob("prometheus/**/*.yml"),
        *DOCKER.glob("grafana/provisioning/**/*.yml"),
        DOCKER / "compose.yaml",
    ]
    for path in files:
        if path.parent.name == "rules":
            continue
        for host, port in re.findall(r"[\"/@=]([a-z][a-z-]+):(\d{4,5})\b", path.read_text()):
            assert host == "localhost" or int(port) in PORTS.get(host, set()), f"{path.name}: {host}:{port}"


def test_rabbitmq_loads_what_busmon_exports_with_plugins_that_there_are() -> None:
    configured = (DOCKER / "rabbitmq/rabbitmq.conf").read_text()
    plugins = re.findall(r"rabbitmq_\w+", (DOCKER / "rabbitmq/enabled_plugins").read_text())
    installed = [path.name for path in script("rabbitmq-server").parents[1].glob("**/plugins/*")]

    words = command("definitions")
    assert f"load_definitions = {words[words.index('--output') + 1]}" in configured
    assert [plugin for plugin in plugins if not any(name.startswith(plugin) for name in installed)] == []


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: str(path.name))
def test_prometheus_takes_every_configuration(path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool
    done = subprocess.run([promtool, "check", "config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_other_configurations_are_prometheus_yml_with_what_they_add() -> None:
    base = (DOCKER / "prometheus/prometheus.yml").read_text()

    assert (DOCKER / "prometheus/cold.yml").read_text().startswith(base)
    assert (DOCKER / "prometheus/prometheus-b.yml").read_text() == base.replace("replica: a", "replica: b")


def test_the_shards_are_alike_but_for_their_number() -> None:
    first, second = ((DOCKER / f"prometheus/shard-{number}.yml").read_text() for number in (0, 1))
    same = (
        second.replace("# Shard 1", "# Shard 0").replace('shard: "1"', 'shard: "0"').replace('regex: "1"', 'regex: "0"')
    )

    assert first == same


def test_the_demos_alertmanager_is_the_shipped_one_with_the_inbox_for_every_receiver(tmp_path: Path) -> None:
    addressed = Path(shutil.copy(DOCKER / "alertmanager/alertmanager.yml", tmp_path))
    inbox.address(addressed, "http://inbox:9095")
    demo = (DOCKER / "alertmanager/demo.yml").read_text()
    assert yaml.safe_load(demo) == yaml.safe_load(addressed.read_text())
    assert "ALERTMANAGER_CONFIG=demo" in (DOCKER / "demo.env").read_text().splitlines()


def test_the_demos_inbox_has_a_line_for_each_alert() -> None:
    lines = runpy.run_path(str(DOCKER / "inbox.py"))["lines"]
    body = (
        b'{"receiver": "team", "alerts": ['
        b'{"status": "firing", "labels": {"alertname": "QueueBackup", "tier": "P2"},'
        b' "annotations": {"summary": "full"}},'
        b'{"status": "resolved", "labels": {"alertname": "Somebodys"}, "annotations": {}}]}'
    )
    assert list(lines(body)) == ["team: firing QueueBackup (P2) full", "team: resolved Somebodys (-) "]
    for other in (b"", b"[]", b'{"receiver": "team"}', b'{"alerts": [1], "receiver": "x"}'):
        assert list(lines(other)) == [f"invalid notification of {len(other)} bytes"]


def test_what_was_never_run_says_so() -> None:
    for path in (DOCKER / "untested").iterdir():
        assert path.read_text().startswith("# EXAMPLE, NOT TESTED"), path.name
        assert yaml.safe_load(path.read_text())
