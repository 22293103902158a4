"""However often the disk was full, and at whatever write, the result is that of a disk with room."""

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from busmon.bus.frames.delivery import Delivery
from busmon.settings.kinds import FormatRule

from .settlements import Worker, body, delivery

OF_TIME = ("busmon_commit_", "busmon_batches_", "message_latency_", "busmon_last_", "busmon_ledger_ring_", "#")
"""What may differ between two runs: when something happened, and how many batches it took."""


def deliveries(chance: random.Random) -> Iterator[Delivery]:
    """Samples of each type, totals, duplicates and nonsense, of three sources."""
    total = 0
    seen: list[Delivery] = []
    for tag in range(1, 200):
        source, kind = chance.choice("abc"), chance.random()
        samples = [
            {"name": f"hits{chance.randrange(20)}_total", "type": "counter", "value": chance.randrange(9)},
            {"name": f"level{chance.randrange(3)}", "type": "gauge", "value": chance.random()},
            {"name": "sizes", "type": "histogram", "value": [chance.random() * 10]},
        ]
        each = delivery(tag, body(*samples, source=source), message_id=f"{source}-{tag}", redelivered=kind > 0.7)
        if kind < 0.1:
            each = delivery(tag, b"nonsense")
        elif kind < 0.3:
            total += chance.randrange(5)
            each = delivery(tag, f"# TYPE jobs_total counter\njobs_total {total}\n".encode(), app_id="planner")
            each = each._replace(routing_key="prometheus.a")
        elif kind < 0.4 and seen:
            each = chance.choice(seen)._replace(delivery_tag=tag)
        seen.append(each)
        yield each


@contextmanager
def disk_full_at_times(chance: random.Random, rate: float) -> Iterator[None]:
    write = os.pwrite

    def write_or_fail(descriptor: int, data: bytes, offset: int) -> int:
        if chance.random() < rate:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(os, "pwrite", write_or_fail)
        yield


def outcome(directory: Path, seed: int, rate: float) -> tuple[list[str], list[int]]:
    """The series and the quarantine in the end; everything is settled, in order."""
    directory.mkdir()
    chance, every = random.Random(~seed), list(deliveries(random.Random(seed)))
    with Worker(directory, batch_size=13, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        with disk_full_at_times(chance, rate):
            for start in range(0, len(every), 5):
                for attempt in (worker.lane.retry, lambda at=start: worker.lane.deliver(every[at : at + 5])):
                    with suppress(OSError):
                        attempt()
        worker.lane.retry()
        assert worker.broker.settled == [each.delivery_tag for each in every]
        lines = worker.registry.text().splitlines()
        series = sorted(line for line in lines if not line.startswith(OF_TIME))
        return series, [bad.delivery.delivery_tag for bad in worker.broker.quarantined]


@pytest.mark.parametrize("rate", [0.02, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_counted_does_not_depend_on_when_the_disk_was_full(seed: int, rate: float, tmp_path: Path) -> None:
    expected = outcome(tmp_path / "room", seed, 0.0)
    assert expected[0]
    assert outcome(tmp_path / "full", seed, rate) == expected
