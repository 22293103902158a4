"""No secret is ever shown: a real fleet is given marked ones, and all that it printed, served and wrote is searched."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest

from busmon.demo.broker import PrivateNode
from busmon.settings import SCHEMA
from tests.conftest import Vhost
from tests.patience import wait_until

from .publishing import envelope, publish
from .real_fleet import RealFleet

MARK = "m4rk"
PAGES = ("/", "/metrics", "/overview", "/health", "/ready", "/-/ready", "/nowhere")


@pytest.fixture
def marked_user(node: PrivateNode, vhost: Vhost) -> Iterator[str]:
    """The URL of a user whose password is marked."""
    name = f"user-{vhost.name}"
    node.management("PUT", f"/api/users/{name}", {"password": f"{MARK}-amqp", "tags": ""})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    node.management("PUT", f"/api/permissions/{vhost.name}/{name}", everything)
    yield vhost.amqp_url.replace("guest:guest@", f"{name}:{MARK}-amqp@")
    node.management("DELETE", f"/api/users/{name}")


def web_file(directory: Path) -> tuple[Path, tuple[str, ...]]:
    """A web configuration file, and what in it nobody may see."""
    hashed = bcrypt.hashpw(f"{MARK}-password".encode(), bcrypt.gensalt(4)).decode()
    digest = sha256(f"{MARK}-token".encode()).hexdigest()
    path = directory / "web.yml"
    path.write_text(f"basic_auth_users: {{a: {hashed}}}\nbusmon: {{bearer_tokens: {{b: {digest}}}}}\n")
    return path, (hashed, digest)


def environment(directory: Path, amqp_url: str, web: Path) -> dict[str, str]:
    """Every secret setting with a marked value: the broker's and the passwords from files, as containers have them."""
    marked = {
        "amqp_url": amqp_url,
        "management_url": f"http://operator:{MARK}-management@127.0.0.1:1",
        "exporter_url": f"https://user:{MARK}-exporter@127.0.0.1:1",
        "publisher_password": f"{MARK}-publisher",
        "consumer_password": f"{MARK}-consumer",
        "operator_password": f"{MARK}-operator",
        "postgres_url": f"postgresql://user:{MARK}-postgres@127.0.0.1:1/db?sslpassword={MARK}-key",
        "redis_url": f"redis://:{MARK}-redis@127.0.0.1:1",
        "dependencies": f"other=http://user:{MARK}-other@127.0.0.1:1/",
    }
    given = {"BUSMON_WEB_CONFIG_FILE": str(web), "BUSMON_LOG_LEVEL": "debug", "BUSMON_AMQP_URL": ""}
    for setting in (setting for setting in SCHEMA if setting.secret):
        path = directory / setting.name
        path.write_text(f"{marked[setting.name]}\n")
        given[setting.file_variable] = str(path)
    return given


def answer(fleet: RealFleet, path: str, authorization: str) -> str:
    request = urllib.request.Request(f"http://{fleet.address}{path}", headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=10) as got:  # noqa: S310 - as above
            return f"{got.status} {got.headers} {got.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers} {error.read().decode()}"


def command_lines(mark: str) -> str:
    """The command lines of the processes whose environment has this mark, which are the fleet's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode())
    return "\n".join(found)


def test_no_secret_is_printed_served_or_written(marked_user: str, vhost: Vhost, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    web, hidden = web_file(secrets)
    given = environment(secrets, marked_user, web)
    shown: dict[str, str] = {}
    with RealFleet(tmp_path, "", python=None, **given) as fleet:
        publish(vhost.amqp_url, [envelope("analyzer-1", 1, [{"name": "tasks_processed_total", "value": 1}])])
        wait_until(lambda: "200" in answer(fleet, "/metrics", f"Bearer {MARK}-token")[:3], "the exporter")
        wait_until(lambda: "postgres" in answer(fleet, "/ready", f"Bearer {MARK}-token"), "the checks")
        for path in PAGES:
            for authorization in (f"Bearer {MARK}-token", f"Basic {MARK}", "Bearer wrong"):
                shown[f"{path} to {authorization}"] = answer(fleet, path, authorization)
        shown["processes"] = command_lines(str(fleet.registry_dir))
        environ = {**{k: v for k, v in os.environ.items() if not k.startswith("BUSMON_")}, **given}
        for arguments in (
            ("settings",),
            ("settings", "--json"),
            ("topology", "declare"),
            ("topology", "check"),
            ("top", "--once"),
        ):
            done = subprocess.run(
                [sys.executable, "-P", "-m", "busmon", *arguments],
                env=environ,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            shown[" ".join(arguments)] = done.stdout + done.stderr
        os.kill(fleet.worker_pids()[0], 11)
        wait_until(lambda: "supervisor.child_died" in fleet.log.read_text(), "the worker's end to be logged")
    shown["log"] = fleet.log.read_text()
    for file in filter(Path.is_file, fleet.registry_dir.rglob("*")):
        shown[str(file)] = file.read_bytes().decode(errors="replace")
    assert "busmon" in shown["processes"]
    assert "***" in shown["settings"]
    found = [where for where, text in shown.items() for secret in (MARK, *hidden) if secret in text]
    assert found == []


def test_files_are_their_users_alone_and_so_are_directories(vhost: Vhost, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with RealFleet(tmp_path, vhost.amqp_url) as fleet:
            publish(vhost.amqp_url, [envelope("analyzer-1", 1, [{"name": "tasks_processed_total", "value": 1}])])
            fleet.wait_for_total("busmon_envelopes_consumed_total", 1)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (fleet.registry_dir, *fleet.registry_dir.rglob("*"))}
    open_to_others = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert len(modes) > 5
    assert open_to_others == {}
