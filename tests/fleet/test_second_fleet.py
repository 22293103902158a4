"""Two fleets on the same queues: one is served and ready, the other says that it stands by, and takes over."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from busmon.status import read
from tests.conftest import Vhost
from tests.patience import wait_until

from .publishing import envelope, publish
from .real_fleet import RealFleet

COUNTER = "tasks_processed_total"
SOURCES = 24


@contextmanager
def published(amqp_url: str) -> Iterator[None]:
    """Publish to every shard again and again until the block ends."""
    ended = Event()

    def go_on() -> None:
        sequence = 0
        while not ended.wait(0.2):
            sequence += 1
            sample = {"name": COUNTER, "type": "counter", "labels": {"agent": "a", "status": "success"}, "value": 1}
            publish(amqp_url, [envelope(f"a-{source}", sequence, [sample]) for source in range(SOURCES)])

    thread = Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_said_everywhere(fleet: RealFleet, status: str, state: str) -> bool:
    """Tell if document, page and metrics agree on the fleet's status and on the state of every shard."""
    code, document = fleet.get("/ready")[0], fleet.ready()
    overview = json.loads(fleet.get("/overview")[1])
    metrics = fleet.get("/metrics")[1].decode()
    return (
        (code, document["status"], overview["ready"]) == (200, status, status)
        and {shard["state"] for shard in document["shards"]} == {state}
        and {shard["state"] for shard in overview["shards"]} == {state}
        and all(f'busmon_shard_state{{shard="{number}",state="{state}"}} 1.0' in metrics for number in range(4))
        and "busmon_ready 1.0" in metrics
    )


def test_one_of_two_fleets_stands_by_says_so_everywhere_and_takes_over(vhost: Vhost, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with (
        RealFleet(tmp_path / "one", vhost.amqp_url, BUSMON_WORKERS="2") as one,
        published(vhost.amqp_url),
    ):
        wait_until(lambda: is_said_everywhere(one, "ready", "consuming"), "the only fleet to be ready")
        with RealFleet(tmp_path / "other", vhost.amqp_url, BUSMON_WORKERS="2") as other:
            wait_until(lambda: is_said_everywhere(other, "standby", "standby"), "the other to stand by")
            wait_until(lambda: "another fleet" in str(other.ready()["degraded"]), "the other to say why")
            assert is_said_everywhere(one, "ready", "consuming")
            assert "another fleet" not in str(one.ready()["degraded"])
            assert other.totals().get(COUNTER, 0.0) == 0.0
            assert read(other.registry_dir).workers[0].has_rivals
            one.stop()
            wait_until(lambda: is_said_everywhere(other, "ready", "consuming"), "the other to take over")
            assert other.totals()[COUNTER] > 0
