"""The system's limits for a process, checked before anything is opened: too low, and it would neither serve nor end."""

import resource

from busmon.errors import SettingsError

_BASE_FILES = 64
"""Of a process without shards: the interpreter's, log, loop, connections, and the exporter's fewest clients."""

_FILES_PER_SHARD = 16
"""Lock, journal, a value file for each type, and what is open while one is written again."""

_LARGEST_FILE_BYTES = 32 * 1024 * 1024
"""Twice a journal's room."""


def require(shards: int) -> None:
    """Raise the limit of open files to what is needed, and refuse limits that are too low.

    Args:
        shards: how many the process has files of.

    Raises:
        SettingsError: a limit is too low; the line names it, its value and what is needed.
    """
    needed = _BASE_FILES + _FILES_PER_SHARD * shards
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _below(hard, needed):
        plural = "" if shards == 1 else "s"
        raise SettingsError(
            f"the limit of open files is {hard} (`ulimit -Hn`): {shards} shard{plural} need {needed}; "
            "raise it (LimitNOFILE= in systemd, --ulimit nofile= in Docker)"
        )
    if _below(soft, needed):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if _below(largest, _LARGEST_FILE_BYTES):
        raise SettingsError(
            f"the limit of a file's size is {largest:,} bytes (`ulimit -f`): a shard needs {_LARGEST_FILE_BYTES:,}; "
            "raise it (LimitFSIZE= in systemd, --ulimit fsize= in Docker)"
        )


def _below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
