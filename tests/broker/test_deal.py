"""Another way of dealing sources to shards, against a real broker: nobody changes it by the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.topology import load
from busmon.cli import main
from busmon.errors import TopologyError

from .topologies import Client, topology_file

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.bus.topology.topology import Topology

BY_ANOTHER = ('hash-header = "source"', 'hash-header = "customer"')
NOT_COMPARED = "ring 'telemetry.shards': not compared with the former ring"


@pytest.fixture
def wanted(vhost: Any, tmp_path: Path) -> Topology:
    """Another than what is on the broker."""
    declare(load(None, "telemetry"), vhost.amqp_url, None, {})
    return load(topology_file(tmp_path, BY_ANOTHER), "telemetry")


def header(node: Any, vhost: Any) -> str:
    """Read the header that the ring hashes."""
    told = json.loads(node.management("GET", f"/api/exchanges/{vhost.name}/telemetry.shards"))
    return str(told["arguments"]["hash-header"])


def test_a_ring_that_goes_by_another_header_is_refused_in_one_line_and_stays(
    node: Any, vhost: Any, wanted: Topology
) -> None:
    said = (
        f"ring 'telemetry.shards': hash-header is source on the broker, but customer in {wanted.path}, which would "
        "move sources to shards that don't know what was counted: drain, stop the fleet, delete this exchange and "
        "declare again (docs/topology.md, 'Changing the number of shards')"
    )
    with pytest.raises(TopologyError) as refused:
        declare(wanted, vhost.amqp_url, vhost.management_url, {})
    assert str(refused.value) == said
    with pytest.raises(TopologyError) as refused:
        ensure(wanted, vhost.amqp_url, vhost.management_url)
    assert str(refused.value) == said
    assert header(node, vhost) == "source"


def test_it_counts_once_an_operator_has_deleted_the_ring(node: Any, vhost: Any, wanted: Topology) -> None:
    with Client(vhost.amqp_url) as client:
        client.channel.exchange_delete("telemetry.shards")
    declare(wanted, vhost.amqp_url, vhost.management_url, {})
    assert header(node, vhost) == "customer"


def test_a_check_names_it(vhost: Any, wanted: Topology, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--amqp-url", vhost.amqp_url, "--management-url", vhost.management_url, "--topology", str(wanted.path)]
    assert main(["topology", "check", *where]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "exchange 'telemetry.shards': hash-header is 'source', should be 'customer'" in said


def test_without_a_management_api_that_it_was_not_compared_is_said(vhost: Any, tmp_path: Path) -> None:
    topology = load(topology_file(tmp_path), "telemetry")
    assert not [line for line in declare(topology, vhost.amqp_url, None, {}) if line.startswith(NOT_COMPARED)]
    for management_url in (None, "http://127.0.0.1:1"):
        lines = declare(topology, vhost.amqp_url, management_url, {})
        assert len([line for line in lines if line.startswith(NOT_COMPARED)]) == 1
