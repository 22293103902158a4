"""A directory that version 0.1.0 wrote opens as it is: the same lines, the same ids, and then in today's format."""

import shutil
import tarfile
from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.fold.ledger import Verdict
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.journal import Journal
from busmon.registry.shard.recover import recover
from busmon.registry.shard.shard import Shard

FIXTURES = Path(__file__).parent / "fixtures"
LINES = (FIXTURES / "registry-0.1.0.txt").read_text().splitlines()
SHARDS = 4


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / "registry-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "registry"


def served(directory: Path) -> list[str]:
    """The lines of a scrape that don't depend on when it is taken."""
    names = {line.partition("{")[0].partition(" ")[0] for line in LINES}
    lines = Exposition(directory).text().decode().splitlines()
    return sorted(line for line in lines if line.partition("{")[0].partition(" ")[0] in names)


def test_its_last_scrape_is_served_before_and_after_it_is_opened(directory: Path) -> None:
    assert served(directory) == sorted(LINES)
    recover(directory)
    assert served(directory) == sorted(LINES)
    shutil.copytree(directory, directory.with_name("copy"))
    assert served(directory.with_name("copy")) == sorted(LINES)


def test_its_ids_are_known(directory: Path) -> None:
    families = Families(directory, Catalogue.load(), max_adopted=0)
    known: dict[str, list[Verdict]] = {}
    for number in range(SHARDS):
        shard = Shard.open(directory, number, families)
        for source in ["fix-1", *(f"s{number}" for number in range(30))]:
            known.setdefault(source, []).append(shard.ledger.admit(source, f"{source}:1", 1e9))
        shard.close()
    assert {source for source, verdicts in known.items() if verdicts.count(Verdict.DUPLICATE) != 1} == set()


def test_its_journals_are_in_todays_format_once_they_were_opened(directory: Path) -> None:
    for expected in (False, True):
        for number in range(SHARDS):
            journal = Journal.open(directory / f"shard{number}.journal", writable=False)
            assert journal.has_extents is expected
            journal.close()
        recover(directory)
