"""Who killed the worker: a body that does is found out, and its neighbours never are blamed.

Before a redelivered body is decoded, its identity is noted in the shard's suspect file, and taken out afterwards. A
note that stands when the shard is opened names the body that its owner died with: the next time it is *tried* first,
in a forked child that decodes and folds it with limits on time and memory. Whoever kills the child is guilty; a body
that was only there when its worker was killed by somebody else survives its trial. So a killer costs two workers, and
an innocent body is never quarantined, however many kills. One thread; the child writes nothing.
"""

import os
import resource
import signal
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

TRIAL_SECONDS = 10
TRIAL_BYTES = 1024 * 1024 * 1024
_MAX_BLAMED = 1000
_DIGEST_BYTES = 16


class Suspects:
    """One shard's note and the bodies that notes have blamed.

    Attributes:
        blamed: identities of bodies that a worker died with, in the order of their first death.
    """

    def __init__(self, registry_dir: Path, shard: int) -> None:
        self._blamed_path = registry_dir / f"shard{shard}.blamed"
        self._note = os.open(registry_dir / f"shard{shard}.suspect", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.blamed = dict.fromkeys(_read_lines(self._blamed_path))
        noted = os.pread(self._note, 2 * _DIGEST_BYTES, 0).decode(errors="replace").strip("\0")
        if noted:
            self.blamed[noted] = None
            self._write_blamed()
            self.clear()

    def note(self, who: str) -> None:
        """The next thing to happen is this body's decoding."""
        os.pwrite(self._note, who.encode(), 0)

    def clear(self) -> None:
        """Nothing is being decoded."""
        os.pwrite(self._note, bytes(2 * _DIGEST_BYTES), 0)

    def acquit(self, who: str) -> None:
        """The body survived its trial. One that didn't stays blamed, as it may come again."""
        del self.blamed[who]
        self._write_blamed()

    def close(self) -> None:
        """Close the note's file."""
        os.close(self._note)

    def _write_blamed(self) -> None:
        draft = self._blamed_path.with_suffix(".tmp")
        draft.touch(mode=0o600)
        draft.write_text("".join(f"{who}\n" for who in list(self.blamed)[-_MAX_BLAMED:]))
        draft.replace(self._blamed_path)


def identity(message_id: str | None, body: bytes) -> str:
    """What a body is known by from delivery to delivery."""
    return blake2b(message_id.encode() if message_id else body, digest_size=_DIGEST_BYTES).hexdigest()


def survives(ordeal: Callable[[], object], detach: Callable[[], object]) -> bool:
    """Whether a forked child lives through `ordeal`.

    Args:
        ordeal: what the worker would do; it must change nothing outside of memory.
        detach: run in the child first, to let go of what must end with its parent.
    """
    child = os.fork()
    if child == 0:
        _undergo(ordeal, detach)
    _, status = os.waitpid(child, 0)
    return status == 0


def _undergo(ordeal: Callable[[], object], detach: Callable[[], object]) -> None:
    """The child's whole life; `os._exit` so that nothing of the parent's is flushed or closed a second time."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(TRIAL_SECONDS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + TRIAL_BYTES, used + TRIAL_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        detach()
        ordeal()
    except BaseException:  # noqa: BLE001 - whatever it is would have ended the worker
        os._exit(1)
    os._exit(0)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
