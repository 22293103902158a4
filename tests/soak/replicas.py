"""The comparison of the replicas of several hosts at rest: the records that they have read, and all that they hold.

A replica's files are read from a copy, made while the hosts' processes are stopped. Main thread.
"""

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from busmon import status
from busmon.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.shard.replicated_shard import ReplicatedShard
from tests.soak.host import Host

WHOLE = {"following", "owning"}
PATIENCE_SECONDS = 120.0
MAX_FAMILIES = 1000

Digests = dict[int, str]


def differences(hosts: Sequence[Host], shards: int) -> Iterator[str]:
    """A line for each shard whose replicas don't become equal."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while different := [*_differences(hosts, shards)]:
        if time.monotonic() > deadline:
            yield from different
            return
        time.sleep(0.5)


def _differences(hosts: Sequence[Host], shards: int) -> Iterator[str]:
    records = {host.name: _records(host) for host in hosts}
    for shard in range(shards):
        found = {name: of_host.get(shard, "it doesn't follow its log") for name, of_host in records.items()}
        if len({*found.values()}) > 1 or not all(shard in of_host for of_host in records.values()):
            yield f"shard {shard}: the last records are {found}"
            return
    states = _states(hosts, shards)
    for shard in range(shards):
        digests = {name: of_host[shard] for name, of_host in states.items()}
        if len({*digests.values()}) > 1:
            yield f"shard {shard}: the digests of the state are {digests}"


def _records(host: Host) -> Digests:
    """The number and the digest of the last record of each replica that is whole."""
    told = [shard for worker in status.read(host.registry_dir).workers for shard in worker.shards]
    return {
        each.shard: f"{each.replica.number} {each.replica.digest}"
        for each in told
        if each.replica is not None and each.replica.state in WHOLE
    }


def _states(hosts: Sequence[Host], shards: int) -> dict[str, Digests]:
    """The digests of all that the replicas hold at one moment, by host."""
    copies = {host.name: host.directory / "copy" for host in hosts}
    for host in hosts:
        host.signal_all(signal.SIGSTOP)
    try:
        for host in hosts:
            shutil.rmtree(copies[host.name], ignore_errors=True)
            shutil.copytree(host.registry_dir, copies[host.name])
    finally:
        for host in hosts:
            host.signal_all(signal.SIGCONT)
    return {name: _open(copy, shards) for name, copy in copies.items()}


def _open(directory: Path, shards: int) -> Digests:
    families = Families(directory, Catalogue.load(()), MAX_FAMILIES)
    digests: Digests = {}
    for number in range(shards):
        with closing(ReplicatedShard.open(directory, number, families)) as shard:
            digests[number] = shard.digest() if shard.position else f"not the state after a record {shard.fault}"
    return digests
