"""The registry directory of a command: one line refuses one that isn't a fleet's, or not this user's to use."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from busmon.errors import BusmonError, UserError

_ADVICE = "name the fleet's with --registry-dir or BUSMON_REGISTRY_DIR"


@contextmanager
def use(registry_dir: Path, *, is_written: bool = False) -> Iterator[None]:
    """Let a command use a fleet's registry directory; it prints afterwards, for an error is the directory's here.

    Args:
        registry_dir: the directory.
        is_written: the command writes files there, which a fleet of another user couldn't use.

    Raises:
        UserError: it is no directory, has no shard, or something in it can't be read or written by this user.
    """
    try:
        _require_shards(registry_dir)
        if is_written and (owner := registry_dir.stat().st_uid) != os.geteuid():
            raise UserError(f"{registry_dir} belongs to {_name(owner)}; run the command as that user")
        yield
    except BusmonError:
        raise
    except PermissionError as error:
        raise UserError(f"{error.filename or registry_dir}: {error.strerror}; {_advise_user(registry_dir)}") from error
    except OSError as error:
        raise UserError(f"{error.filename or registry_dir}: {error.strerror}") from error


def make_output(directory: Path) -> None:
    """Make the directory that a command fills, or check that it is empty.

    Raises:
        UserError: it can't be made or written to, or has something in it.
    """
    advice = "name a directory of this user's that is empty or can be made, with --output"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}; {advice}") from error
    if not is_empty:
        raise UserError(f"{directory}: expected an empty directory; {advice}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UserError(f"{directory}: {_name(os.geteuid())} can't write there; {advice}")


def _require_shards(registry_dir: Path) -> None:
    from busmon.registry.admission import survey

    try:
        os.listdir(registry_dir)  # noqa: PTH208 - a glob passes over a directory that can't be read
    except FileNotFoundError as error:
        raise UserError(f"{registry_dir} isn't there; {_ADVICE}") from error
    except NotADirectoryError as error:
        raise UserError(f"{registry_dir} isn't a directory; {_ADVICE}") from error
    if not survey.shards(registry_dir):
        raise UserError(f"{registry_dir} has no shard, so it isn't a fleet's registry directory; {_ADVICE}")


def _advise_user(registry_dir: Path) -> str:
    """Advise to be the directory's owner, where that is another user."""
    try:
        owner = registry_dir.stat().st_uid
    except OSError:
        return "run the command as the fleet's user"
    return f"run the command as {_name(owner)}" if owner != os.geteuid() else _ADVICE


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"
