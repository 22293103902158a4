"""Budgets and removals in a real fleet: the same in every process, through kills, and next to a running exporter."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika

from tests.conftest import Vhost
from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

SOURCES = 24


def visits(first: int, count: int) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Envelopes of many sources, each counting 1 under one of 40 names, and 1 vote."""
    for number in range(first, first + count):
        samples = [
            {"name": "agent_starts_total", "labels": {"agent": f"agent-{number % 40}"}, "value": 1},
            {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1},
        ]
        yield envelope(f"source-{number % SOURCES}", number // SOURCES + 1, samples)


def names(fleet: RealFleet) -> set[str]:
    text = fleet.get("/metrics")[1].decode()
    lines = (line for line in text.splitlines() if line.startswith("agent_starts_total{"))
    return {line.split('"')[1] for line in lines}


def registry(fleet: RealFleet, *arguments: str) -> str:
    command = [sys.executable, "-P", "-m", "busmon", "registry", *arguments, "--registry-dir", str(fleet.registry_dir)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_budget_is_the_same_for_every_worker_and_after_kills(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url, BUSMON_MAX_LABEL_VALUES="5") as fleet:
        publish(vhost.amqp_url, visits(0, 2400))
        fleet.wait_for_total("agent_starts_total", 2400)
        admitted = names(fleet)
        assert len(admitted) == 6
        for victim in fleet.worker_pids():
            os.kill(victim, signal.SIGKILL)
        publish(vhost.amqp_url, visits(2400, 2400))
        fleet.wait_for_total("agent_starts_total", 4800)
        assert names(fleet) == admitted
        assert fleet.totals()["busmon_label_overflow_total"] == 4800 * 35 / 40


def test_series_are_dropped_in_a_running_fleet_and_nothing_else_changes(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, visits(0, 2400))
        fleet.wait_for_total("agent_starts_total", 2400)
        publish(vhost.amqp_url, visits(2400, 2400))
        told = registry(fleet, "drop", "agent_starts_total", "-l", "agent=agent-7")
        assert re.fullmatch(r"[1-3] series of agent_starts_total in [1-3] shards removed\n", told)
        fleet.wait_for_total("votes_cast_total", 4800)
        publish(vhost.amqp_url, visits(4807, 1))
        fleet.wait_for_total("votes_cast_total", 4801)
        others = sum(1 for number in range(4800) if number % 40 != 7)
        wait_until(lambda: fleet.totals()["agent_starts_total"] > others, "the dropped series to begin again")
        registry(fleet, "drop", "agent_starts_total")
        wait_until(lambda: not names(fleet), "the series to leave the scrape")
        shown = json.loads(registry(fleet, "show", "--json"))
        assert "agent_starts_total" not in {family["name"] for family in shown["families"]}
        assert {shard["owner"] for shard in shown["shards"]} == {*fleet.worker_pids()}
        assert fleet.totals()["votes_cast_total"] == 4801


def test_a_reload_applies_other_budgets(tmp_path: Path, vhost: Vhost) -> None:
    catalogue = tmp_path / "own.toml"
    text = '[counter.agent_starts_total]\nhelp = "Agent processes started"\nlabels = ["agent"]\nbudgets.agent = %d\n'
    catalogue.write_text(text % 2)
    with RealFleet(tmp_path, vhost.amqp_url, BUSMON_CATALOGUE=str(catalogue)) as fleet:
        publish(vhost.amqp_url, visits(0, 240))
        fleet.wait_for_total("agent_starts_total", 240)
        assert len(names(fleet)) == 3
        catalogue.write_text(text % 4)
        fleet.process.send_signal(signal.SIGHUP)
        wait_until(lambda: fleet.log.read_text().count("worker.catalogue_reloaded") == 2, "both workers to reload")
        publish(vhost.amqp_url, visits(240, 240))
        fleet.wait_for_total("agent_starts_total", 480)
        assert len(names(fleet)) == 5
