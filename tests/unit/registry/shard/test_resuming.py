"""A replica goes on from the files of its last run: they are the state after the record that they name, or not used."""

import random
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from busmon.registry.admission.families import Families
from busmon.registry.operator import removal
from busmon.registry.shard import resuming
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import ValueFile
from tests.unit.registry.registries import CATALOGUE, NOW
from tests.unit.registry.shard.test_replicas import Host, position, samples, two_hosts

COUNTER = {"name": "made_total", "type": "counter", "labels": {"x": "1"}, "value": 1}


class KilledError(BaseException):
    """The process is killed here."""


def reopen(directory: Path, copy: Path) -> tuple[int | None, str, str]:
    """Open a copy of a replica that was killed; return the number of its last record, its digest and its fault."""
    shutil.copytree(directory, copy)
    with closing(ReplicatedShard.open(copy, 0, Families(copy, CATALOGUE, 100))) as shard:
        found = None if shard.position is None else shard.position.place.number, shard.digest(), shard.fault
    shutil.rmtree(copy)
    return found


def act(owner: Host, step: int, chance: random.Random) -> None:
    """Do something as the owner, of each kind that changes a shard."""
    now = NOW + 1000 * step
    match step % 10:
        case 3:
            removal.drop(owner.shard, "tasks_processed_total", {"agent": chance.choice("abc")}, now)
        case 5:
            owner.shard.follow_step(3600.0, now)
        case 7:
            owner.shard.rewind(now - 500)
        case 9:
            owner.shard.expire(now - 2000)
            owner.shard.commit(now)
        case _:
            owner.count(step + 1, now, *chance.sample(samples(chance), 2), source=chance.choice(["s-1", "s-2", "s-3"]))


def test_files_are_the_state_after_the_record_that_they_name(tmp_path: Path) -> None:
    chance, empty = random.Random(3), Host(tmp_path / "empty")
    digests = {0: empty.shard.digest()}
    with two_hosts(tmp_path) as (owner, replica):
        for step in range(30):
            act(owner, step, chance)
            while replica.followed < len(owner.log):
                replica.follow(owner, most=1)
                digests[replica.followed] = replica.shard.digest()
                found = reopen(replica.directory, tmp_path / "copy")
                assert found == (replica.followed, digests[replica.followed], "")
            number, digest, _ = reopen(owner.directory, tmp_path / "copy")
            assert digest == digests[number or 0], step
    empty.shard.close()


def replay(owner: Host, number: int | None, directory: Path) -> str:
    """Return the digest of a new replica after so many records of the owner."""
    host = Host(directory)
    host.follow(owner, most=number or 0)
    digest = host.shard.digest()
    host.shard.close()
    return digest


@pytest.mark.parametrize("step", [0, 3, 5, 7])
@pytest.mark.parametrize("writes", range(6))
def test_files_of_a_replica_that_was_killed_in_a_record_are_a_state_or_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, writes: int
) -> None:
    chance = random.Random(5)
    with two_hosts(tmp_path) as (owner, replica):
        owner.count(1, NOW, *samples(chance), source="s-1")
        replica.follow(owner)
        act(owner, step + 10, chance)
        kill_at(monkeypatch, writes)
        with suppress(KilledError):
            replica.follow(owner)
        monkeypatch.undo()
        number, digest, fault = reopen(replica.directory, tmp_path / "copy")
        assert (digest, fault) == (replay(owner, number, tmp_path / "fresh"), "")


def test_a_replica_that_was_killed_goes_on_with_the_records_that_follow(tmp_path: Path) -> None:
    chance = random.Random(6)
    with two_hosts(tmp_path) as (owner, replica):
        for step in range(20):
            act(owner, step, chance)
            replica.follow(owner)
            shutil.copytree(replica.directory, tmp_path / f"{step}")
            followed, replica.directory = replica.followed, tmp_path / f"{step}"
            replica.shard.close()
            replica.shard = ReplicatedShard.open(replica.directory, 0, Families(replica.directory, CATALOGUE, 100))
            assert replica.shard.position == position(followed)
            assert replica.shard.digest() == owner.shard.digest(), step
        assert replica.scrape() == owner.scrape()


def count_one(directory: Path) -> Host:
    """Return a host whose replica has one record, and is closed."""
    host = Host(directory)
    host.count(1, NOW, COUNTER)
    host.shard.close()
    return host


def open_again(host: Host) -> tuple[int | None, str, list[str]]:
    """Open a host's replica; return its last record's number, its fault, and what the exporter was told."""
    told: list[str] = []
    families = Families(host.directory, CATALOGUE, 100)
    opened = ReplicatedShard.open(host.directory, 0, families, at_reading=lambda: told.append("reading"))
    with closing(opened) as shard:
        return None if shard.position is None else shard.position.place.number, shard.fault, told


def test_files_of_the_last_run_are_used_and_the_exporter_serves_them_meanwhile(tmp_path: Path) -> None:
    host = count_one(tmp_path / "a")
    assert resuming.find_position(host.directory, 0) == position(1)
    assert open_again(host) == (1, "", [])
    assert 'made_total{x="1"} 1.0' in host.scrape()


@pytest.mark.parametrize("boot_id", ["another run of the machine\n", None])
def test_files_of_another_run_of_the_machine_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot_id: str | None
) -> None:
    host = count_one(tmp_path / "a")
    monkeypatch.setattr(resuming, "_BOOT_ID", tmp_path / "boot_id")
    if boot_id is not None:
        (tmp_path / "boot_id").write_text(boot_id)
    assert open_again(host) == (None, "", ["reading"])
    assert "made_total" not in host.scrape()


def test_files_that_have_no_record_yet_are_not_used(tmp_path: Path) -> None:
    host = Host(tmp_path / "a")
    host.shard.close()
    assert open_again(host) == (None, "", ["reading"])


def test_files_with_keys_of_a_record_that_they_do_not_have_are_not_used(tmp_path: Path) -> None:
    host = count_one(tmp_path / "a")
    path = host.directory / "counter_shard0.db"
    file = ValueFile(path)
    file.append([b'["x_total", "x_total", {}, "x"]'])
    file.close()
    assert open_again(host) == (None, "", ["reading"])


def test_files_without_their_families_are_not_used(tmp_path: Path) -> None:
    host = count_one(tmp_path / "a")
    (host.directory / "families.jsonl").unlink()
    assert open_again(host) == (None, "", ["reading"])


def test_damaged_files_are_not_used_and_the_fault_is_named(tmp_path: Path) -> None:
    host = count_one(tmp_path / "a")
    path = host.directory / "counter_shard0.db"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"made_total", b"fade_total"))
    number, fault, told = open_again(host)
    assert (number, told) == (None, ["reading"])
    assert fault.startswith(f"{path}: its keys aren't those that shard0.journal counts on")


def test_a_torn_journal_is_not_used(tmp_path: Path) -> None:
    host = count_one(tmp_path / "a")
    journal = host.directory / "shard0.journal"
    content = bytearray(journal.read_bytes())
    content[content.index(b'"position"')] ^= 1
    journal.write_bytes(content)
    assert open_again(host) == (None, "", ["reading"])


def kill_at(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Kill the process before the journal is written to, after so many writes."""
    left = [writes]

    def dying(write: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return write(*arguments, **named)

        return call

    for name in ("commit", "clear", "note"):
        monkeypatch.setattr(Journal, name, dying(getattr(Journal, name)))
