"""The progress of a target towards its budget, in a file that outlives slices and crashes.

One process writes; another reads what was written last.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Progress:
    """The figures of one target over all slices.

    Attributes:
        inputs: how many were tried.
        guided: how many of them coverage guided; the rest are mutations of the corpus that it found.
        seconds: the elapsed time of all slices.
        slices: how many were begun.
        outcomes: inputs by what became of them.
        slowest_seconds: the longest processor time of an input.
        faults: inputs that broke a promise, each in a file of its own.
    """

    inputs: int = 0
    guided: int = 0
    seconds: float = 0.0
    slices: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    faults: int = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the figures in a file; zeros if there is none."""
        return cls(**json.loads(path.read_bytes())) if path.exists() else cls()

    def write(self, path: Path) -> None:
        """Replace the file."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.replace(path)
