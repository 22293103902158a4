from collections.abc import Iterator
from copy import deepcopy

import pytest

from tests.unit.registry.fold.drawn_tables import KNOWN
from tests.unit.registry.fold.known_bodies import AGENTS, EACH
from tests.unit.registry.registries import NOW, Registry, fresh_directory


@pytest.fixture(scope="module")
def taught() -> Iterator[Registry]:
    """A shard that has met every series of the examples."""
    with fresh_directory() as directory, Registry(directory) as registry:
        registry.fold(*EACH, ts=NOW - 100)
        for agent in AGENTS:
            for sample in EACH:
                labels = {**sample["labels"], next(iter(sample["labels"])): agent}
                registry.fold({**sample, "labels": labels}, ts=NOW - 100)
        registry.fold(tables=deepcopy(KNOWN), ts=NOW - 100)
        registry.commit()
        yield registry
