"""`busmon quarantine` against a real broker: looking changes nothing, and replaying loses and doubles nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from pika import BasicProperties

from busmon.bus.connect.session import Session
from busmon.bus.frames.properties import LazyProperties
from busmon.bus.operator.quarantine import Quarantine
from busmon.cli import main
from busmon.errors import BrokerUnreachableError

from .topologies import ONE_SHARD, Client, Place

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_settings")

FOLD, QUARANTINE = "telemetry.fold.0", "telemetry.quarantine"
ENVELOPE = BasicProperties(
    message_id="analyzer-1:7",
    content_type="application/json",
    delivery_mode=2,
    app_id="analyzer",
    headers={"source": "analyzer-1", "published_at_ns": 1763794800123456789},
)
DIGEST_OF_BODY = "230d8358dc8e"  # printf body | sha256sum


def properties_of_worker(reason: str = "invalid_json", **properties: Any) -> BasicProperties:
    """The properties under which a worker puts a body there."""
    why = {
        "reason": reason,
        "detail": "line 1",
        "agent": "analyzer",
        "original_exchange": "telemetry",
        "original_routing_key": "analyzer.task",
        "queue": FOLD,
        "quarantined_at": "1763794800.5",
    }
    headers = {**properties.pop("headers", {}), **why}
    return BasicProperties(delivery_mode=2, user_id="guest", headers=headers, **properties)


def quarantine(client: Client, body: bytes, **properties: Any) -> None:
    """Put a body there as a worker does."""
    client.publish(body, properties_of_worker(**properties), exchange=QUARANTINE)


def run(place: Place, *words: str) -> int:
    return main(["quarantine", *words, *place.arguments()])


def listed(place: Place, capsys: Capture, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(place, "list", "--json", *words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


class TestLooking:
    def test_list_shows_what_and_why(self, place: Place, client: Client, capsys: Capture) -> None:
        quarantine(client, b"{]", message_id="analyzer-1:7")
        quarantine(client, b"body", reason="not_utf8")
        assert run(place, "list") == 0
        assert capsys.readouterr().out.splitlines() == [
            "ID            QUARANTINED (UTC)    REASON        AGENT     ROUTING KEY    BYTES",
            "analyzer-1:7  2025-11-22 07:00:00  invalid_json  analyzer  analyzer.task  2",
            f"{DIGEST_OF_BODY}  2025-11-22 07:00:00  not_utf8      analyzer  analyzer.task  4",
            "2 of 2",
        ]

    def test_looking_leaves_every_body_in_its_place(self, place: Place, client: Client, capsys: Capture) -> None:
        for number in range(30):
            quarantine(client, b"%d" % number)
        first = listed(place, capsys)
        assert listed(place, capsys, "--limit", "7")["bodies"] == first["bodies"][:7]
        assert listed(place, capsys) == first
        client.until_ready(QUARANTINE, 30)
        assert [taken.body for taken in client.take(QUARANTINE, 30)] == [b"%d" % number for number in range(30)]

    def test_list_is_bounded_and_says_how_many_there_are(self, place: Place, client: Client, capsys: Capture) -> None:
        for reason in ("invalid_json", "not_utf8", "not_utf8"):
            quarantine(client, b"x", reason=reason)
        assert run(place, "list", "--limit", "1") == 0
        assert capsys.readouterr().out.splitlines()[-1] == "1 of 3"
        found = listed(place, capsys, "--reason", "not_utf8")
        assert (found["total"], [body["reason"] for body in found["bodies"]]) == (3, ["not_utf8", "not_utf8"])

    def test_an_empty_quarantine_is_said_to_be_empty(self, place: Place, capsys: Capture) -> None:
        assert run(place, "list") == 0
        assert capsys.readouterr().out == "the quarantine is empty\n"

    def test_a_body_that_rabbitmq_dead_lettered_has_its_reason(
        self, place: Place, client: Client, capsys: Capture
    ) -> None:
        client.publish(b"body", ENVELOPE)
        client.reject(FOLD)
        client.until_ready(QUARANTINE, 1)
        (found,) = listed(place, capsys)["bodies"]
        assert abs(found.pop("quarantined_at") - time.time()) < 60
        assert found == {
            "id": "analyzer-1:7",
            "reason": "rejected",
            "detail": f"dead-lettered by RabbitMQ from queue {FOLD}",
            "agent": "analyzer",
            "routing_key": "agent.task",
            "size": 4,
        }

    def test_show_prints_headers_and_body(self, place: Place, client: Client, capsys: Capture) -> None:
        quarantine(client, b'{"v": 1,\n\t"bad"', message_id="a:1", headers={"source": "a"})
        assert run(place, "show", "a:1") == 0
        out = capsys.readouterr().out
        assert "detail                       line 1\n" in out
        assert "header source                a\n" in out
        assert out.endswith('\n\n{"v": 1,\n\t"bad"\n')

    def test_show_prints_bytes_as_digits_and_not_more_than_asked(
        self, place: Place, client: Client, capsys: Capture
    ) -> None:
        quarantine(client, b"\x1f\x8b" * 100, message_id="a:1")
        assert run(place, "show", "a:1", "--max-bytes", "4") == 0
        assert capsys.readouterr().out.endswith("\n00000000  1f 8b 1f 8b" + " " * 38 + "....\n… and 196 bytes more\n")

    def test_show_raw_writes_the_body_alone(self, place: Place, client: Client, capfdbinary: Any) -> None:
        quarantine(client, b"\x00\xff\n", message_id="a:1")
        assert run(place, "show", "a:1", "--raw") == 0
        assert capfdbinary.readouterr().out == b"\x00\xff\n"

    def test_an_id_that_is_not_there_is_one_line(self, place: Place, capsys: Capture) -> None:
        assert run(place, "show", "nobody") == 2
        assert capsys.readouterr().err == (
            "busmon: the quarantine has no body with the ID 'nobody'; `busmon quarantine list` lists them\n"
        )

    def test_on_a_terminal_it_says_how_far_it_is(self, place: Place, client: Client) -> None:
        quarantine(client, b"body")
        terminal, slave = pty.openpty()
        command = [sys.executable, "-m", "busmon", "quarantine", "list", *place.arguments()]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, text=True, check=True)
        os.close(slave)
        assert done.stdout.endswith("\n1 of 1\n")
        drawn = os.read(terminal, 100)
        os.close(terminal)
        assert drawn == b"\r1 of 1 examined\r\x1b[K"

    @pytest.mark.parametrize("limit", ["0", "-1", "many"])
    def test_a_limit_is_a_positive_number(self, place: Place, limit: str) -> None:
        with pytest.raises(SystemExit) as exit_:
            run(place, "list", "--limit", limit)
        assert exit_.value.code == 2

    def test_what_somebody_else_took_meanwhile_is_not_waited_for(
        self, place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("busmon.bus.operator.quarantine._PATIENCE_SECONDS", 0.2)
        quarantine(client, b"body")
        with Quarantine(place.amqp_url, place.topology) as quarantined:
            monkeypatch.setattr(quarantined, "total", lambda: 3)
            assert [step.position for step in quarantined.look()] == [1]

    def test_without_a_quarantine_there_is_one_line(self, vhost: Any, capsys: Capture) -> None:
        assert main(["quarantine", "list", "--amqp-url", vhost.amqp_url]) == 1
        line = capsys.readouterr().err
        assert line.startswith("busmon: NOT_FOUND - no queue 'telemetry.quarantine'")
        assert line.endswith("; run `busmon topology declare`, which makes it\n")


class TestReplay:
    def test_a_body_goes_back_as_it_was_published(self, place: Place, client: Client, capsys: Capture) -> None:
        published = {name: getattr(ENVELOPE, name) for name in ("message_id", "content_type", "app_id", "headers")}
        quarantine(client, b"body", **published)
        assert run(place, "replay", "analyzer-1:7") == 0
        assert capsys.readouterr().out == "1 body replayed\n"
        (taken,) = client.take(FOLD)
        assert (taken.routing_key, taken.properties, taken.body) == ("analyzer.task", ENVELOPE, b"body")
        assert client.ready(QUARANTINE) == 0

    def test_what_rabbitmq_dead_lettered_goes_back_as_it_was(self, place: Place, client: Client) -> None:
        client.publish(b"body", ENVELOPE)
        client.reject(FOLD)
        client.until_ready(QUARANTINE, 1)
        assert run(place, "replay", "--all") == 0
        (taken,) = client.take(FOLD)
        assert (taken.routing_key, taken.properties, taken.body) == ("agent.task", ENVELOPE, b"body")

    def test_a_replayed_body_that_dies_again_is_in_quarantine_again(self, vhost: Any, tmp_path: Path) -> None:
        place = Place.declared(
            vhost.amqp_url, tmp_path, ONE_SHARD, ("x-delivery-limit = 100 ", "x-delivery-limit = 1 ")
        )
        with Client(place.amqp_url) as client:
            client.publish(b"body", ENVELOPE)
            for _ in range(3):
                # Only deaths count: from RabbitMQ 4.3 on, a body may be given back as often as a consumer likes.
                for _ in range(2):
                    with Client(place.amqp_url) as dying:
                        dying.take(FOLD, settle=False)
                client.until_ready(QUARANTINE, 1)
                assert run(place, "replay", "--all") == 0
            assert client.take(FOLD)[0].properties == ENVELOPE

    def test_only_the_chosen_go(self, place: Place, client: Client, capsys: Capture) -> None:
        for number, reason in enumerate(("invalid_json", "not_utf8", "invalid_json")):
            quarantine(client, b"%d" % number, reason=reason)
        assert run(place, "replay", "--reason", "invalid_json") == 0
        assert [taken.body for taken in client.take(FOLD, 2)] == [b"0", b"2"]
        assert [body["reason"] for body in listed(place, capsys)["bodies"]] == ["not_utf8"]

    def test_a_refused_replay_stays_in_quarantine(self, place: Place, client: Client, capsys: Capture) -> None:
        quarantine(client, b"body")
        client.channel.queue_unbind(FOLD, "telemetry", "#")
        assert run(place, "replay", "--all") == 1
        assert capsys.readouterr().err.startswith("busmon: returned: exchange 'telemetry' has no queue")
        client.until_ready(QUARANTINE, 1)

    def test_a_user_id_hinders_no_replay(self, place: Place, client: Client) -> None:
        quarantine(client, b"body", headers={"original_user_id": "somebody"})
        assert run(place, "replay", "--all") == 0
        replayed = client.take(FOLD)[0].properties
        assert (replayed.user_id, replayed.headers) == ("guest", {"original_user_id": "somebody", "replayed": True})

    def test_a_connection_lost_after_the_confirm_is_said(
        self, vhost: Any, node: Any, place: Place, client: Client
    ) -> None:
        quarantine(client, b"body", message_id="a:1")

        def cut(_: object) -> bool:
            node.rabbitmqctl("close_all_connections", "--vhost", vhost.name, "a test")
            return True

        with Quarantine(place.amqp_url, place.topology) as quarantined:
            said = r"^a:1 was replayed, but may still be in quarantine: .*; replayed again, it counts once$"
            with pytest.raises(BrokerUnreachableError, match=said):
                next(quarantined.replay(cut))
        with Client(place.amqp_url) as other:
            other.until_ready(QUARANTINE, 1)
            assert other.ready(FOLD) == 1

    def test_an_id_that_is_not_there_is_named_after_the_others_went(
        self, place: Place, client: Client, capsys: Capture
    ) -> None:
        quarantine(client, b"body")
        assert run(place, "replay", DIGEST_OF_BODY, "nobody") == 2
        captured = capsys.readouterr()
        assert captured.out == "1 body replayed\n"
        assert captured.err.startswith("busmon: the quarantine has no body with the ID 'nobody'")

    @pytest.mark.parametrize("words", [[], ["--all", "--reason", "x"], ["id", "--all"]])
    def test_what_to_replay_has_to_be_said(self, place: Place, words: list[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            run(place, "replay", *words)
        assert exit_.value.code == 2

    def test_headers_that_pika_cannot_decode_hinder_nobody(
        self, place: Place, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        properties = BasicProperties(message_id="a:1", headers={"when": 0})
        beyond_year_9999 = b"T" + (2**40).to_bytes(8, "big")
        good = properties.encode()
        bad = [piece.replace(b"I\x00\x00\x00\x00", beyond_year_9999) for piece in good]
        joined = b"".join(bad).replace(b"\x00\x00\x00\x0a\x04when", b"\x00\x00\x00\x0e\x04when")
        monkeypatch.setattr(properties, "encode", lambda: [joined], raising=False)
        client.publish(b"body", properties, exchange=QUARANTINE)
        assert [body["id"] for body in listed(place, capsys)["bodies"]] == ["a:1"]
        assert run(place, "replay", "a:1") == 0
        with Session(place.amqp_url, "test") as session:
            _, replayed, body = session.call(lambda channel: next(iter(channel.consume(FOLD, auto_ack=True))))
        assert isinstance(replayed, LazyProperties)
        assert (replayed.fields, body) == (b"\x04when" + beyond_year_9999, b"body")


class TestInterruption:
    IDS = tuple(f"a:{number}" for number in range(1000))

    @pytest.fixture
    def filled(self, place: Place, client: Client) -> Place:
        bodies = ((b"body", properties_of_worker(message_id=identity)) for identity in self.IDS)
        client.publish_many(bodies, QUARANTINE)
        client.until_ready(QUARANTINE, len(self.IDS))
        return place

    def interrupted(self, client: Client, place: Place, number: signal.Signals) -> tuple[int, list[str], list[str]]:
        """Exit status, and who is in the shard and in quarantine, after a replay that got a signal under way."""
        command = [sys.executable, "-m", "busmon", "quarantine", "replay", "--all", *place.arguments()]
        with subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True) as replay:
            client.until(lambda: client.ready(FOLD) > 100, "a replay under way")
            replay.send_signal(number)
            out, _ = replay.communicate(timeout=60)
        if number != signal.SIGKILL:
            assert "; stopped after " in out
        client.until(lambda: client.ready(FOLD) + client.ready(QUARANTINE) >= len(self.IDS), "every body ready")
        replayed, kept = (
            [taken.properties.message_id for taken in client.take(queue, client.ready(queue))]
            for queue in (FOLD, QUARANTINE)
        )
        return replay.returncode, replayed, kept

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_leaves_each_body_in_one_place(self, filled: Place, client: Client, number: signal.Signals) -> None:
        status, replayed, kept = self.interrupted(client, filled, number)
        assert status == 128 + number
        assert kept
        assert sorted(replayed + kept) == sorted(self.IDS)

    def test_a_kill_loses_nothing_and_doubles_at_most_the_body_at_hand(self, filled: Place, client: Client) -> None:
        _, replayed, kept = self.interrupted(client, filled, signal.SIGKILL)
        assert {*replayed, *kept} == set(self.IDS)
        assert len(replayed) + len(kept) <= len(self.IDS) + 1


class TestPurge:
    def test_nothing_is_deleted_without_yes(self, place: Place, client: Client, capsys: Capture) -> None:
        quarantine(client, b"body")
        assert run(place, "purge") == 2
        assert capsys.readouterr().err == (
            "busmon: nothing deleted of 1 body: this can't be undone; confirm with --yes\n"
        )
        client.until_ready(QUARANTINE, 1)

    def test_with_yes_everything_is_deleted(self, place: Place, client: Client, capsys: Capture) -> None:
        for _ in range(3):
            quarantine(client, b"body")
        assert run(place, "purge", "--yes") == 0
        assert capsys.readouterr().out == "3 bodies deleted\n"
        assert client.ready(QUARANTINE) == 0

    def test_a_reason_deletes_only_what_has_it(self, place: Place, client: Client, capsys: Capture) -> None:
        for number, reason in enumerate(("invalid_json", "not_utf8", "invalid_json")):
            quarantine(client, b"%d" % number, reason=reason)
        assert run(place, "purge", "--reason", "invalid_json", "--yes") == 0
        assert capsys.readouterr().out == "2 bodies deleted\n"
        assert [body["reason"] for body in listed(place, capsys)["bodies"]] == ["not_utf8"]

    def test_deleted_bodies_are_not_counted_as_dropped(self, place: Place, client: Client) -> None:
        quarantine(client, b"body")
        assert run(place, "purge", DIGEST_OF_BODY, "--yes") == 0
        quarantine(client, b"body")
        assert run(place, "purge", "--yes") == 0
        assert client.ready("telemetry.quarantine.dropped") == 0
