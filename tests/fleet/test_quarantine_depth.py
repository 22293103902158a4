"""The overview tells what is in the quarantine now, and not what ever was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from busmon.demo.broker import PrivateNode
from tests.fleet.publishing import properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until


def test_a_replayed_body_is_there_once_and_a_purged_one_not_at_all(node: PrivateNode, tmp_path: Path) -> None:
    node.vhost("quarantined")
    url = node.amqp_url.replace("%2F", "quarantined")
    with RealFleet(tmp_path, url, "--workers", "1") as fleet:

        def quarantined() -> tuple[int | None, float]:
            told: dict[str, Any] = json.loads(fleet.get("/overview")[1])
            return told["quarantined"], sum(told["totals"]["quarantined"].values())

        wait_until(lambda: quarantined() == (0, 0), "an empty quarantine to be known")
        publish(url, [(b"no envelope", properties("stranger", None))])
        wait_until(lambda: quarantined() == (1, 1), "the body to be told")
        command(url, "replay", "--all")
        wait_until(lambda: quarantined() == (1, 2), "the body to be back")
        command(url, "purge", "--yes")
        wait_until(lambda: quarantined() == (0, 2), "the quarantine to be empty")


def command(url: str, *arguments: str) -> None:
    subprocess.run((sys.executable, "-m", "busmon", "quarantine", *arguments, "--amqp-url", url), check=True)
