"""The recovery of what dead owners left unfinished: every marked commit of every shard in a registry directory."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import RegistryError, ShardOwnedError
from busmon.registry.admission.families import Families
from busmon.registry.shard.shard import Shard


def recover(registry_dir: Path) -> list[int]:
    """Open and close each shard that nobody owns, whoever wrote it; the shards where a commit was redone.

    Raises:
        RegistryError: a file isn't what it should be.
        OSError: a file can't be read or written.
    """
    families = Families(registry_dir, Catalogue.load(), max_adopted=0)
    redone = []
    numbers = (path.stem.removeprefix("shard") for path in registry_dir.glob("shard*.journal"))
    for number in sorted(int(digits) for digits in numbers if digits.isdecimal()):
        try:
            shard = Shard.open(registry_dir, number, families)
        except ShardOwnedError:
            continue
        if shard.replayed:
            redone.append(number)
        shard.close()
    return redone


def recover_in_child(registry_dir: Path) -> list[int]:
    """Do what `recover` does in a forked process, whose memory ends with it; to be called while there is one thread.

    Raises:
        RegistryError: as `recover`, or something ended the process.
        OSError: as `recover`, or there can't be another process.
    """
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    child = forking.Process(target=_send, args=(sender, registry_dir))
    child.start()
    sender.close()
    try:
        answer: list[int] | Exception = receiver.recv()
    except EOFError:
        child.join()
        raise RegistryError(f"{registry_dir}: its recovery ended with exit status {child.exitcode}") from None
    child.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _send(sender: Connection, registry_dir: Path) -> None:
    """Send what `recover` returns or raises. An interrupt is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sender.send(recover(registry_dir))
    except Exception as error:  # noqa: BLE001 - the parent raises it
        sender.send(error)
