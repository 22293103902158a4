"""The chart's rendered pods: the job declares the topology, and the fleet counts exactly, restricted as pods are."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from busmon.demo import audit
from tests.certificates import Authority
from tests.chart.chart import Manifest, obstacle, only, pod, render
from tests.engine.engine import Engine, Stack
from tests.engine.pods import Node, with_claims
from tests.engine.test_stack import WAIT, until

PUBLISHED_SECONDS = 20
AGENTS = "pods-agents"
BROKER = "rabbitmq:5672/pods"

VALUES: Manifest = {
    "image": {"tag": "latest"},
    "topology": {
        "declare": {
            "enabled": True,
            "management": {"secret": "busmon-operator"},
            "passwords": {"secret": "busmon-passwords"},
        }
    },
    "catalogue": {"search.toml": '[counter.searches_total]\nhelp = "Searches."\nlabels = []\n'},
}

SECRETS = {
    "busmon-amqp": {"url": f"amqp://telemetry-consumer:demo@{BROKER}\n"},
    "busmon-operator": {
        "amqp_url": f"amqp://admin:demo@{BROKER}",
        "management_url": "http://admin:demo@rabbitmq:15672",
    },
    "busmon-passwords": {"publisher": "demo", "consumer": "demo", "operator": "demo"},
}

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle())


@pytest.fixture(scope="module")
def broker(engine: Engine) -> Iterator[Stack]:
    """The compose file's broker, with an administrator and a virtual host without a topology."""
    stack = Stack(engine)
    stack.compose("build", "busmon")
    stack.compose("up", *WAIT, "rabbitmq")
    for command in (
        ("add_user", "admin", "demo"),
        ("set_user_tags", "admin", "administrator"),
        ("add_vhost", "pods"),
        ("set_permissions", "--vhost", "pods", "admin", ".*", ".*", ".*"),
    ):
        stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", *command)
    yield stack
    stack.compose("--profile", "*", "down", "--volumes", "--timeout", "60")


@pytest.fixture(scope="module")
def node(broker: Stack) -> Iterator[Node]:
    documents = render(VALUES)
    config = {each["metadata"]["name"]: each["data"] for each in documents if each["kind"] == "ConfigMap"}
    node = Node(broker.engine, "busmon_default", SECRETS | config)
    node.clear()
    node.run("topology", pod(only(documents, "Job")))
    yield node
    for name in ("busmon-0", AGENTS, "secured-0"):
        node.remove(name)
    node.clear()


def probe(broker: Stack, container: Manifest, name: str, pod_name: str) -> int:
    """Ask a probe as a kubelet does, from outside of the pod, without a check of certificates; returns the status."""
    get = container[f"{name}Probe"]["httpGet"]
    return fetch(broker, pod_name, get["path"], get["scheme"].lower())[0]


def fetch(broker: Stack, pod_name: str, path: str, scheme: str = "http", user: str = "") -> tuple[int, str]:
    program = (
        "import base64, ssl, sys, urllib.request, urllib.error\n"
        "request = urllib.request.Request(sys.argv[1])\n"
        "known = base64.b64encode(sys.argv[2].encode()).decode()\n"
        "if known: request.add_header('Authorization', 'Basic ' + known)\n"
        "try: answer = urllib.request.urlopen(request, timeout=5, context=ssl._create_unverified_context())\n"
        "except urllib.error.HTTPError as error: answer = error\n"
        "except OSError: sys.exit(print(0))\n"
        "print(answer.status); print(answer.read().decode())\n"
    )
    address = broker.engine.inspect(pod_name)["NetworkSettings"]["Networks"]["busmon_default"]["IPAddress"]
    url = f"{scheme}://{address}:9797{path}"
    status, _, body = broker.compose("exec", "-T", "rabbitmq", "python3", "-c", program, url, user).partition("\n")
    return int(status), body


def await_ready(broker: Stack, container: Manifest, name: str) -> None:
    until(lambda: probe(broker, container, "startup", name) == 200, f"{name} to start")
    until(lambda: probe(broker, container, "readiness", name) == 200, f"{name} to be ready")


@pytest.fixture(scope="module")
def fleet(node: Node) -> tuple[str, Manifest]:
    """The fleet's pod, started; its name and specification."""
    spec = with_claims(only(render(VALUES), "StatefulSet"))
    return node.start("busmon-0", spec), spec


def test_the_job_has_declared_the_topology_and_the_users_rights(broker: Stack, node: Node) -> None:
    assert node
    asked = ("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--no-table-headers")
    queues = broker.compose(*asked, "list_queues", "--vhost", "pods", "name").split()
    assert {f"telemetry.fold.{shard}" for shard in range(4)} <= set(queues)
    users = broker.compose(*asked, "list_permissions", "--vhost", "pods")
    assert set(re.findall(r"^(telemetry-\w+)", users, re.MULTILINE)) == {
        "telemetry-consumer",
        "telemetry-operator",
        "telemetry-publisher",
    }


