"""The notes of a run: what happened and what wasn't right, written to `watch.log` as it comes. Any thread."""

import time
from pathlib import Path

MOST_COMPLAINTS = 100


class Notes:
    """The notes; whoever takes them closes them.

    Attributes:
        complaints: what wasn't right.
    """

    def __init__(self, directory: Path) -> None:
        self.complaints: list[str] = []
        self._log = (directory / "watch.log").open("a", buffering=1)

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def note(self, line: str) -> None:
        """Remember what happened."""
        self._log.write(f"{time.strftime('%H:%M:%S')}.{time.time_ns() // 1_000_000 % 1000:03} {line}\n")

    def complain(self, line: str) -> None:
        """Fail the run."""
        self.note(f"COMPLAINT {line}")
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(line)
