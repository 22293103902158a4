"""A change of the number of shards is known, so that no stream counts in two of them from its start."""

from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.registry.shard.dealt import FILE_NAME, dealt_since

from .registries import NOW


def test_sources_are_dealt_since_the_number_of_shards_last_changed(tmp_path: Path) -> None:
    told = [(4, NOW), (4, NOW + 1), (5, NOW + 2), (5, NOW + 3), (4, NOW + 4)]
    assert [dealt_since(tmp_path, *each) for each in told] == [0, 0, NOW + 2, NOW + 2, NOW + 4]


@pytest.mark.parametrize("content", [b"", b"{}", b"[4]", b'["x", "y", 1]'])
def test_a_file_that_busmon_did_not_write_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(RegistryError, match=FILE_NAME):
        dealt_since(tmp_path, 4, NOW)
