"""`busmon up` with a login that the broker refuses: one line that names the user and the setting, and status 2."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from busmon import status
from busmon.demo.broker import PrivateNode
from tests.conftest import Vhost
from tests.patience import PATIENCE_SECONDS


class Login(NamedTuple):
    """A URL that the broker refuses, and the end of the line."""

    url: str
    remedy: str


@pytest.fixture(params=["password", "user", "virtual host", "rights"])
def login(request: pytest.FixtureRequest, node: PrivateNode, vhost: Vhost) -> Iterator[Login]:
    unlisted = f"unlisted-{secrets.token_hex(4)}"
    node.management("PUT", f"/api/users/{unlisted}", {"password": "secret", "tags": ""})
    own = "RabbitMQ lets guest in from its own host only"
    yield {
        "password": Login(_as("guest:secret", vhost), f"check user 'guest' and the password; {own}"),
        "user": Login(_as("stranger:secret", vhost), "check user 'stranger' and the password"),
        "virtual host": Login(
            vhost.amqp_url.replace(vhost.name, "nowhere"),
            "check virtual host 'nowhere', the last part of the URL, and write / in it as %2F",
        ),
        "rights": Login(
            _as(f"{unlisted}:secret", vhost),
            f"give the user rights in virtual host '{vhost.name}': rabbitmqctl set_permissions",
        ),
    }[request.param]
    node.management("DELETE", f"/api/users/{unlisted}")


def _as(user: str, vhost: Vhost) -> str:
    return vhost.amqp_url.replace("guest:guest", user)


@pytest.mark.parametrize("by_flag", [False, True], ids=["environment", "flag"])
def test_a_login_that_the_broker_refuses_is_one_line_and_nothing_is_started(
    login: Login, tmp_path: Path, *, by_flag: bool
) -> None:
    named = {"BUSMON_REGISTRY_DIR": str(tmp_path / "registry"), "BUSMON_LISTEN": "127.0.0.1:0"}
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "busmon", "up", *(["--amqp-url", login.url] if by_flag else [])],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")},
            **named,
            **({} if by_flag else {"BUSMON_AMQP_URL": login.url}),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 2
    (line,) = [line for line in ran.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("busmon: amqp_url from ")
    assert f"{'--amqp-url' if by_flag else 'BUSMON_AMQP_URL'}: RabbitMQ at 127.0.0.1:" in line
    assert line.endswith(f"; {login.remedy}")
    assert "secret" not in ran.stderr
    assert status.read(tmp_path / "registry").supervisor is None
