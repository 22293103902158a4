"""A changed catalogue reaches the scrape of a running exporter."""

import signal
from pathlib import Path

from tests.conftest import Vhost
from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

CATALOGUE = '[counter.agent_starts_total]\nhelp = "Agent processes started"\nlabels = ["agent"]\nttl_seconds = %d\n'


def test_a_reload_has_the_scrape_go_by_another_time_to_live(tmp_path: Path, vhost: Vhost) -> None:
    catalogue = tmp_path / "own.toml"
    catalogue.write_text(CATALOGUE % 3600)
    with RealFleet(tmp_path, vhost.amqp_url, "--workers", "1", BUSMON_CATALOGUE=str(catalogue)) as fleet:
        started = {"name": "agent_starts_total", "labels": {"agent": "analyzer"}, "value": 1}
        publish(vhost.amqp_url, [envelope("s-1", 1, [started])])
        fleet.wait_for_total("agent_starts_total", 1)
        catalogue.write_text(CATALOGUE % 1)
        fleet.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "agent_starts_total" not in fleet.totals(), "the series to be hidden")
        catalogue.write_text(CATALOGUE % 3600)
        fleet.process.send_signal(signal.SIGHUP)
        wait_until(lambda: fleet.totals().get("agent_starts_total") == 1, "the series to be shown again")
        assert fleet.totals()["busmon_worker_restarts_total"] == 0
