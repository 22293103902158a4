"""A directory that a released version wrote opens as it is: the same lines, the same ids.

`make registry` adds the fixture of a release: the directory of a fleet that was killed, and lines of its last scrape.
"""

import re
import shutil
import tarfile
from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.ledger.source_record import Verdict
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.recover import recover
from busmon.registry.shard.shard import Shard
from busmon.registry.storage.journal import Journal

FIXTURES = Path(__file__).parent / "fixtures"
CHANGELOG = Path(__file__).parents[4] / "CHANGELOG.md"
RELEASES = sorted(re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text(), re.MULTILINE))
SHARDS = 4

of_each_release = pytest.mark.parametrize("release", RELEASES)


def unpack(release: str, to: Path) -> Path:
    with tarfile.open(FIXTURES / f"registry-{release}.tar.gz") as archive:
        archive.extractall(to, filter="data")
    return to / "registry"


def lines_of(release: str) -> list[str]:
    return sorted((FIXTURES / f"registry-{release}.txt").read_text().splitlines())


def served(directory: Path, lines: list[str]) -> list[str]:
    """The lines of a scrape whose names these lines have: they don't depend on when it is taken."""
    names = {name_of(line) for line in lines}
    scraped = Exposition(directory).text().decode().splitlines()
    return sorted(line for line in scraped if name_of(line) in names and "quantile=" not in line)


def name_of(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


@of_each_release
def test_its_last_scrape_is_served_before_and_after_it_is_opened(release: str, tmp_path: Path) -> None:
    directory, lines = unpack(release, tmp_path), lines_of(release)
    assert len(lines) > 50
    assert served(directory, lines) == lines
    recover(directory)
    assert served(directory, lines) == lines
    shutil.copytree(directory, directory.with_name("copy"))
    assert served(directory.with_name("copy"), lines) == lines


@of_each_release
def test_its_ids_are_known(release: str, tmp_path: Path) -> None:
    directory = unpack(release, tmp_path)
    families = Families(directory, Catalogue.load(), max_adopted=0)
    known: dict[str, list[Verdict]] = {}
    for number in range(SHARDS):
        shard = Shard.open(directory, number, families)
        for source in ["fix-1", *(f"s{number}" for number in range(30))]:
            known.setdefault(source, []).append(shard.ledger.admit(source, f"{source}:1", 1e9))
        shard.close()
    assert {source for source, verdicts in known.items() if verdicts.count(Verdict.DUPLICATE) != 1} == set()


def test_journals_of_0_1_0_are_in_todays_format_once_they_were_opened(tmp_path: Path) -> None:
    directory = unpack("0.1.0", tmp_path)
    for expected in (False, True):
        for number in range(SHARDS):
            journal = Journal.open(directory / f"shard{number}.journal", writable=False)
            assert journal.has_extents is expected
            journal.close()
        recover(directory)
