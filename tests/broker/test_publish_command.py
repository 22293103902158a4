"""`busmon publish` against a real broker: stored when it ends well, one line when it doesn't."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from busmon.cli import main

from .topologies import ONE_SHARD, QUEUE, TINY, Client, Place

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

TYPES = "counter, gauge, histogram, summary"
VOTE = ["votes_cast_total", "1", "-l", "type=upvote"]
ASKED = "counter, gauge, histogram or summary"


def publish(place: Place, *arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "busmon", "publish", *arguments, "--amqp-url", place.amqp_url]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, check=False)


def samples(client: Client, envelopes: int = 1) -> list[Any]:
    client.until_ready(QUEUE, envelopes)
    return [sample for taken in client.take(QUEUE, envelopes) for sample in orjson.loads(taken.body)["samples"]]


def test_a_sample_is_stored_and_nothing_is_said(place: Place, client: Client) -> None:
    ran = publish(place, "queue_size", "42", "-l", "queue=tasks=1", "--agent", "me")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    client.until_ready(QUEUE, 1)
    (taken,) = client.take(QUEUE)
    envelope = orjson.loads(taken.body)
    assert envelope["samples"] == [{"name": "queue_size", "labels": {"queue": "tasks=1"}, "value": 42.0}]
    assert (envelope["agent"], taken.routing_key) == ("me", "me.telemetry")
    assert taken.properties.message_id == f"{envelope['source']}:1"


def test_an_unknown_metric_is_stored_with_its_type(place: Place, client: Client) -> None:
    ran = publish(place, "backups", "-3.5", "--type", "gauge", "-v")
    assert ran.returncode == 0
    assert "confirmed: backups" in ran.stderr
    assert samples(client) == [{"name": "backups", "labels": {}, "value": -3.5, "type": "gauge"}]


def test_a_gauge_states_that_it_outlives_its_source(place: Place, client: Client) -> None:
    stated = {"name": "backup_size_bytes", "labels": {"job": "db"}, "value": 42.0, "type": "gauge"}
    ran = publish(place, "backup_size_bytes", "42", "--type", "gauge", "--outlives-source", "-l", "job=db")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert samples(client) == [{**stated, "outlives_source": True}]
    line = orjson.dumps({**stated, "outlives_source": True}).decode()
    assert publish(place, "-", lines=line).returncode == 0
    assert samples(client) == [{**stated, "outlives_source": True}]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["queue_size"], "publish: VALUE is missing"),
        (["queue_size", "many", "-l", "queue=q"], "publish: VALUE 'many': expected a number"),
        (
            ["queue_size", "nan", "-l", "queue=q"],
            "queue_size: a gauge takes a finite number as 'value': the value, or the sum of the values, is not finite",
        ),
        (["queue_size", "1"], "queue_size: by the catalogue its labels are [queue]"),
        (["queue_size", "1", "-l", "queue"], "publish: -l 'queue': expected KEY=VALUE"),
        (
            ["queue_size", "1", "-l", "queue=q", "--outlives-source"],
            "queue_size: by the catalogue it doesn't outlive its source",
        ),
        (
            ["backups_total", "1", "--type", "counter", "--outlives-source"],
            "'backups_total': only a gauge that is set outlives its source",
        ),
        (["backups", "1"], "'backups' is in no catalogue: give its type: " + ASKED),
        (["queue_siz", "1"], "'queue_siz' is in no catalogue: did you mean 'queue_size'? Else give its type: " + ASKED),
        (
            ["2bad", "1", "--type", "counter"],
            "publish: '2bad': a metric's name is 1 to 200 letters, digits or '_', no digit first",
        ),
        (["backups", "1", "--type", "kind"], "publish: --type 'kind': expected " + TYPES),
        (
            ["user_online_count", "1", "--agent", "a b"],
            "publish: --agent 'a b': expected 1 to 100 letters, digits, '_' or '-'",
        ),
        (["-", "1"], "publish: with '-' every line of standard input has its own value, type and labels"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(place: Place, arguments: list[str], line: str) -> None:
    ran = publish(place, *arguments)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"busmon: {line}\n")


def test_a_refusal_of_the_broker_is_one_line_and_status_1(place: Place) -> None:
    ran = publish(place, "queue_size", "1", "-l", "queue=q", "--exchange", "nowhere")
    assert ran.returncode == 1
    assert ran.stderr.startswith("busmon: NOT_FOUND - no exchange 'nowhere'")
    assert ran.stderr.endswith("; run `busmon topology declare`, which makes it\n")
    assert ran.stderr.count("\n") == 1


def test_one_sample_is_retried_until_the_broker_is_back(dedicated_node: PrivateNode, tmp_path: Path) -> None:
    place = Place.declared(dedicated_node.amqp_url, tmp_path, ONE_SHARD)
    dedicated_node.stop()
    arguments = ["queue_size", "42", "-l", "queue=q", "--retry-seconds", "150", "--amqp-url", place.amqp_url]
    with subprocess.Popen([sys.executable, "-m", "busmon", "publish", *arguments], stderr=subprocess.PIPE) as running:
        dedicated_node.start()
        assert (running.wait(170), running.stderr and running.stderr.read()) == (0, b"")
    with Client(place.amqp_url) as client:
        assert samples(client) == [{"name": "queue_size", "labels": {"queue": "q"}, "value": 42.0}]


@pytest.mark.parametrize("arguments", [["queue_size", "42", "-l", "queue=q"], ["-"]])
def test_retries_end_with_status_1_and_say_how_long_they_took(place: Place, arguments: list[str]) -> None:
    away = place._replace(amqp_url="amqp://guest:guest@127.0.0.1:1/")
    line = '{"name": "queue_size", "labels": {"queue": "q"}, "value": 42}'
    ran = publish(away, *arguments, "--retry-seconds", "0.3", lines=line)
    assert ran.returncode == 1
    refused = "Connection refused; check host and port in amqp_url (BUSMON_AMQP_URL)"
    said = f"busmon: RabbitMQ at 127.0.0.1:1: {refused} (retried for 0.3 s)"
    assert ran.stderr.splitlines()[-1] == said


def test_a_full_queue_is_retried(vhost: Any, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD, TINY)
    with Client(place.amqp_url) as client:
        while publish(place, "queue_size", "1", "-l", "queue=q", "--retry-seconds", "0").returncode == 0:
            pass
        arguments = ["queue_size", "42", "-l", "queue=q", "--retry-seconds", "100", "--amqp-url", place.amqp_url]
        with subprocess.Popen([sys.executable, "-m", "busmon", "publish", *arguments]) as running:
            client.take(QUEUE, client.ready(QUEUE))
            assert running.wait(110) == 0
        (sample,) = samples(client)
        assert sample["value"] == 42.0


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_a_limit_that_is_none_is_refused(place: Place, seconds: str) -> None:
    ran = publish(place, "queue_size", "1", "-l", "queue=q", "--retry-seconds", seconds)
    assert ran.returncode == 2
    assert ran.stderr == f"busmon: publish: --retry-seconds {seconds!r}: expected a number of at least 0\n"


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        (
            "guest:guest@",
            "guest:wrong@",
            "check user 'guest' and the password; RabbitMQ lets guest in from its own host only",
        ),
        ("guest:guest@", "nobody:x@", "check user 'nobody' and the password"),
        ("/test-", "/no-", "check virtual host 'no-"),
        ("/test-", "//", "the URL names an empty virtual host; end the URL with /%2F for the default one"),
    ],
)
def test_a_refused_connection_says_what_to_check(place: Place, old: str, new: str, remedy: str) -> None:
    ran = publish(place._replace(amqp_url=place.amqp_url.replace(old, new)), "queue_size", "1", "-l", "queue=q")
    assert ran.returncode == 1
    assert f"; {remedy}" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_user_without_rights_in_the_virtual_host_is_told_so(node: PrivateNode, place: Place) -> None:
    node.management("PUT", "/api/users/stranger", {"password": "x", "tags": ""})
    try:
        ran = publish(place._replace(amqp_url=place.amqp_url.replace("guest:guest@", "stranger:x@")), *VOTE)
    finally:
        node.management("DELETE", "/api/users/stranger")
    assert ran.returncode == 1
    assert "refused for user 'stranger'; give the user rights in virtual host 'test-" in ran.stderr
    assert ran.stderr.endswith("': rabbitmqctl set_permissions\n")


def test_the_variable_that_names_the_broker_is_named_where_nobody_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUSMON_AMQP_URL", raising=False)
    command = [
        sys.executable,
        "-m",
        "busmon",
        "publish",
        *VOTE,
        "--retry-seconds",
        "0",
        "--exchange",
        "no-such-exchange",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.endswith("; BUSMON_AMQP_URL isn't set, so this is the default address\n")


def test_lines_are_stored_and_accounted_for(place: Place, client: Client) -> None:
    lines = [f'{{"name": "queue_size", "labels": {{"queue": "q"}}, "value": {number}}}' for number in range(2500)]
    lines[1200] = '{"name": "queue_size"'
    ran = publish(place, "-", lines="\n".join(lines))
    assert ran.returncode == 1
    bad, account = ran.stderr.splitlines()
    assert bad.startswith("busmon: line 1201: not JSON: ")
    assert account == "busmon: 2,499 samples confirmed in 3 envelopes, 1 invalid line"
    assert [sample["value"] for sample in samples(client, 3)] == [n for n in range(2500) if n != 1200]


def test_a_terminal_shows_how_far_it_is(place: Place) -> None:
    command = [sys.executable, "-m", "busmon", "publish", "-", "--amqp-url", place.amqp_url]
    ours, theirs = pty.openpty()
    lines = b'{"name": "user_online_count", "value": 1}\n' * 2000
    subprocess.run(command, input=lines, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert re.search(r"\r\x1b\[K1,000 samples confirmed, [0-9,]+ a second", shown)
    assert shown.endswith("busmon: 2,000 samples confirmed in 2 envelopes\r\n")


def test_no_lines_are_no_failure(place: Place) -> None:
    ran = publish(place, "-")
    assert (ran.returncode, ran.stderr) == (0, "busmon: 0 samples confirmed in 0 envelopes\n")


def test_a_slow_input_is_stored_while_it_goes_on(place: Place, client: Client) -> None:
    command = [sys.executable, "-m", "busmon", "publish", "-", "--amqp-url", place.amqp_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as running:
        assert running.stdin
        assert running.stderr
        for value in (1, 2):
            running.stdin.write(f'{{"name": "queue_size", "labels": {{"queue": "q"}}, "value": {value}}}\n')
            (sample,) = samples(client)
            assert sample["value"] == value
        running.stdin.close()
        assert running.stderr.read() == "busmon: 2 samples confirmed in 2 envelopes\n"
    assert running.returncode == 0


def test_what_is_unconfirmed_at_the_end_is_said(
    place: Place, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client.channel.queue_unbind(QUEUE, "telemetry", "#")
    lines = tmp_path / "lines"
    lines.write_text('{"name": "user_online_count", "value": 1}\n' * 3)
    with lines.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        status = main(["publish", "-", "--retry-seconds", "0.5", "--amqp-url", place.amqp_url])
    account, error = capsys.readouterr().err.splitlines()
    assert status == 1
    assert account == "busmon: 0 samples confirmed in 0 envelopes, 3 not confirmed"
    assert (
        error
        == "busmon: returned: exchange 'telemetry' has no queue for routing key 'cli.telemetry' (retried for 0.5 s)"
    )


def test_a_queue_that_comes_back_in_time_costs_nothing(place: Place, client: Client) -> None:
    client.channel.queue_unbind(QUEUE, "telemetry", "#")
    command = [sys.executable, "-m", "busmon", "publish", "-", "--amqp-url", place.amqp_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdin
        assert running.stderr
        running.stdin.write('{"name": "user_online_count", "value": 1}\n')
        running.stdin.close()
        client.channel.queue_bind(QUEUE, "telemetry", "#")
        assert running.stderr.read() == "busmon: 1 sample confirmed in 1 envelope\n"
    assert running.returncode == 0
    assert len(samples(client)) == 1
