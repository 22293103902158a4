"""`busmon topology check` and `export`: what is told of a broker, and what another broker takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from busmon.bus.connect.dialling import open_blocking
from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.cli import main
from busmon.errors import BrokerRefusedError
from tests.patience import PATIENCE_SECONDS

from .topologies import PASSWORDS, Client, Place, arguments

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_settings")


class TestCheck:
    @pytest.fixture
    def place(self, vhost: Any, tmp_path: Path) -> Place:
        return Place.declared(vhost.amqp_url, tmp_path)

    def check(self, vhost: Any, capsys: Capture) -> list[str]:
        """The differences but for users, which these tests don't have."""
        main(["topology", "check", *arguments(vhost)])
        return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("note: user ")]

    def test_lists_each_difference(self, vhost: Any, node: PrivateNode, place: Place, capsys: Capture) -> None:
        with Client(place.amqp_url) as client:
            client.channel.queue_delete("telemetry.fold.2")
            client.channel.queue_delete("telemetry.quarantine.dropped")
            client.channel.queue_declare("telemetry.quarantine.dropped", durable=True, arguments={"x-max-length": 5})
            client.channel.queue_bind("telemetry.fold.0", "telemetry", "task.#")
            client.channel.queue_declare("foreign")
            client.channel.queue_bind("foreign", "telemetry", "task.#")
        policy = {"pattern": r"\.fold\.1$", "definition": {"message-ttl": 5}, "apply-to": "queues"}
        node.management("PUT", f"/api/policies/{vhost.name}/short", policy)
        assert self.check(vhost, capsys) == [
            "queue 'telemetry.fold.2': is missing",
            "queue 'telemetry.quarantine.dropped': x-delivery-limit is not set, should be 1000000000",
            "queue 'telemetry.quarantine.dropped': x-max-length is 5, should be 100000",
            "queue 'telemetry.quarantine.dropped': x-max-length-bytes is not set, should be 67108864",
            "queue 'telemetry.quarantine.dropped': x-message-ttl is not set, should be 600000",
            "queue 'telemetry.quarantine.dropped': x-overflow is not set, should be 'drop-head'",
            "queue 'telemetry.quarantine.dropped': x-queue-type is not set, should be 'quorum'",
            "binding 'telemetry.shards' → queue 'telemetry.fold.2' with key '1': is missing",
            "binding 'telemetry.quarantine.dropped' → queue 'telemetry.quarantine.dropped' with key '': is missing",
            "binding 'telemetry' → queue 'telemetry.fold.0' with key 'task.#': should not be there",
            "queue 'telemetry.fold.1': policy 'short' sets message-ttl",
        ]

    def test_permissions_that_differ_are_listed(
        self, vhost: Any, node: PrivateNode, exchange: str, capsys: Capture
    ) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        wide = {"configure": "", "write": ".*", "read": ""}
        node.management("PUT", f"/api/permissions/{vhost.name}/{exchange}-publisher", wide)
        node.management("DELETE", f"/api/permissions/{vhost.name}/{exchange}-operator")
        assert main(["topology", "check", *arguments(vhost, exchange)]) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"user '{exchange}-publisher': may configure '', should be '^$'",
            f"user '{exchange}-publisher': may write '.*', should be {f'^{re.escape(exchange)}$'!r}",
            f"user '{exchange}-publisher': may read '', should be '^$'",
            f"user '{exchange}-operator': has no permissions in virtual host '{vhost.name}'",
        ]

    def test_says_what_it_could_not_see(self, vhost: Any, exchange: str, capsys: Capture) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        url = vhost.management_url.replace("guest:guest", f"{exchange}-operator:o-secret")
        assert main(["topology", "check", *arguments(vhost, exchange), "--management-url", url]) == 0
        unseen, verdict = capsys.readouterr().out.splitlines()
        assert unseen.startswith("not visible: users and permissions: ")
        assert verdict == f"no difference in the visible part of virtual host '{vhost.name}'"

    def test_reads_what_rabbitmqctl_exports(
        self, vhost: Any, node: PrivateNode, exchange: str, tmp_path: Path, capsys: Capture
    ) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        file = tmp_path / "broker.json"
        node.rabbitmqctl("export_definitions", str(file))
        seen = ["--amqp-url", vhost.amqp_url, "--exchange", exchange, "--definitions"]
        assert main(["topology", "check", *seen, str(file)]) == 0
        piped = subprocess.run(
            [sys.executable, "-m", "busmon", "topology", "check", *seen, "-"],
            input=file.read_text(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (piped.returncode, piped.stdout, piped.stderr) == (0, capsys.readouterr().out, "")

    def test_a_virtual_host_that_does_not_exist_is_one_line(self, vhost: Any, capsys: Capture) -> None:
        url = vhost.amqp_url.replace(vhost.name, "nowhere")
        assert main(["topology", "check", *arguments(vhost), "--amqp-url", url]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_a_management_api_that_refuses_is_one_line_without_the_password(self, vhost: Any, capsys: Capture) -> None:
        url = vhost.management_url.replace("guest:guest", "guest:hidden")
        assert main(["topology", "check", *arguments(vhost), "--management-url", url]) == 1
        said = capsys.readouterr().err
        # RabbitMQ 3's words, and 4's.
        remedy = "check user and password in management_url"
        assert said in {
            f"busmon: management API as user 'guest': 401 {w}; {remedy}\n" for w in ("Login failed", "Not_Authorized")
        }


class TestExport:
    def test_a_fresh_node_that_imports_it_differs_in_nothing(
        self, dedicated_node: PrivateNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setenv("BUSMON_CONSUMER_PASSWORD", "c-secret")
        url = dedicated_node.amqp_url.replace("%2F", "imported")
        file = tmp_path / "definitions.json"
        assert main(["topology", "export", "--amqp-url", url, "--output", str(file)]) == 0
        assert file.stat().st_mode & 0o077 == 0
        assert capsys.readouterr().err.splitlines() == [
            "user 'telemetry-publisher' has no password in it, so nobody can log in as this user",
            "user 'telemetry-operator' has no password in it, so nobody can log in as this user",
        ]
        dedicated_node.rabbitmqctl("import_definitions", str(file))
        check = ["topology", "check", "--amqp-url", url, "--management-url", dedicated_node.management_url]
        # RabbitMQ says itself that an import takes some time after the command.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while main(check) != 0:
            assert time.monotonic() < deadline, capsys.readouterr().out
        assert capsys.readouterr().out.endswith("no difference in virtual host 'imported'\n")

        open_blocking(url.replace("guest:guest", "telemetry-consumer:c-secret"), "test").close()
        for password in ("", "p-secret"):
            with pytest.raises(BrokerRefusedError, match="ACCESS_REFUSED"):
                open_blocking(url.replace("guest:guest", f"telemetry-publisher:{password}"), "test")

    def test_a_file_that_cannot_be_written_or_read_is_one_line(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["topology", "export", "--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"busmon: {tmp_path}: can't write: Is a directory\n"
        assert main(["topology", "check", "--definitions", str(tmp_path / "nowhere")]) == 2
        assert capsys.readouterr().err.startswith(f"busmon: {tmp_path}/nowhere: can't be read: No such file")

    def test_with_nothing_to_look_at_the_two_ways_are_named(self, capsys: Capture) -> None:
        assert main(["topology", "check"]) == 2
        assert capsys.readouterr().err == (
            "busmon: expected --management-url http://USER:PASSWORD@HOST:15672 (BUSMON_MANAGEMENT_URL) or "
            "--definitions FILE\n"
        )

    def test_it_is_json_on_standard_output(self, capsys: Capture) -> None:
        assert main(["topology", "export", "--amqp-url", "amqp://guest:guest@localhost/%2Fdeep"]) == 0
        definitions = json.loads(capsys.readouterr().out)
        assert definitions["vhosts"] == [{"name": "/deep"}]
        assert {queue["vhost"] for queue in definitions["queues"]} == {"/deep"}
