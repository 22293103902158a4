"""The bodies that may kill a worker: a killer is found, and its neighbours are never blamed.

Before a redelivered body is decoded, its identity is noted in the shard's suspect file, and taken out afterwards. A
note that is left when the shard is opened names the body that its owner died with. At its next delivery the body is
*tried* first, in a forked child that decodes, folds and commits it with limits on time and memory. A body that ends the
child is guilty. A body whose worker was killed by something else survives its trial. So a killer costs two workers: its
first worker, and the worker that notes it. An innocent body is never quarantined, after any number of kills. A death in
a commit may be the fault of any body of the batch: after such a death, each redelivered body is noted, folded and
committed alone. One thread; the child writes nothing.
"""

import os
import re
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from busmon import files

TRIAL_SECONDS = 10
"""The limit of processor time: a body isn't guilty because its host is busy."""
HANG_SECONDS = 20
"""The limit of elapsed time; shorter than the time after which a silent worker is replaced."""
TRIAL_BYTES = 1024 * 1024 * 1024
TRIALS = 3
"""How often a child may end by a signal from outside."""
FORGET_SECONDS = 24 * 3600.0

_MAX_BLAMED = 1000
_MAX_BLAMED_BYTES = 1 << 20
_DIGEST_BYTES = 16
_NO_NOTE = bytes(2 * _DIGEST_BYTES)
COMMIT = "-" * (2 * _DIGEST_BYTES)
"""A note in the place of an identity: a batch is being committed."""
_IDENTITY = re.compile(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}")
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_NO_VERDICT = os.EX_TEMPFAIL


class Suspects:
    """One shard's note and the bodies that notes have blamed.

    Attributes:
        blamed: identities of bodies that a worker died with, and the time of the blame in seconds since the epoch; a
            guilty body stays until a day after its last trial, since it may be delivered again.
        is_commit_suspected: the shard's last owner died in the commit of a batch.
    """

    def __init__(self, registry_dir: Path, shard: int) -> None:
        self._blamed_path = registry_dir / f"shard{shard}.blamed"
        self._note = files.open_file(registry_dir / f"shard{shard}.suspect", os.O_RDWR | os.O_CREAT)
        self.blamed = _read_blamed(self._blamed_path)
        noted = os.pread(self._note, len(_NO_NOTE), 0).decode(errors="replace")
        self.is_commit_suspected = noted == COMMIT
        if _IDENTITY.fullmatch(noted):
            self.convict(noted, time.time())
        self.clear()  # and have room for a note from here on, however full the disk becomes
        self.forget(time.time())

    def note(self, who: str) -> None:
        """Note that a body is decoded or committed next, or with `COMMIT` a batch.

        Raises:
            OSError: the note can't be written.
        """
        os.pwrite(self._note, who.encode(), 0)

    def clear(self) -> None:
        """Clear the note: nothing is being decoded."""
        os.pwrite(self._note, _NO_NOTE, 0)

    def convict(self, who: str, now: float) -> None:
        """Blame a body that ended its worker, or the child that tried it."""
        self.blamed.pop(who, None)
        self.blamed[who] = now
        self._write_blamed()

    def acquit(self, who: str) -> None:
        """Acquit a body that survived its trial."""
        del self.blamed[who]
        self._write_blamed()

    def forget(self, now: float) -> None:
        """Forget the bodies that weren't delivered for a day."""
        if self.blamed and max(self.blamed.values()) > now:  # the clock was set back
            self.blamed = {who: min(since, now) for who, since in self.blamed.items()}
        if self.blamed and min(self.blamed.values()) < now - FORGET_SECONDS:
            self.blamed = {who: since for who, since in self.blamed.items() if since >= now - FORGET_SECONDS}
            self._write_blamed()

    def close(self) -> None:
        """Close the note's file."""
        os.close(self._note)

    def _write_blamed(self) -> None:
        """Write the blamed identities for the next worker; on a full disk that worker may have to find them again."""
        lines = [f"{who} {since!r}\n" for who, since in list(self.blamed.items())[-_MAX_BLAMED:]]
        with suppress(OSError):
            files.replace(self._blamed_path, "".join(lines).encode())


def identity(message_id: str | None, body: bytes) -> str:
    """Return the identity of a body, the same from delivery to delivery."""
    return blake2b(message_id.encode() if message_id else body, digest_size=_DIGEST_BYTES).hexdigest()


def survives(ordeal: Callable[[], object], detach: Callable[[], object]) -> bool:
    """Return whether a forked child survives `ordeal`, or can't be tried at all.

    Args:
        ordeal: the worker's steps; they must change nothing outside of memory.
        detach: run in the child first, to release the parent's resources.

    Raises:
        OSError: the system can't start another process now.
    """
    for _ in range(TRIALS):
        ending = _try(ordeal, detach)
        if ending in {os.EX_OK, _NO_VERDICT}:
            return True
        if -ending not in _FROM_OUTSIDE:
            return False
    return False


def _try(ordeal: Callable[[], object], detach: Callable[[], object]) -> int:
    """Run the child; return its exit status, or the signal's number below 0."""
    child = os.fork()
    if child == 0:
        _undergo(ordeal, detach)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _undergo(ordeal: Callable[[], object], detach: Callable[[], object]) -> None:
    """Run the child's whole life; `os._exit` keeps the parent's buffers and files from a second flush or close."""
    try:
        _prepare()
        detach()
    except BaseException:  # noqa: BLE001 - the ordeal hasn't begun
        os._exit(_NO_VERDICT)
    try:
        ordeal()
    except OSError:
        os._exit(_NO_VERDICT)  # the host's fault, a full disk for instance
    except BaseException:  # noqa: BLE001 - any exception would have ended the worker
        os._exit(1)
    os._exit(os.EX_OK)


def _prepare() -> None:
    """Reset signal handlers and apply resource limits, or the host's where they are lower."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(HANG_SECONDS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, used + TRIAL_BYTES)
    _limit(resource.RLIMIT_CPU, TRIAL_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _read_blamed(path: Path) -> dict[str, float]:
    """Read the blamed identities; an earlier version wrote no time, so its identities are blamed since now."""
    blamed = {}
    try:
        lines = files.content(path, _MAX_BLAMED_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        who, _, since = line.partition(" ")
        with suppress(ValueError):  # torn in a power cut
            blamed[who] = float(since) if since else time.time()
    return blamed
