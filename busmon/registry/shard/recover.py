"""The recovery of what dead owners left unfinished: every marked commit of every shard in a registry directory."""

from pathlib import Path

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import ShardOwnedError
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
