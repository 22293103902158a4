"""A body that kills its worker ends in quarantine alone, after two deaths; the bodies next to it are counted."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker.suspects import COMMIT, Suspects, identity, survives
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.storage.journal import Journal
from tests.unit.registry.registries import NOW

from .settlements import VOTE, Worker, body, delivery

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

KILLER = body(VOTE, source="killer")


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding the killer's body ends the process, as a fault in a C library would."""

    loads = orjson.loads

    def load_or_die(content: bytes) -> Any:
        if content == KILLER:
            os.kill(os.getpid(), signal.SIGKILL)
        return loads(content)

    monkeypatch.setattr(orjson, "loads", load_or_die)


def live_and_die(directory: Path, deliveries: Sequence[Delivery]) -> None:
    """A worker that takes these deliveries, in a process of its own, and doesn't come to their end."""
    child = os.fork()
    if child == 0:
        try:
            worker = Worker(directory)
            for each in deliveries:
                worker.lane.deliver([each])
            worker.lane.close(Trigger.DRAIN)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def with_killer(number: int, *, redelivered: bool) -> list[Delivery]:
    deliveries = [delivery(tag, redelivered=redelivered) for tag in range(1, number + 1)]
    killer = delivery(number + 1, KILLER, redelivered=redelivered, message_id="killer:1")
    return [*deliveries[: number // 2], killer, *deliveries[number // 2 :]]


@pytest.mark.usefixtures("deadly")
def test_a_body_that_kills_is_quarantined_after_two_deaths_and_its_neighbours_never_are(tmp_path: Path) -> None:
    live_and_die(tmp_path, with_killer(20, redelivered=False))
    live_and_die(tmp_path, with_killer(20, redelivered=True))
    with Worker(tmp_path) as worker:
        for each in with_killer(20, redelivered=True):
            worker.lane.deliver([each])
        worker.lane.close(Trigger.DRAIN)
        assert [bad.delivery.body for bad in worker.broker.quarantined] == [KILLER]
        assert worker.broker.quarantined[0].headers["reason"] == "kills_worker"
        assert worker.votes() == 20
        assert sorted(worker.broker.settled) == [*range(1, 22)]


@pytest.mark.usefixtures("deadly")
def test_a_killer_that_comes_again_is_tried_again(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path, 0)
    suspects.note(identity("killer:1", KILLER))
    suspects.close()
    for _ in range(2):
        with Worker(tmp_path) as worker:
            worker.lane.deliver([delivery(1, KILLER, message_id="killer:1")])
            worker.lane.deliver([delivery(2)])
            worker.lane.close(Trigger.DRAIN)
            assert len(worker.broker.quarantined) == 1
            assert worker.votes() == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("redelivered", [False, True])
def test_innocent_bodies_are_acquitted_however_often_their_worker_is_killed(
    redelivered: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    for _ in range(5):  # each time somebody kills the worker while the body is noted
        with Worker(tmp_path) as worker:
            worker.lane.deliver([delivery(1, redelivered=redelivered)])
            assert worker.suspects.blamed == {}
            worker.suspects.note(identity("s:1", b""))
    with Worker(tmp_path) as worker:
        for tag in (1, 2):
            worker.lane.deliver([delivery(tag, redelivered=redelivered)])
        worker.lane.close(Trigger.DRAIN)
        assert worker.broker.quarantined == []
        assert worker.votes() == 2
        assert worker.shows("busmon_envelopes_consumed_total") == 2
    assert Suspects(tmp_path, 0).blamed == {}


def test_a_blamed_body_that_is_no_envelope_is_quarantined_for_that(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path, 0)
    suspects.note(identity("s:1", b""))
    suspects.close()
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, b"nonsense", redelivered=True)])
        worker.lane.close(Trigger.DRAIN)
        assert worker.broker.quarantined[0].headers["reason"] == "invalid_json"
    assert Suspects(tmp_path, 0).blamed == {}


