"""A change of how sources are dealt to shards is known, so that no stream counts in two of them from its start."""

from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.registry.storage.dealt import FILE_NAME, note_dealing
from tests.unit.registry.registries import NOW

BY_SOURCE = {"hash-header": "source"}


def test_sources_are_dealt_since_the_number_of_shards_last_changed(tmp_path: Path) -> None:
    told = [(4, NOW), (4, NOW + 1), (5, NOW + 2), (5, NOW + 3), (4, NOW + 4)]
    dealt = [note_dealing(tmp_path, shards, BY_SOURCE, now) for shards, now in told]
    assert dealt == [0, 0, NOW + 2, NOW + 2, NOW + 4]


def test_and_since_they_last_went_by_something_else(tmp_path: Path) -> None:
    told = [(BY_SOURCE, NOW), ({"hash-header": "customer"}, NOW + 1), ({"hash-header": "customer"}, NOW + 2)]
    assert [note_dealing(tmp_path, 4, by, now) for by, now in told] == [0, NOW + 1, NOW + 1]


def test_a_file_of_an_earlier_version_is_taken_to_have_gone_by_the_same(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"[4,7.5]")
    assert note_dealing(tmp_path, 4, BY_SOURCE, NOW) == 7.5
    assert note_dealing(tmp_path, 4, {"hash-header": "customer"}, NOW) == NOW


@pytest.mark.parametrize("content", [b"", b"{}", b"4", b"[4]", b"[4,null]", b'["x", "y", 1]'])
def test_a_file_that_busmon_did_not_write_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(RegistryError, match=FILE_NAME):
        note_dealing(tmp_path, 4, BY_SOURCE, NOW)
