"""Damaged registry directories, a few of them here; `make fuzz-long` tries 100,000."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import directories
from tests.unit.registry.registries import fresh_directory

OWN = [
    name for name in directories.NAMES if "shard0" in name or name in {"families.jsonl", "dealt.json", "places.jsonl"}
]


@settings(max_examples=40)
@given(st.booleans(), directories.steps)
def test_nothing_breaks_a_scrape_and_a_worker_opens_or_names_the_damage(
    shard: bool,  # noqa: FBT001 - hypothesis passes it
    happening: list[tuple[str, Any]],
) -> None:
    with fresh_directory() as directory:
        directories.take(directory, shard=shard, happening=happening)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("damage", [None, directories.FOLDER, b"[]", 0.5, (0.3, 255)])
def test_each_file_damaged_alone(name: str, damage: Any, tmp_path: Path) -> None:
    directories.take(tmp_path, shard=True, happening=[(name, damage)])