@pytest.mark.usefixtures("at_once")
def test_a_body_is_noted_while_it_is_folded_and_not_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[bytes] = []
    loads = orjson.loads

    def look_and_load(content: bytes) -> Any:
        if content in {body(VOTE), b"nonsense"}:
            noted.append((tmp_path / "shard0.suspect").read_bytes().strip(b"\0"))
        return loads(content)

    monkeypatch.setattr(orjson, "loads", look_and_load)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1)])
        worker.lane.deliver([delivery(2, redelivered=True)])
        worker.lane.deliver([delivery(3, b"nonsense", redelivered=True)])
        second, third = (identity(message_id, b"").encode() for message_id in ("s:2", "s:3"))
        assert noted == [b"", second, third, third]  # nonsense is looked at once more, to say what is wrong with it
        assert (tmp_path / "shard0.suspect").read_bytes().strip(b"\0") == b""


@pytest.fixture
def deadly_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of what the killer's body counts ends the process."""
    commit = Journal.commit

    def commit_or_die(self: Journal, payload: bytes, *, fsync: bool) -> None:
        if b'"killer"' in payload:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, payload, fsync=fsync)

    monkeypatch.setattr(Journal, "commit", commit_or_die)


def live_and_die_in_a_commit(directory: Path, deliveries: Sequence[Delivery]) -> None:
    child = os.fork()
    if child == 0:
        try:
            worker = Worker(directory)
            worker.lane.deliver(deliveries)
            worker.lane.close(Trigger.DRAIN)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.usefixtures("deadly_commit")
def test_a_body_that_kills_in_a_commit_is_quarantined_after_two_deaths_and_its_neighbours_never_are(
    tmp_path: Path,
) -> None:
    live_and_die_in_a_commit(tmp_path, with_killer(20, redelivered=False))
    live_and_die_in_a_commit(tmp_path, with_killer(20, redelivered=True))
    with Worker(tmp_path) as worker:
        worker.lane.deliver(with_killer(20, redelivered=True))
        worker.lane.deliver([delivery(22)])
        worker.lane.close(Trigger.DRAIN)
        assert [bad.delivery.body for bad in worker.broker.quarantined] == [KILLER]
        assert worker.broker.quarantined[0].headers["reason"] == "kills_worker"
        assert worker.votes() == 21
        assert sorted(worker.broker.settled) == [*range(1, 23)]


def test_a_worker_that_somebody_kills_in_a_commit_blames_nobody(tmp_path: Path) -> None:
    for _ in range(5):
        with Worker(tmp_path) as worker:
            worker.suspects.note(COMMIT)
        with Worker(tmp_path) as worker:
            assert worker.suspects.is_commit_suspected
            worker.suspects.note(identity("s:1", b""))
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, redelivered=True) for tag in (1, 2)])
        worker.lane.close(Trigger.DRAIN)
        assert worker.broker.quarantined == []
        assert worker.votes() == 2
        assert Suspects(tmp_path, 0).blamed == {}


def test_after_a_death_in_a_commit_redelivered_bodies_are_counted_alone_and_others_together(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.suspects.note(COMMIT)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, redelivered=tag in {2, 3}) for tag in (1, 2, 3, 4, 5)])
        worker.lane.close(Trigger.DRAIN)
        worker.lane.deliver([delivery(6)])
        worker.lane.close(Trigger.DRAIN)
        assert worker.votes() == 6
        counts = [worker.shows("busmon_batches_total", trigger=trigger) for trigger in ("fault", "size", "drain")]
        assert counts == [3, 0, 2]


def test_a_trial_writes_nothing_into_the_registry(tmp_path: Path) -> None:
    adopted = {"name": "brand_new_total", "type": "counter", "labels": {"k": "v"}, "value": 1}
    suspects = Suspects(tmp_path, 0)
    suspects.note(identity("s:1", b""))
    suspects.close()
    with Worker(tmp_path) as worker:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        ordeal = partial(worker.lane._intake.undergo, delivery(1, body(adopted)), NOW)
        assert survives(ordeal, worker.registry.shard.detach)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        worker.lane.deliver([delivery(1, body(adopted), redelivered=True)])
        worker.lane.close(Trigger.DRAIN)
        assert worker.shows("brand_new_total") == 1