def test_the_probes_answer(broker: Stack, fleet: tuple[str, Manifest]) -> None:
    name, spec = fleet
    (container,) = spec["containers"]
    await_ready(broker, container, name)
    assert probe(broker, container, "liveness", name) == 200


def test_the_pod_is_restricted_and_its_registry_private(broker: Stack, fleet: tuple[str, Manifest]) -> None:
    name, _ = fleet

    def inside(*command: str) -> str:
        return broker.engine.docker("exec", name, *command, check=False)

    status = dict(re.findall(r"^(\w+):\s+(.*)$", inside("cat", "/proc/1/status"), re.MULTILINE))
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    assert (status["Uid"].split()[0], status["Gid"].split()[0]) == ("10001", "10001")
    assert inside("sh", "-c", "touch /etc/x /opt/busmon/x 2>/dev/null || echo refused") == "refused\n"
    assert inside("sh", "-c", "touch /tmp/x && echo written") == "written\n"
    assert inside("stat", "--format", "%u %a", "/var/lib/busmon/registry").split()[0] == "10001"
    assert inside("stat", "--format", "%a", "/var/lib/busmon/registry").strip() in {"700", "2700"}
    assert broker.engine.inspect(name)["HostConfig"]["Memory"] == 2**30
    resources = fetch(broker, name, "/metrics?name[]=busmon_resource_usage_ratio")[1]
    assert 'resource="memory"' in resources


def test_totals_are_exact_through_a_kill_and_a_new_mount_of_the_volume(
    broker: Stack, node: Node, fleet: tuple[str, Manifest]
) -> None:
    name, spec = fleet
    (container,) = spec["containers"]
    await_ready(broker, container, name)
    url = f"BUSMON_AMQP_URL=amqp://telemetry-publisher:demo@{BROKER}"
    simulate = ("simulate", "--agents", "4", "--rate", "5", "--seconds", str(PUBLISHED_SECONDS))
    node.engine.docker(
        *("run", "--detach", "--name", AGENTS, "--network", node.network, "--env", url, "busmon:latest", *simulate)
    )
    until(lambda: "tasks_processed_total{" in fetch(broker, name, "/metrics")[1], "the first task to be counted")

    node.engine.inside("kill", "-9", str(node.engine.inspect(name)["State"]["Pid"]))
    node.remove(name)
    node.start(name, spec)
    await_ready(broker, container, name)

    assert node.engine.docker("wait", AGENTS).strip() == "0"
    lines = re.sub(r"\x1b\[\d*[A-Z]|\r", "", node.engine.docker("logs", AGENTS))
    totals = re.findall(r"^(\w+_total)\s+([\d,]+)$", lines, re.MULTILINE)
    published = {family: float(total.replace(",", "")) for family, total in totals}
    assert len(published) > 20

    def scraped() -> dict[str, float]:
        series = audit.totals(fetch(broker, name, "/metrics")[1], set(published))
        return {family: sum(values.values()) for family, values in series.items()}

    until(lambda: scraped() == published, "all that was published to be scraped")


def test_the_pod_ends_in_order_within_its_grace(node: Node, fleet: tuple[str, Manifest]) -> None:
    name, spec = fleet
    node.engine.docker("stop", "--time", str(spec["terminationGracePeriodSeconds"]), name)
    assert node.engine.inspect(name)["State"]["ExitCode"] == 0


def test_the_probes_answer_over_https_and_strangers_dont_read(broker: Stack, node: Node, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "authority").issue("busmon", "busmon.telemetry.svc")
    hashed = bcrypt.hashpw(b"demo", bcrypt.gensalt(4)).decode()
    web = (
        "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
        f"basic_auth_users: {{prometheus: {hashed}}}\n"
        "busmon: {open_paths: [/health, /-/ready]}\n"
    )
    secret = {"web.yml": web, "tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    values: dict[str, Any] = VALUES | {"web": {"secret": "busmon-web", "scheme": "https"}}
    spec = with_claims(only(render(values), "StatefulSet"))
    (container,) = spec["containers"]
    node.remove("busmon-0")
    name = replace(node, files={**node.files, "busmon-web": secret}).start("secured-0", spec)

    await_ready(broker, container, name)
    assert fetch(broker, name, "/metrics", "https")[0] == 401
    status, metrics = fetch(broker, name, "/metrics", "https", "prometheus:demo")
    assert (status, "busmon_build_info" in metrics) == (200, True)
