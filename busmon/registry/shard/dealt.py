"""Since when sources are dealt among so many shards: streams that began before may stand in another shard's files.

One file of the registry directory, replaced whole. Workers that start together may each write it; they agree within
moments. Any process.
"""

import os
from pathlib import Path

import orjson

from busmon.errors import RegistryError

FILE_NAME = "dealt.json"


def dealt_since(registry_dir: Path, shards: int, now: float) -> float:
    """When the number of shards last changed, in seconds since the epoch; 0 if it never did.

    Raises:
        RegistryError: the file isn't what busmon wrote.
        OSError: it can't be read or written.
    """
    path = registry_dir / FILE_NAME
    since = 0.0
    if path.exists():
        try:
            known, since = orjson.loads(path.read_bytes())
        except ValueError as error:
            raise RegistryError(f"{path}: expected the number of shards and a time, as busmon writes them") from error
        if known == shards:
            return float(since)
        since = now
    # Its own draft, or the replacement of one worker would take another's away.
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(orjson.dumps([shards, since]))
    draft.replace(path)
    return since
