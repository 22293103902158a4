"""On a real broker: one agent's greed keeps no other out, and one command frees what it took."""

import json
import subprocess
import sys
from itertools import count
from pathlib import Path

from busmon.demo.broker import PrivateNode
from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet
from tests.fleet.users import Publisher, users
from tests.patience import wait_until


def shown(fleet: RealFleet, start: str) -> list[str]:
    return [line for line in fleet.get("/metrics")[1].decode().splitlines() if line.startswith(start)]


def registry(fleet: RealFleet, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "busmon", "registry", *words, "--registry-dir", str(fleet.registry_dir)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def started(name: str) -> dict[str, object]:
    return {"name": "agent_starts_total", "labels": {"agent": name}, "value": 1}


def test_label_values_and_names_of_one_agent_keep_no_other_out(node: PrivateNode, vhost: Vhost, tmp_path: Path) -> None:
    with (
        users(node, vhost, tmp_path) as made,
        made.fleet() as fleet,
        Publisher(made, f"{made.exchange}-publisher") as publisher,
    ):
        publisher.envelope("evil-1", 1, [started(f"fake-{n}") for n in range(150)], agent="evil")
        gauges = [{"name": f"junk_{n}", "type": "gauge", "value": 1} for n in range(1200)]
        publisher.envelope("evil-1", 2, [{"name": "sales_total", "type": "gauge", "value": 1}, *gauges], agent="evil")
        for number in range(150):
            publisher.envelope(f"fake-{number}", 1, [], agent=f"fake-{number}")
        fleet.wait_for_total("agent_starts_total", 150)
        wait_until(lambda: fleet.totals().get("busmon_adopted_families") == 500, "half of the metrics to be taken")
        sold = {"name": "sales_total", "type": "counter", "value": 3}
        mine = {"name": "mine_total", "type": "counter", "value": 1}
        sequence = count(1)

        def place() -> list[str]:
            """Publish once more: of a crowd's claims a few are looked at at a time, and the others count as `other`."""
            publisher.envelope("planner-1", next(sequence), [started("planner"), mine, sold], agent="planner")
            return shown(fleet, 'agent_starts_total{agent="planner"}')

        wait_until(place, "the honest label value")
        wait_until(lambda: shown(fleet, "mine_total "), "the honest metric")
        wait_until(lambda: shown(fleet, 'active_agents{type="planner"} 1.0'), "the honest agent's presence")
        assert shown(fleet, 'busmon_adopted_families{agent="evil"} 500.0')
        assert json.loads(registry(fleet, "show", "--json"))["adopted"]["by_agent"] == {"evil": 500, "planner": 1}
        registry(fleet, "drop", "--agent", "evil")
        publisher.envelope("planner-1", next(sequence), [sold], agent="planner")
        wait_until(lambda: shown(fleet, "sales_total 3.0"), "the name to be free")
        assert not shown(fleet, "junk_")
        assert shown(fleet, 'agent_starts_total{agent="planner"}')
        assert not shown(fleet, 'agent_starts_total{agent="fake')
        assert "worker.metric_not_taken_up" in fleet.log.read_text()
