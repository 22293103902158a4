"""A real fleet under test: `busmon up` in a process of its own, on a virtual host of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from busmon import status
from tests.patience import PATIENCE_SECONDS, wait_until


class RealFleet:
    """`busmon up`, and what can be asked of it."""

    def __init__(
        self, directory: Path, amqp_url: str, *arguments: str, python: Path | None = None, **environment: str
    ) -> None:
        self.registry_dir = directory / "registry"
        self._directory = directory
        self._python = str(python or sys.executable)
        self.log = directory / "fleet.log"
        self._arguments = arguments
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")},
            "BUSMON_AMQP_URL": amqp_url,
            "BUSMON_REGISTRY_DIR": str(self.registry_dir),
            "BUSMON_LISTEN": "127.0.0.1:0",
            **environment,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        """Start it, and wait until every shard is consumed and the exporter answers."""
        with self.log.open("ab") as log:
            self._logged_bytes = log.tell()
            self.process = subprocess.Popen(
                self.command("up", *self._arguments),
                env=self._environment,
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        wait_until(self.is_consuming, f"every shard to be consumed; see {self.log}")
        self.address = wait_until(self._address, "the exporter")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a `busmon` command."""
        return [self._python, "-P", "-m", "busmon", *arguments]

    def stop(self) -> int:
        """End it in order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def is_consuming(self) -> bool:
        """Tell whether every shard of every worker is consumed."""
        return self.states() == {"consuming"}

    def states(self) -> set[str]:
        """The states of all shards; empty until every worker of this start has told its own."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        found = status.read(self.registry_dir)
        if found.supervisor is None or found.supervisor.pid != self.process.pid:
            return set()
        if len(found.workers) < found.supervisor.workers:
            return set()
        return {shard.state for worker in found.workers for shard in worker.shards}

    def worker_pids(self) -> list[int]:
        """The running workers."""
        return [worker.pid for worker in status.read(self.registry_dir).workers]

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page of the exporter's."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ready(self) -> dict[str, Any]:
        """Return the readiness document."""
        document: dict[str, Any] = json.loads(self.get("/ready")[1])
        return document

    def wait_until_named(self, text: str) -> dict[str, Any]:
        """Return the readiness document once a line of it has this text; on a busy machine others may come before."""

        def find() -> dict[str, Any] | None:
            document = self.ready()
            return document if any(text in line for line in document["degraded"]) else None

        return wait_until(find, text)

    def totals(self) -> Mapping[str, float]:
        """The sum over all series of each sample name in a scrape; none if it is refused: a replica is read."""
        sums: dict[str, float] = {}
        status_code, body = self.get("/metrics")
        if status_code != HTTPStatus.OK:
            return sums
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def wait_for_total(self, name: str, value: float) -> None:
        """Wait until a total has been reached, or passed, which fails."""
        wait_until(lambda: self.totals().get(name, 0.0) >= value, f"{name} to be {value}")
        assert self.totals()[name] == value

    def _address(self) -> str | None:
        with self.log.open("rb") as log:
            log.seek(self._logged_bytes)
            for line in log.read().splitlines():
                if b"server.started" in line:
                    return str(json.loads(line)["address"])
        return None
