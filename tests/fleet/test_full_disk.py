"""A disk that stays full for many consumer timeouts costs no envelope: none in quarantine, each counted once."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pika import BasicProperties

from busmon import status
from busmon.bus.connect.session import Session
from busmon.bus.topology.version import parse
from busmon.demo.broker import PrivateNode
from tests.broker.topologies import ONE_SHARD, Place
from tests.patience import wait_until

from .publishing import depth, envelope, publish
from .real_fleet import RealFleet

ENVELOPES = 60
SERIES = 40
TIMEOUT_SECONDS = 1.0
FEW_DELIVERIES = ("x-delivery-limit = 100 #", "x-delivery-limit = 3 #")
NO_ROOM_BYTES = 1 << 16
"""As long as a value file is at first: no file can grow beyond it."""


@contextmanager
def full_disk(fleet: RealFleet) -> Iterator[None]:
    """Let no file of the worker grow, as a quota does."""
    (pid,) = fleet.worker_pids()
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (NO_ROOM_BYTES, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def wide_envelopes() -> list[tuple[bytes, BasicProperties]]:
    """Envelopes that each add 1 to series that no other has."""
    return [
        envelope(f"source-{number}", 1, [_part(number, part) for part in range(SERIES)]) for number in range(ENVELOPES)
    ]


def _part(number: int, part: int) -> dict[str, object]:
    return {"name": "parts_total", "type": "counter", "labels": {"part": f"{number}-{part}{'x' * 64}"}, "value": 1}


def timeouts(fleet: RealFleet) -> int:
    (worker,) = status.read(fleet.registry_dir).workers
    return worker.reconnects.get("consumer_timeout", 0)


def expected_timeouts(amqp_url: str) -> int:
    """One; from RabbitMQ 4.3 on none, since the broker takes the deliveries back and leaves the channel open."""
    with Session(amqp_url, "test") as session:
        return 0 if parse(session.broker_version) >= (4, 3) else 1


def test_good_envelopes_stay_out_of_quarantine_however_long_the_disk_is_full(
    tmp_path: Path, dedicated_node: PrivateNode
) -> None:
    milliseconds = int(TIMEOUT_SECONDS * 1000)
    dedicated_node.rabbitmqctl(
        "eval",
        f"[application:set_env(rabbit, Key, {milliseconds}) || Key <- [consumer_timeout, channel_tick_interval]].",
    )
    place = Place.declared(dedicated_node.amqp_url, tmp_path, ONE_SHARD, FEW_DELIVERIES)
    options = ("--topology", str(place.path), "--workers", "1", "--max-label-values", "10000")
    with RealFleet(tmp_path, place.amqp_url, *options) as fleet:
        with full_disk(fleet):
            publish(place.amqp_url, wide_envelopes())
            assert fleet.wait_until_named("shard 0 is failing")["status"] == "not_ready"
            wait_until(
                lambda: depth(place.amqp_url, "telemetry.fold.0") == ENVELOPES, "the broker to take the deliveries back"
            )
            until = time.monotonic() + 8 * TIMEOUT_SECONDS
            wait_until(lambda: time.monotonic() > until, "many times the limit of deliveries to pass")
            assert timeouts(fleet) == expected_timeouts(place.amqp_url)
            assert fleet.totals().get("parts_total", 0.0) < ENVELOPES * SERIES
        fleet.wait_for_total("parts_total", ENVELOPES * SERIES)
        assert fleet.totals()["busmon_envelopes_consumed_total"] == ENVELOPES
        wait_until(lambda: fleet.get("/ready")[0] == 200, "the fleet to be ready again")
        assert fleet.totals()["busmon_worker_restarts_total"] == 0
    assert depth(place.amqp_url, "telemetry.quarantine") == 0
    assert depth(place.amqp_url, "telemetry.fold.0") == 0
