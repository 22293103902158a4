"""The requests of a person to the shards' owners: a file for each request, and one for each shard's answer to it.

Only who holds a shard's lock changes its files, so a removal is written into `requests/` and every owner looks there
once a second. A request ends by itself: one that nobody withdrew isn't carried out long after. Any process.
"""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from busmon import files

DIRECTORY = "requests"
_MAX_BYTES = 1 << 20


class Request(NamedTuple):
    """The removal of a family's series that have these labels, or of what an agent took.

    Attributes:
        family: empty where an agent is named.
        expires_at: in seconds since the epoch.
        agent: whose metrics and label values are removed; empty where a family is named.
        user: the agent's user; None for any.
    """

    id: str
    family: str
    labels: dict[str, str]
    expires_at: float
    agent: str = ""
    user: str | None = None


def ask(  # noqa: PLR0913 - a family with labels, or an agent with its user
    registry_dir: Path,
    family: str,
    labels: Mapping[str, str],
    expires_at: float,
    *,
    agent: str = "",
    user: str | None = None,
) -> Request:
    """Write a request.

    Raises:
        OSError: it can't be written.
    """
    request = Request(secrets.token_hex(8), family, dict(labels), expires_at, agent, user)
    (registry_dir / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    _write(registry_dir / DIRECTORY / f"{request.id}.json", request._asdict())
    return request


def pending(registry_dir: Path, shard: int) -> list[Request]:
    """Return the requests that this shard hasn't answered; those that have expired are taken away."""
    found = []
    for late in (registry_dir / DIRECTORY).glob("*.shard*"):
        if not late.with_suffix(".json").exists() and late.suffix != ".tmp":
            late.unlink(missing_ok=True)
    for path in sorted((registry_dir / DIRECTORY).glob("*.json")):
        try:
            request = Request(**orjson.loads(files.content(path, _MAX_BYTES)))
        except (OSError, ValueError, TypeError):
            continue
        if request.expires_at < time.time():
            withdraw(registry_dir, request)
        elif not _answer_path(registry_dir, request, shard).exists():
            found.append(request)
    return found


def answer(registry_dir: Path, request: Request, shard: int, removed: int) -> None:
    """Write how many series the shard has removed for a request.

    Raises:
        OSError: it can't be written.
    """
    _write(_answer_path(registry_dir, request, shard), removed)


def answers(registry_dir: Path, request: Request) -> dict[int, int]:
    """Return how many series each shard that has answered has removed."""
    found = {}
    for path in (registry_dir / DIRECTORY).glob(f"{request.id}.shard*"):
        shard = path.suffix.removeprefix(".shard")
        if shard.isdecimal():
            found[int(shard)] = int(files.content(path, _MAX_BYTES))
    return found


def withdraw(registry_dir: Path, request: Request) -> None:
    """Take a request away, and then its answers."""
    path = registry_dir / DIRECTORY / f"{request.id}.json"
    path.unlink(missing_ok=True)
    for answered in path.parent.glob(f"{request.id}.*"):
        answered.unlink(missing_ok=True)


def _answer_path(registry_dir: Path, request: Request, shard: int) -> Path:
    return registry_dir / DIRECTORY / f"{request.id}.shard{shard}"


def _write(path: Path, content: Any) -> None:
    files.replace(path, orjson.dumps(content), f"{path.suffix}.tmp")
