"""Who killed the worker: a body that does is found out, and its neighbours never are blamed.

Before a redelivered body is decoded, its identity is noted in the shard's suspect file, and taken out afterwards. A
note that stands when the shard is opened names the body that its owner died with: the next time it is *tried* first,
in a forked child that decodes, folds and commits it with limits on time and memory. Whoever ends the child is guilty; a
body that was only there when its worker was killed by somebody else survives its trial. So a killer costs two workers:
the one it is first delivered to, and the one that notes it. And an innocent body is never quarantined, however many
kills. A death in a commit could be the fault of any body of the batch: after one, each redelivered body is noted,
folded and committed alone. One thread; the child writes nothing.
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
"""Of processor time: a body is no killer because its host is busy."""
HANG_SECONDS = 20
"""Of any time; less than after which a silent worker is replaced."""
TRIAL_BYTES = 1024 * 1024 * 1024
TRIALS = 3
"""So often may a child end by what somebody else may have done to it."""
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
        blamed: identities of bodies that a worker died with, and since when, in seconds since the epoch; who was found
            guilty stays, as it may come again, until a day after its last trial.
        is_commit_suspected: the shard's last owner died in the commit of a batch.
    """

    def __init__(self, registry_dir: Path, shard: int) -> None:
        self._blamed_path = registry_dir / f"shard{shard}.blamed"
        self._note = files.opened(registry_dir / f"shard{shard}.suspect", os.O_RDWR | os.O_CREAT)
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
            OSError: it can't be written.
        """
        os.pwrite(self._note, who.encode(), 0)

    def clear(self) -> None:
        """Nothing is being decoded."""
        os.pwrite(self._note, _NO_NOTE, 0)

    def convict(self, who: str, now: float) -> None:
        """The body ended its worker, or the child that tried it."""
        self.blamed.pop(who, None)
        self.blamed[who] = now
        self._write_blamed()

    def acquit(self, who: str) -> None:
        """The body survived its trial."""
        del self.blamed[who]
        self._write_blamed()

    def forget(self, now: float) -> None:
        """Blame nobody who wasn't seen for a day."""
        if self.blamed and max(self.blamed.values()) > now:  # the clock was set back
            self.blamed = {who: min(since, now) for who, since in self.blamed.items()}
        if self.blamed and min(self.blamed.values()) < now - FORGET_SECONDS:
            self.blamed = {who: since for who, since in self.blamed.items() if since >= now - FORGET_SECONDS}
            self._write_blamed()

    def close(self) -> None:
        """Close the note's file."""
        os.close(self._note)

    def _write_blamed(self) -> None:
        """Tell the next worker; on a full disk it doesn't get to know, and may have to find out again."""
        lines = [f"{who} {since!r}\n" for who, since in list(self.blamed.items())[-_MAX_BLAMED:]]
        with suppress(OSError):
            files.replace(self._blamed_path, "".join(lines).encode())


def identity(message_id: str | None, body: bytes) -> str:
    """What a body is known by from delivery to delivery."""
    return blake2b(message_id.encode() if message_id else body, digest_size=_DIGEST_BYTES).hexdigest()


def survives(ordeal: Callable[[], object], detach: Callable[[], object]) -> bool:
    """Whether a forked child lives through `ordeal`, or can't be tried at all.

    Args:
        ordeal: what the worker would do; it must change nothing outside of memory.
        detach: run in the child first, to let go of what must end with its parent.

    Raises:
        OSError: there can't be another process now.
    """
    for _ in range(TRIALS):
        ending = _tried(ordeal, detach)
        if ending in {os.EX_OK, _NO_VERDICT}:
            return True
        if -ending not in _FROM_OUTSIDE:
            return False
    return False


def _tried(ordeal: Callable[[], object], detach: Callable[[], object]) -> int:
    """How the child ended: its exit status, or the signal's number below 0."""
    child = os.fork()
    if child == 0:
        _undergo(ordeal, detach)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _undergo(ordeal: Callable[[], object], detach: Callable[[], object]) -> None:
    """The child's whole life; `os._exit` so that nothing of the parent's is flushed or closed a second time."""
    try:
        _prepare()
        detach()
    except BaseException:  # noqa: BLE001 - the ordeal hasn't begun
        os._exit(_NO_VERDICT)
    try:
        ordeal()
    except OSError:
        os._exit(_NO_VERDICT)  # the host's fault, a full disk for instance
    except BaseException:  # noqa: BLE001 - whatever it is would have ended the worker
        os._exit(1)
    os._exit(os.EX_OK)


def _prepare() -> None:
    """A process like any other, within limits that its host may have set lower."""
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
    """The blamed of an earlier life; of a version that didn't write since when, since now."""
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
