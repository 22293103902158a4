"""A shard that folds what Prometheus' text states."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .folded import Folded


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Folded]:
    opened = Folded(tmp_path, "prometheus")
    yield opened
    opened.close()
