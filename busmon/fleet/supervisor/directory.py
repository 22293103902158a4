"""The registry directory of a running fleet: private, on a persistent file system, for one fleet at a time.

Two kernel locks guard the directory, so that no crash leaves a lock behind. The supervisor's lock refuses a second
supervisor. Every child inherits the fleet's lock: a new supervisor waits until the last orphan of a killed supervisor
has released shards and address.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from busmon import files
from busmon.errors import FleetRunningError, RegistryError, SettingsError
from busmon.settings import Settings
from busmon.settings.private import require_private

log = structlog.get_logger(__name__)

SUPERVISOR_LOCK = "supervisor.lock"
FLEET_LOCK = "fleet.lock"
ORPHANS_SECONDS = 15.0
"""How long a new fleet waits for a killed fleet's processes, which notice within 1 s and drain within 5 s."""

_VOLATILE = frozenset({"tmpfs", "ramfs"})
_POLL_SECONDS = 0.05


_OURS = re.compile(
    r"(supervisor|fleet|admission)\.lock|status|shard\d+\.\w+|dealt\..+|(counter|histogram|summary|gauge_[a-z]+)_.+\.db"
)
"""The files by which a registry is known. A process with prometheus_client's multiprocess files may share it."""

_BESIDE = re.compile(r"lost\+found|spool|\..*|busmon.*")
"""Files that a directory without a registry may have: a volume's own, an agent's spool, a home's settings."""


def prepare(settings: Settings) -> None:
    """Make the directory if it is missing, and warn of a directory that a reboot would empty.

    Raises:
        SettingsError: the directory can't be made or used, others can write to it, or it has other programs' files and
            no registry.
    """
    path, where = settings.registry_dir, f"registry_dir from {settings.origin('registry_dir')}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SettingsError(f"{where}: {path} is no directory; name another directory") from error
    except OSError as error:
        raise SettingsError(f"{where}: can't make {path}: {error.strerror}; name another directory") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"{where}: {path} is not readable and writable to this user; name another directory")
    require_private(path, where)
    _require_own(path, where)
    if (kind := filesystem(path)) in _VOLATILE:
        log.warning("directory.volatile", path=str(path), filesystem=kind, lost="all counts, at a reboot")


def _require_own(path: Path, where: str) -> None:
    others = {entry.name for entry in path.iterdir() if not _BESIDE.fullmatch(entry.name)}
    if others and not any(map(_OURS.fullmatch, others)):
        raise SettingsError(
            f"{where}: {path} has other programs' files ({min(others)!r}) and no registry; name an empty directory, "
            "or one that can be made"
        )


def filesystem(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the path's file system; empty if the system doesn't report it.

    The format is that of proc_pid_mountinfo(5): the device is the third field, the type the first after the hyphen.
    """
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    return next((line[line.index("-") + 1] for line in lines if line[2] == wanted), "")


@contextmanager
def hold(directory: Path) -> Iterator[int]:
    """Hold the directory for one fleet; yield the descriptor that the children inherit.

    Raises:
        FleetRunningError: another supervisor runs here, or a process of an earlier fleet doesn't end.
        RegistryError: a lock's file can't be made.
    """
    with _open_lock(directory / SUPERVISOR_LOCK) as own, _open_lock(directory / FLEET_LOCK) as shared:
        if not files.try_lock(own):
            holder = os.pread(own, 20, 0).decode().strip() or "unknown"
            raise FleetRunningError(f"{directory}: the supervisor with process id {holder} runs here; stop it first")
        with suppress(OSError):  # a full disk; the number is for a person to read
            os.ftruncate(own, 0)
            os.pwrite(own, str(os.getpid()).encode(), 0)
        _outwait(shared, directory)
        yield shared


def _outwait(lock: int, directory: Path) -> None:
    """Take the fleet's lock as soon as the last process of an earlier fleet has ended."""
    if files.try_lock(lock):
        return
    log.warning("directory.orphans_awaited", directory=str(directory), seconds=ORPHANS_SECONDS)
    deadline = time.monotonic() + ORPHANS_SECONDS
    while not files.try_lock(lock):
        if time.monotonic() > deadline:
            raise FleetRunningError(
                f"{directory}: a process of an earlier fleet doesn't end; see `ps -ef | grep busmon`"
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    try:
        descriptor = files.open_file(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise RegistryError(f"{path}: can't make the lock's file: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
