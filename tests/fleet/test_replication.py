"""A replicated fleet: hosts die with their disks, and the totals of every exporter stay exact."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pika

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission import survey
from busmon.registry.admission.census import Census
from busmon.registry.admission.places import Places
from tests.fleet.publishing import publish
from tests.fleet.replicated import COUNTER, Host, declare, envelopes, hosts, make_host, settings_of, wait_for_equal
from tests.patience import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE = Catalogue.load()


def test_a_host_may_be_killed_with_its_directory(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as (first, second):
        publish(vhost.amqp_url, envelopes(1))
        for host in (first, second):
            host.wait_for_total(COUNTER, 20)
        wait_for_equal(first, second)
        dying, other = (first, second) if first.owned() else (second, first)
        dying.destroy()
        publish(vhost.amqp_url, envelopes(2))
        other.wait_for_total(COUNTER, 40)
        dying.start()
        dying.wait_for_total(COUNTER, 40)
        publish(vhost.amqp_url, envelopes(3))
        for host in (first, second):
            host.wait_for_total(COUNTER, 60)
        wait_for_equal(first, second)
        assert wait_until(lambda: first.owned() | second.owned() == {0, 1, 2, 3}, "owners of all shards")


def test_hosts_that_share_the_shards_report_no_fault(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "second", "first") as pair:
        wait_until(lambda: all(host.owned() for host in pair), "shards of both hosts")
        wait_until(lambda: any(map(left_waiting, pair)), "one host to leave the waiting queue to the other")
        publish(vhost.amqp_url, envelopes(1))
        for host in pair:
            host.wait_for_total(COUNTER, 20)
        wait_until(lambda: not any(map(degraded_by_broker, pair)), "no fault of either host")


def test_series_that_one_host_admits_take_room_in_the_budgets_of_the_other(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as pair:
        wait_until(lambda: all(host.owned() for host in pair), "shards of both hosts")
        publish(vhost.amqp_url, envelopes(1))
        for host in pair:
            host.wait_for_total(COUNTER, 20)
        made = count_series(pair[0].registry_dir)
        assert made > 1
        wait_until(lambda: {budgeted(host.registry_dir) for host in pair} == {made}, "each host to count them all")


def count_series(directory: Path) -> int:
    """Count the series of the counter in all shards' files."""
    return len(survey.series(directory, [CATALOGUE.families[COUNTER]])[COUNTER])


def budgeted(directory: Path) -> int:
    """Count the series of the counter as budgets have them."""
    with closing(Places(directory)) as places, closing(Census(directory)) as census:
        return census.of(places.numbers[COUNTER])


def left_waiting(host: Host) -> bool:
    """Tell whether the host has left the waiting queue to another one, in order."""
    lines = [line for line in host.log.read_text().splitlines() if "consumer.channel_lost" in line]
    left = [line for line in lines if "telemetry.waiting" in line and "shard_lost" in line]
    assert not [line for line in left if "warning" in line]
    return bool(left)


def degraded_by_broker(host: Host) -> list[str]:
    """The lines of `degraded`, but for those about the machine that the test runs on."""
    return [line for line in host.ready()["degraded"] if not line.startswith(("cpu", "memory", "disk"))]


def events(host: Host, event: str) -> int:
    """Count the lines of a host's log that have this event."""
    return host.log.read_text().count(f'"event":"{event}"') + host.log.read_text().count(f'"event": "{event}"')


def test_a_host_that_was_killed_goes_on_from_its_files(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as (first, second):
        publish(vhost.amqp_url, envelopes(1))
        for host in (first, second):
            host.wait_for_total(COUNTER, 20)
        wait_for_equal(first, second)
        first.signal_all(signal.SIGKILL)
        first.process.wait()
        publish(vhost.amqp_url, envelopes(2))
        second.wait_for_total(COUNTER, 40)
        first.start()
        publish(vhost.amqp_url, envelopes(3))
        for host in (first, second):
            host.wait_for_total(COUNTER, 60)
        wait_for_equal(first, second)
        assert events(first, "followed_log.resuming") == 4
        assert not events(first, "followed_log.rebuilding")


MADE_AGAIN = "the log was deleted and made again"
KEPT = "the state of the former log until this host's registry directory is deleted"


class Refusing(Host):
    """A host that is up once it has refused a log."""

    def is_consuming(self) -> bool:
        return "interrupted" in {each.state for each in self.replicas().values() if MADE_AGAIN in each.cause}


def test_a_log_that_was_made_again_while_its_host_was_down_is_not_mixed_with_the_files(
    vhost: Any, tmp_path: Path
) -> None:
    declare(vhost)
    with make_host(vhost, tmp_path / "first") as first:
        publish(vhost.amqp_url, envelopes(1))
        first.wait_for_total(COUNTER, 20)
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        connection.channel().queue_delete("telemetry.log.0")
    declare(vhost)
    with Refusing(tmp_path / "first", vhost.amqp_url, python=None, **settings_of("first")) as again:
        said = f"shard 0: this host can't read the log: {MADE_AGAIN}; the replica keeps {KEPT}"
        assert said in again.ready()["degraded"]
        again.wait_for_total(COUNTER, 20)
