"""A worker that nobody supervises refuses the directory of the other kind of fleet, as `busmon up` does."""

from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.fleet.worker.kind import require_kind
from busmon.registry.admission.families import Families
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.shard.shard import Shard
from busmon.settings import Settings
from tests.unit.registry.registries import CATALOGUE


@pytest.mark.parametrize(
    ("kind", "replication", "said"),
    [
        (ReplicatedShard, "off", "has replicas of a replicated fleet, but replication is off"),
        (Shard, "stream", "has the files of shard 2 of a fleet without replication, which a replica would replace"),
    ],
)
def test_a_worker_refuses_the_other_kinds_directory(
    tmp_path: Path, kind: type[Shard], replication: str, said: str
) -> None:
    kind.open(tmp_path, 2, Families(tmp_path, CATALOGUE, 100)).close()
    with pytest.raises(RegistryError, match=said):
        require_kind(Settings(registry_dir=tmp_path, replication=replication))


def test_a_broker_that_does_not_answer_stops_no_worker(tmp_path: Path) -> None:
    require_kind(Settings(registry_dir=tmp_path, amqp_url="amqp://127.0.0.1:1"))
