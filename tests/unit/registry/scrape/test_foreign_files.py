"""A foreign object in a file's place costs only its name: it is never waited for, followed, or read without end."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.registry.admission import survey
from busmon.registry.scrape import collection, tables
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.keys import KeyParser
from busmon.registry.scrape.served_exemplars import ServedExemplars
from busmon.registry.shard.recover import recover
from tests.unit.registry.registries import Registry

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
VOTED = b'votes_cast_total{type="upvote"} 1.0'


def pipe(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(bytes(1 << 16))
    path.symlink_to(target)


def dangling(path: Path) -> None:
    path.symlink_to("/nowhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


PLANTED = [pipe, directory, link, dangling, device, listener]


@pytest.fixture(params=PLANTED, ids=lambda plant: plant.__name__)
def plant(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    chosen: Callable[[Path], None] = request.param
    return chosen


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
    return tmp_path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["counter_9.db", "gauge_sum_shard7.db", "sketch_shard0.bins", "shard7.journal"])
def test_a_scrape_names_it_and_serves_the_rest(name: str, plant: Callable[[Path], None], counted: Path) -> None:
    exposition = Exposition(counted)
    path = counted / name
    path.unlink(missing_ok=True)
    plant(path)
    for scraped in (exposition, Exposition(counted)):
        assert VOTED in scraped.text()
        if path.exists() and "shard7.journal" not in name:
            assert name in scraped.skipped
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert VOTED in exposition.text()
    assert exposition.skipped == {}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", ["counter_shard0.db", "shard0.journal", "shard0.lock", "series.counts", "series.bytes", "places.jsonl"]
)
def test_a_shard_refuses_it_in_one_line_that_names_it(name: str, plant: Callable[[Path], None], counted: Path) -> None:
    path = counted / name
    path.unlink(missing_ok=True)
    plant(path)
    for _ in range(2):
        with pytest.raises((RegistryError, OSError)) as refusal:
            Registry(counted)
        assert "\n" not in str(refusal.value)
        assert name in str(refusal.value)


@pytest.mark.timeout(60)
def test_exemplars_are_read_from_a_file_alone(plant: Callable[[Path], None], tmp_path: Path) -> None:
    plant(tmp_path / "exemplars_shard0.json")
    exemplars = ServedExemplars(tmp_path)
    exemplars.read()
    assert set(exemplars.skipped) <= {"exemplars_shard0.json"}
    assert exemplars.skipped or plant is dangling


@pytest.mark.timeout(60)
def test_a_draft_in_whose_place_something_stands_is_made_all_the_same(tmp_path: Path) -> None:
    for name in ("counter_shard0.tmp", "shard0.tmp", "places.tmp"):
        pipe(tmp_path / name)
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
        assert VOTED in registry.text().encode()


@pytest.mark.timeout(60)
def test_commands_name_it_or_leave_it_out(plant: Callable[[Path], None], counted: Path) -> None:
    plant(counted / "counter_shard7.db")
    plant(counted / "shard7.lock")
    assert survey.shards(counted) == [0]
    assert recover(counted) == []
    shown = [sys.executable, "-P", "-m", "busmon", "registry", "show", "--json", "--registry-dir", str(counted)]
    assert b"votes_cast_total" in subprocess.run(shown, check=True, capture_output=True, timeout=50).stdout


def test_a_sparse_file_is_named_before_it_is_read(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread

    def counting(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(descriptor, length, offset)

    sparse = counted / "counter_9.db"
    for used in (1 << 20, 1 << 26, 1 << 30, (1 << 31) - 8):
        with sparse.open("wb") as stream:
            stream.truncate(used)
            stream.write(used.to_bytes(4, "little"))
        monkeypatch.setattr(os, "pread", counting)
        exposition = Exposition(counted)
        assert VOTED in exposition.text()
        assert set(exposition.skipped) == {"counter_9.db"}
        assert max(read) < 1 << 20
        monkeypatch.setattr(os, "pread", pread)


def test_a_file_with_another_writer_is_read_up_to_a_size(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (counted / "counter_shard0.db").read_bytes()
    (counted / "counter_9.db").write_bytes(whole)
    used = int.from_bytes(whole[:4], "little")
    for most, votes in ((used, b"2.0"), (used - 1, b"1.0")):
        monkeypatch.setattr(tables, "MAX_FOREIGN_BYTES", most)
        exposition = Exposition(counted)
        assert VOTED.replace(b"1.0", votes) in exposition.text()
        assert set(exposition.skipped) == (set() if most == used else {"counter_9.db"})


def test_no_more_keys_of_a_file_are_looked_at_than_it_takes_to_see_that_it_is_none(
    counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bytes] = []
    parse = KeyParser.parse

    def parsed(self: KeyParser, type_: str, key: bytes, pid: str) -> object:
        looked.append(key)
        return parse(self, type_, key, pid)

    entry = b"\x04\x00\x00\x00junk" + bytes(8) + bytes(16)
    (counted / "counter_9.db").write_bytes((8 + 5000 * len(entry)).to_bytes(4, "little") + bytes(4) + entry * 5000)
    monkeypatch.setattr(KeyParser, "parse", parsed)
    exposition = Exposition(counted)
    assert VOTED in exposition.text()
    assert set(exposition.skipped) == {"counter_9.db"}
    assert looked.count(b"junk") <= collection.MAX_BAD_KEYS
    many = b"".join(b"\x04\x00\x00\x00%04d" % number + bytes(24) for number in range(5000))
    (counted / "counter_9.db").write_bytes((8 + len(many)).to_bytes(4, "little") + bytes(4) + many)
    looked.clear()
    assert VOTED in Exposition(counted).text()
    assert sum(key.isdigit() for key in looked) == collection.MAX_BAD_KEYS
