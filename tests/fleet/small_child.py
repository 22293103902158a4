"""A small child for the supervisor's tests: behaves as it is told, and notes in a journal what happens to it.

    small_child.py JOURNAL REGISTRY_DIR NAME BEHAVIOUR

BEHAVIOUR: `good`; `dies` at once; `refuses` to run, with status 2; `refuses_later`, but for its first process, until a
file `mended` lies next to the journal; `hangs` after one beat; `stubborn` ignores SIGTERM,
and as an orphan ends only when a file `release` lies next to the journal.
"""

import os
import signal
import sys
import time
from pathlib import Path

from busmon import status
from busmon.fleet.signals import inbox
from busmon.fleet.supervisor import parent

ENDINGS = {"dies": 1, "refuses": 2}


def main(journal: str, registry_dir: str, name: str, behaviour: str) -> int:
    stream = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str) -> None:
        os.write(stream, f"{time.monotonic()} {name} {os.getpid()} {what}\n".encode())

    parent.watch()
    with inbox(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        first = f" {name} " not in Path(journal).read_text()
        note("started")
        if behaviour in ENDINGS:
            return ENDINGS[behaviour]
        if behaviour == "refuses_later" and not first and not Path(journal).with_name("mended").exists():
            return ENDINGS["refuses"]
        beats = 0
        while not (parent.parent_is_gone() and Path(journal).with_name("release").exists()):
            if name != "exporter" and not (beats and behaviour == "hangs"):
                beats += 1
                worker = int(name.removeprefix("worker-"))
                status.write(Path(registry_dir), status.WorkerStatus(worker, beat_at=time.time()))
            for number in signals.wait(0.05):
                note(number.name)
                if number == signal.SIGTERM and behaviour != "stubborn":
                    return 0
    note("orphaned")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
