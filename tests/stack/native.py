"""The whole monitoring stack without Docker: the programs that Debian packages, with the files of `docker/`.

RabbitMQ, the fleet, simulated agents, node_exporter, Alertmanager and Prometheus run in a directory of their own; of
their files nothing is changed but the addresses, and Alertmanager's receivers, which take secrets: all that it tells
goes to an inbox here. They end with the block, last come first. One thread, in addition to the inbox'.
"""

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from busmon.demo import stage
from busmon.demo.broker import PrivateNode
from busmon.demo.children import BUSMON
from busmon.demo.rabbitmq import LOOPBACK, environment, free_ports, script
from busmon.errors import DemoError, UserError
from busmon.fleet.supervisor import parent
from busmon.settings import Settings
from tests.stack import inbox

DOCKER = Path(__file__).resolve().parents[2] / "docker"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.1
PACKAGES = {
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
}

Say = Callable[[str], None]


class NativeStack:
    """The stack while its block runs.

    Args:
        directory: takes everything that the programs write.
        settings: of the fleet; the broker and the addresses are the stack's own.
        say: is told what happens.
        agents: the arguments of `busmon simulate`, in addition to the address.
        hasten: how often rules are evaluated and targets scraped, for who can't wait; None for as the files say.

    Attributes:
        addresses: host and port by program.
        amqp_url: the broker, once the block has begun.
        management_url: its pages.
    """

    def __init__(
        self, directory: Path, settings: Settings, say: Say, agents: Sequence[str] = (), hasten: str | None = None
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._say = say
        self._agents = agents
        self._hasten = hasten
        self._stack = ExitStack()
        self.amqp_url = self.management_url = ""
        names = ("busmon", "rabbitmq", "node", "prometheus", "alertmanager")
        self.addresses = {name: f"{LOOPBACK}:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def prometheus(self) -> str:
        """Prometheus' address."""
        return f"http://{self.addresses['prometheus']}"

    def _start(self) -> None:
        for program, package in PACKAGES.items():
            if shutil.which(program) is None:
                raise UserError(f"{program} is not installed; expected: apt-get install {package}")
        settings = self._broker()
        self._configure(self._stack.enter_context(inbox.serving()))
        self._monitoring()
        self._fleet(settings)

    def _broker(self) -> Settings:
        self._say("starting RabbitMQ")
        node = self._stack.enter_context(PrivateNode(self._directory / "rabbitmq"))
        self._stack.callback(self._say, "stopping RabbitMQ")
        self.amqp_url, self.management_url = node.amqp_url, node.management_url
        port = self.addresses["rabbitmq"].rpartition(":")[2]
        where = f'[{{ip, "{LOOPBACK}"}}, {{port, {port}}}]'
        node.rabbitmqctl(
            "eval",
            f"application:load(rabbitmq_prometheus), application:set_env(rabbitmq_prometheus, tcp_config, {where}).",
        )
        subprocess.run(
            [script("rabbitmq-plugins"), "enable", "rabbitmq_prometheus"],
            env=environment(node.directory, node.address),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        settings = stage.override(
            self._settings,
            amqp_url=node.amqp_url,
            management_url=node.management_url,
            registry_dir=self._directory / "registry",
            listen=self.addresses["busmon"],
        )
        stage.declare(settings, self._say)
        return settings

    def _configure(self, webhook: str) -> None:
        """Lay the files of `docker/` out, with the addresses that the programs have here."""
        for part in ("prometheus", "alertmanager"):
            if (DOCKER / part).exists():
                shutil.copytree(DOCKER / part, self._directory / part)
        inbox.address(self._directory / "alertmanager/alertmanager.yml", webhook)
        for job, address in self.addresses.items():
            target = self._directory / f"prometheus/targets/{job}.yml"
            target.write_text(f'- targets: ["{address}"]\n')
        if self._hasten:
            for path in (self._directory / "prometheus").rglob("*.yml"):
                faster = re.sub(r"(interval|scrape_timeout): \d+[smh]", rf"\1: {self._hasten}", path.read_text())
                path.write_text(faster)

    def _monitoring(self) -> None:
        self._run(
            "prometheus-node-exporter", ["prometheus-node-exporter", f"--web.listen-address={self.addresses['node']}"]
        )
        self._run(
            "prometheus-alertmanager",
            [
                "prometheus-alertmanager",
                "--config.file=alertmanager/alertmanager.yml",
                "--storage.path=alertmanager-data",
                f"--web.listen-address={self.addresses['alertmanager']}",
                "--cluster.listen-address=",
            ],
        )
        self._run(
            "prometheus",
            [
                "prometheus",
                "--config.file=prometheus/prometheus.yml",
                "--storage.tsdb.path=prometheus-data",
                f"--web.listen-address={self.addresses['prometheus']}",
            ],
        )
        self._await(f"{self.prometheus}/-/ready", "Prometheus")
        self._await(f"http://{self.addresses['alertmanager']}/-/ready", "Alertmanager")

    def _fleet(self, settings: Settings) -> None:
        lifeline = self._stack.enter_context(parent.lifeline())
        variables = settings.environment()
        self._run("busmon", [*BUSMON, "up", "--supervised"], variables, lifeline)
        self._await(f"http://{self.addresses['busmon']}/ready", "the fleet")
        self._run("simulator", [*BUSMON, "simulate", "--supervised", *self._agents], variables, lifeline)

    def _run(
        self, name: str, command: Sequence[str], variables: Mapping[str, str] = os.environ, lifeline: int | None = None
    ) -> None:
        self._say(f"starting {name}")
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=variables,
                stdin=lifeline if lifeline is not None else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._stack.callback(self._stop, name, process)

    def _stop(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._say(f"stopping {name}")
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()

    def _await(self, url: str, what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            if time.monotonic() > deadline:
                raise DemoError(f"{what} doesn't answer after {START_SECONDS:.0f} s; see the logs in {self._directory}")
            time.sleep(POLL_SECONDS)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - of this machine
        return bool(answer.status == 200)
    return False
