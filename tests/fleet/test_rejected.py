"""Rejected samples in a real fleet: seen by another process, through a kill, and nothing else is changed by them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pika

from tests.conftest import Vhost
from tests.fleet.publishing import envelope, properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}


def rejected(fleet: RealFleet, *flags: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "busmon", "registry", "rejected", "--json", *flags]
    command += ["--registry-dir", str(fleet.registry_dir)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    samples: list[dict[str, Any]] = json.loads(answer)["samples"]
    return samples


def values(fleet: RealFleet) -> list[str]:
    return sorted(sample["value"] for sample in rejected(fleet, "--reason", "negative_increment"))


def in_log(fleet: RealFleet, event: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.log.read_text().split("\n")[:-1] if event in line]


def lines(source: str, body: bytes) -> tuple[bytes, pika.BasicProperties]:
    stated = properties(source, f"{source}:1")
    stated.content_type = "text/plain"
    return body, stated


def test_the_last_rejected_samples_are_seen_by_other_processes_and_survive_a_kill(tmp_path: Path, vhost: Vhost) -> None:
    formats = "analyzer.*=statsd"
    with RealFleet(tmp_path, vhost.amqp_url, "--workers", "1", BUSMON_FORMATS=formats) as fleet:
        publish(vhost.amqp_url, [lines(f"s-{n}", b"hits:1|c\nhits:-%d|c\nhits:nan|c" % (n + 1)) for n in range(3)])
        fleet.wait_for_total("hits_total", 3)
        wait_until(lambda: values(fleet) == ["-1.0", "-2.0", "-3.0"], "the rejected samples")
        for victim in fleet.worker_pids():
            os.kill(victim, signal.SIGKILL)
        publish(vhost.amqp_url, [lines("s-4", b"hits:1|c\nhits:-4|c")])
        fleet.wait_for_total("hits_total", 4)
        wait_until(lambda: values(fleet) == ["-1.0", "-2.0", "-3.0", "-4.0"], "the rejected samples of both lives")
        assert fleet.totals()["busmon_samples_rejected_total"] == 7
        shown = {row["reason"]: row for row in json.loads(fleet.get("/overview")[1])["rejected_samples"]}
        assert {reason: row["agent"] for reason, row in shown.items()} == {
            "negative_increment": "analyzer",
            "non_finite": "analyzer",
        }
        assert shown["non_finite"]["value"] == "nan"


def test_rejected_samples_are_logged_at_debug(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url, "--workers", "1", BUSMON_LOG_LEVEL="debug") as fleet:
        publish(vhost.amqp_url, [envelope("s-1", 1, [VOTE, {**VOTE, "labels": {"kind": "upvote"}}])])
        fleet.wait_for_total("votes_cast_total", 1)
        logged = wait_until(lambda: in_log(fleet, "lane.sample_rejected"), "the rejected sample in the log")
    assert [(line["reason"], line["labels"]) for line in logged] == [("label_mismatch", {"kind": "upvote"})]
    assert logged[0]["why"] == "expected the labels type; got the labels kind"
