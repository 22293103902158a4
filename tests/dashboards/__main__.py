"""`make dashboards`: draws every dashboard over a real stack; fails where a panel is empty or the page complains."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from busmon.dashboards import BOARDS
from busmon.demo.native import NativeStack
from busmon.settings import Settings
from tests.browser import chromium
from tests.dashboards import drawing

EXAMPLES = """\
examples:
  python -m tests.dashboards                          a stack of its own, drawn after two minutes
  python -m tests.dashboards --prometheus http://localhost:9090 --minutes 30 --pictures docs/dashboards
"""
MAY_BE_EMPTY = {
    "Alerts firing",  # none does while all is well
}


def main() -> int:
    """Draw them all; 1 where one isn't right."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        drawing.bundle(directory)
        with (
            _prometheus(arguments.prometheus, directory, arguments.minutes) as prometheus,
            drawing.served(directory, prometheus) as address,
            chromium.running() as browser,
        ):
            end = time.time()
            faults = 0
            for board in BOARDS:
                name = board.uid.removeprefix("busmon-")
                drawn = drawing.draw(browser, address, name, end - 60 * arguments.minutes, end)
                faults += _report(name, drawn)
                if arguments.pictures:
                    (arguments.pictures / f"{name}.png").write_bytes(drawing.compressed(drawn.picture))
    say(f"{len(BOARDS) - faults} passed, {faults} failed")
    return 1 if faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", metavar="URL", help="draw what this one has, instead of a stack's")
    parser.add_argument("--minutes", metavar="N", type=float, default=2.0, help="the time range (default: 2)")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="write the pictures here")
    return parser.parse_args()


@contextmanager
def _prometheus(given: str | None, directory: Path, minutes: float) -> Iterator[str]:
    if given:
        yield given
        return
    with NativeStack(directory, Settings(), say, ("--agents", "12", "--rate", "20"), hasten="5s") as stack:
        say(f"waiting {minutes:g} minutes for something to draw")
        time.sleep(60 * minutes)
        yield stack.prometheus


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _report(name: str, drawn: drawing.Drawing) -> bool:
    """Say how a dashboard came out; whether something is wrong with it."""
    broken = [f"{panel['title']}: {panel['error']}" for panel in drawn.panels if panel.get("error")]
    empty = [panel["title"] for panel in drawn.panels if not panel["series"] and panel["title"] not in MAY_BE_EMPTY]
    faults = [*broken, *(f"{title}: no data" for title in empty), *drawn.complaints]
    say("\n  ".join([f"{name}: {len(drawn.panels)} panels", *faults]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
