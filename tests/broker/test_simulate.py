"""The simulated platform against a real broker: all of the catalogue, accounted for to the last unit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from busmon.catalogue import Catalogue
from busmon.catalogue.catalogue import PLATFORM
from busmon.catalogue.family import GAUGE
from busmon.errors import BrokerUnreachableError, CatalogueError
from busmon.settings import Settings
from busmon.simulator.simulation import Plan, run
from busmon.simulator.totals import Totals
from tests.patience import wait_until

from .topologies import QUEUE, Client, Place

CATALOGUE = Catalogue.load()


def bodies(client: Client, envelopes: int) -> list[bytes]:
    client.until_ready(QUEUE, envelopes)
    return [taken.body for taken in client.take(QUEUE, envelopes)]


def test_every_family_is_published_and_every_total_accounted_for(place: Place, client: Client, tmp_path: Path) -> None:
    settings = Settings(
        amqp_url=place.amqp_url,
        publish_interval_seconds=0.1,
        origins={"amqp_url": "a test", "publish_interval_seconds": "a test"},
    )
    path = tmp_path / "totals.json"
    totals = run(settings, Plan(agents=6, rate=200, seconds=0.5, seed=3), path)
    assert totals.is_confirmed
    stored = bodies(client, totals.envelopes)
    found = Totals()
    for body in stored:
        found.add_body(CATALOGUE, body)
    assert found == totals
    published = {table["name"] for body in stored for table in orjson.loads(body)["tables"]}
    assert published == {name for name in CATALOGUE.families if CATALOGUE.origins[name] == PLATFORM}
    counted = {family.name for family in CATALOGUE.families.values() if family.type != GAUGE} & published
    assert {name.removesuffix("_count").removesuffix("_sum") for name in totals.series} == counted
    document = orjson.loads(path.read_bytes())
    assert (document["envelopes"], document["series"]) == (totals.envelopes, totals.series)
    assert document["totals"]["tasks_processed_total"] == document["totals"]["tasks_submitted_total"] > 6 * 100 / 3


class Command:
    """`busmon simulate` in a session of its own."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "busmon", "simulate", "--amqp-url", place.amqp_url, *arguments],
            env={**os.environ, "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def crews(self) -> list[str]:
        """The processes of agents that run."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return listed.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_until_it_is_stopped_and_still_accounts_for_all(
    place: Place, client: Client, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "totals.json"
    command = Command(place, "--agents", "2", "--totals", str(path))
    client.until(lambda: client.ready(QUEUE) >= 10, "ten envelopes")
    command.process.send_signal(number)
    out, err = command.process.communicate(timeout=60)
    assert (command.process.returncode, err) == (0, "")
    assert "tasks_processed_total" in out
    document = orjson.loads(path.read_bytes())
    found = Totals()
    for body in bodies(client, document["envelopes"]):
        found.add_body(CATALOGUE, body)
    assert found.series == document["series"]
    assert document["totals"]["agent_starts_total"] == document["totals"]["agent_stops_total"] == 2


def test_no_agent_outlives_a_simulation_that_is_killed(place: Place) -> None:
    command = Command(place, "--agents", "3")
    wait_until(lambda: len(command.crews()) == 3, "three crews")
    crews = command.crews()
    command.process.kill()
    command.process.communicate()
    wait_until(lambda: not any(Path(f"/proc/{crew}").exists() for crew in crews), "the end of the crews")


def test_a_catalogue_file_that_is_wrong_is_found_before_any_agent_starts(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="nowhere"):
        run(Settings(catalogue=(tmp_path / "nowhere.toml",)), Plan())


def test_a_process_of_agents_that_dies_ends_the_simulation(place: Place) -> None:
    command = Command(place, "--agents", "2")
    wait_until(lambda: len(command.crews()) == 2, "two crews")
    os.kill(int(command.crews()[0]), signal.SIGKILL)
    _, err = command.process.communicate(timeout=60)
    assert (command.process.returncode, err) == (1, "busmon: a process of simulated agents ended with status -9\n")


def test_a_broker_that_cant_be_used_is_found_before_any_agent_starts() -> None:
    with pytest.raises(BrokerUnreachableError, match="Connection refused"):
        run(Settings(amqp_url="amqp://guest:guest@127.0.0.1:1/"), Plan())
