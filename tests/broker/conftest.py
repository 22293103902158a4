"""On the shared node: an operator, a queue and a consumer of it; a topology of one shard and a client of it; users."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from busmon.errors import BusError

from .consuming import Operator, Running
from .topologies import ONE_SHARD, PASSWORDS, Client, Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from busmon.demo.broker import PrivateNode


@pytest.fixture
def operator(vhost: Any) -> Iterator[Operator]:
    with Operator(vhost.amqp_url) as operator:
        yield operator


@pytest.fixture
def queue(operator: Operator) -> str:
    return operator.declare("fold")


@pytest.fixture
def running(vhost: Any, queue: str) -> Iterator[Running]:
    with Running(vhost.amqp_url, queue) as running:
        running.until_consuming()
        yield running


@pytest.fixture
def place(vhost: Any, tmp_path: Path) -> Place:
    return Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD)


@pytest.fixture
def client(place: Place) -> Iterator[Client]:
    with Client(place.amqp_url) as client:
        yield client


@pytest.fixture
def exchange(node: PrivateNode) -> Iterator[str]:
    """An exchange's name that no other test has, since users are the whole broker's; its users are deleted."""
    name = f"telemetry-{secrets.token_hex(6)}"
    yield name
    for role in PASSWORDS:
        with suppress(BusError):
            node.management("DELETE", f"/api/users/{name}-{role}")


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command line nothing but its arguments: no file in its directory, no variable."""
    monkeypatch.chdir(tmp_path)
    for variable in ("AMQP_URL", "MANAGEMENT_URL", "EXCHANGE", "TOPOLOGY", "REPLICATION", "CONFIG"):
        monkeypatch.delenv(f"BUSMON_{variable}", raising=False)
    for role in PASSWORDS:
        monkeypatch.delenv(f"BUSMON_{role.upper()}_PASSWORD", raising=False)
