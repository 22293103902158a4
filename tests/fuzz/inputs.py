"""The inputs of one slice: each is tried and counted, and the last of them are kept when one breaks a promise."""

import os
import sys
import time
import traceback
from collections import deque
from pathlib import Path
from typing import NoReturn, Protocol

from tests.fuzz.progress import Progress

WRITE_SECONDS = 2.0
KEPT = 64
FAULT = 1


class Target(Protocol):
    """The code under test."""

    slowest: float

    def take(self, data: bytes) -> bool:
        """Try one input; return False if it describes nothing that can be tried."""

    def describe(self) -> dict[str, int]:
        """Return the inputs by what became of them, since the last call."""


class Inputs:
    """The inputs of one slice.

    Args:
        target: tries them.
        state: the directory of the progress and of faults.
        is_guided: whether coverage guides them.
    """

    def __init__(self, target: Target, state: Path, *, is_guided: bool) -> None:
        self._target = target
        self._state = state
        self._is_guided = is_guided
        self._path = state / "progress.json"
        self._progress = Progress.read(self._path)
        self._progress.slices += 1
        self._began, self._seconds_before = time.monotonic(), self._progress.seconds
        self._written_at = 0.0
        self._last: deque[bytes] = deque(maxlen=KEPT)

    def take(self, data: bytes) -> None:
        """Try one input; a fault ends the process with status 1."""
        self._last.append(data)
        try:
            is_tried = self._target.take(data)
        except BaseException:  # noqa: BLE001 - whatever it is, it is found
            self._keep_fault()
        self._progress.inputs += is_tried
        self._progress.guided += self._is_guided and is_tried
        if time.monotonic() > self._written_at + WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the progress down."""
        progress, now = self._progress, time.monotonic()
        progress.seconds = self._seconds_before + now - self._began
        progress.slowest_seconds = max(progress.slowest_seconds, self._target.slowest)
        for outcome, inputs in self._target.describe().items():
            progress.outcomes[outcome] = progress.outcomes.get(outcome, 0) + inputs
        progress.write(self._path)
        self._written_at = now

    def _keep_fault(self) -> NoReturn:
        text = traceback.format_exc()
        self._progress.faults += 1
        directory = self._state / "faults" / f"{self._progress.inputs}"
        directory.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(self._last):
            (directory / f"{number:02}").write_bytes(data)
        (directory / "traceback.txt").write_text(text)
        self.write()
        sys.stderr.write(f"{text}\nits inputs are in {directory}\n")
        sys.stderr.flush()
        os._exit(FAULT)
