"""The docs name the files that a delivery passes, in the order in which it passes them."""

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from busmon.fleet.worker.pace import Pace
from busmon.fleet.worker.trigger import Trigger

from .later import Later
from .settlements import Settled, Worker, delivery

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "busmon"
INSIDE = {"fleet", "wire", "registry"}
"""The rooms between the queue's listener and the settlement."""


def documented() -> list[str]:
    section = (ROOT / "docs/architecture.md").read_text().partition("\n## The path of a delivery\n")[2]
    return re.findall(r"^\|[^|]*\| `([\w/]+\.py)` \|", section.partition("\n## ")[0], re.MULTILINE)


def test_every_documented_file_exists() -> None:
    assert len(documented()) == 20
    assert [name for name in documented() if not (PACKAGE / name).is_file()] == []


def test_a_delivery_passes_the_documented_files_in_their_order(tmp_path: Path) -> None:
    passed: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and (name := str(path.relative_to(PACKAGE))) not in passed:
            passed.append(name)

    with Worker(tmp_path) as worker:
        pace = Pace(worker.lane, Later(), 1.0)
        for tag in (1, 2):  # the second batch still makes a series: the first one's duration
            pace.deliver([delivery(tag)])
            pace.close(Trigger.INTERVAL)
        before = sys.getprofile()
        sys.setprofile(note)
        pace.deliver([delivery(3), delivery(4)])
        pace.close(Trigger.INTERVAL)
        sys.setprofile(before)
        assert worker.broker.calls[-1] == Settled([3, 4], votes=4)
    inside = [name for name in documented() if name.partition("/")[0] in INSIDE]
    assert [name for name in passed if name in inside] == inside
