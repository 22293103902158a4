"""The registry directory as the fleet opens it: private, on a disk that keeps it, and for one fleet at a time.

Two locks guard it, both the kernel's, so that no crash leaves one behind. The supervisor's is its own: a second
supervisor is refused. The fleet's is inherited by every child: a new supervisor waits until the last orphan of a
killed one has let go of shards and address.
"""

import fcntl
import os
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
"""How long a new fleet waits for the last of a killed one, which notice within a second and drain within five."""

_VOLATILE = frozenset({"tmpfs", "ramfs"})
_POLL_SECONDS = 0.05


def prepare(settings: Settings) -> None:
    """Make the directory where it is missing, and warn of one that a reboot would empty.

    Raises:
        SettingsError: it can't be made or used, or others can write to it.
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
    if (kind := filesystem(path)) in _VOLATILE:
        log.warning("directory.volatile", path=str(path), filesystem=kind, lost="all counts, at a reboot")


def filesystem(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that the path is on; empty where the system doesn't tell.

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
def held(directory: Path) -> Iterator[int]:
    """Hold the directory for one fleet; gives the descriptor that the children are to inherit.

    Raises:
        FleetRunningError: another supervisor runs here, or a process of an earlier one doesn't end.
        RegistryError: a lock's file can't be made.
    """
    with _opened(directory / SUPERVISOR_LOCK) as own, _opened(directory / FLEET_LOCK) as shared:
        if not _locked(own):
            holder = os.pread(own, 20, 0).decode().strip() or "unknown"
            raise FleetRunningError(f"{directory}: the supervisor with process id {holder} runs here; stop it first")
        with suppress(OSError):  # a full disk; the number is for a person to read
            os.ftruncate(own, 0)
            os.pwrite(own, str(os.getpid()).encode(), 0)
        _outwait(shared, directory)
        yield shared


def _outwait(lock: int, directory: Path) -> None:
    """Take the fleet's lock as soon as the last process of an earlier fleet has ended."""
    if _locked(lock):
        return
    log.warning("directory.orphans_awaited", directory=str(directory), seconds=ORPHANS_SECONDS)
    deadline = time.monotonic() + ORPHANS_SECONDS
    while not _locked(lock):
        if time.monotonic() > deadline:
            raise FleetRunningError(
                f"{directory}: a process of an earlier fleet doesn't end; see `ps -ef | grep busmon`"
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = files.opened(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise RegistryError(f"{path}: can't make the lock's file: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
