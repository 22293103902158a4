"""The error for a file of a shard that isn't as its journal has it: the file, its fault, and the remedy. Pure."""

from pathlib import Path

from busmon.errors import RegistryError

ADVICE = "restore the registry directory from a backup, or move this shard's files away, which begins its counts at 0"


def make_damage_error(path: Path, fault: str) -> RegistryError:
    """Make the error: going on would lower totals, and nobody would see it."""
    return RegistryError(f"{path}: {fault}; {ADVICE}")
