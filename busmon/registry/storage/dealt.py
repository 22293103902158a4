"""The time since which sources are dealt to shards as now: another shard's files may have streams begun before.

One file of the registry directory, replaced whole. Workers that start together may each write it; they agree within
moments. Any process.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from busmon import files
from busmon.errors import RegistryError

FILE_NAME = "dealt.json"
_MAX_BYTES = 65_536


def note_dealing(registry_dir: Path, shards: int, dealt_by: Mapping[str, str | int], now: float) -> float:
    """Note how sources are dealt; return when that last changed, in seconds since the epoch, or 0 if it never did.

    Args:
        registry_dir: whose shards.
        shards: how many there are.
        dealt_by: what else decides on a source's shard: the arguments of the exchange that deals.
        now: seconds since the epoch.

    Raises:
        RegistryError: the file isn't what busmon wrote.
        OSError: it can't be read or written.
    """
    path = registry_dir / FILE_NAME
    since = 0.0
    if path.exists():
        try:
            known, since, *noted = orjson.loads(files.content(path, _MAX_BYTES))
            since = min(float(since), now)  # the clock may have been ahead
        except (ValueError, TypeError) as error:
            raise RegistryError(f"{path}: expected the number of shards and a time, as busmon writes them") from error
        if [known, *noted] == [shards, dict(dealt_by)]:
            return since
        # An earlier version noted the number alone.
        since = since if [known, *noted] == [shards] else now
    # Its own draft, or the replacement of one worker would take another's away.
    files.replace(path, orjson.dumps([shards, since, dict(dealt_by)]), f".{os.getpid()}.tmp")
    return since
