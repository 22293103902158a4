"""The broker's side of the benchmarks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.bus.topology.topology import load

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Vhost

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_fleets_of_one_benchmark_share_no_queue(vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    bench = importlib.import_module("consume").Bench(vhost.amqp_url, tmp_path)
    sides = [bench.one_shard, *(bench.declare(shards) for shards in (1, 4, 4))]
    topologies = [load(side.topology, side.exchange) for side in sides]
    assert [topology.shards for topology in topologies] == [1, 1, 4, 4]
    queues = [topology.fold_queue(shard) for topology in topologies for shard in range(topology.shards)]
    assert len({*queues}) == 10
