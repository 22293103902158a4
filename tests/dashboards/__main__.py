"""`make dashboards`: draws every dashboard over a real stack; fails where a panel is empty or the page complains."""

import argparse
import json
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from busmon.dashboards import BOARDS
from busmon.settings import Settings
from tests import pictured
from tests.browser import chromium
from tests.celery.traffic import celery_traffic
from tests.dashboards import drawing
from tests.pictured import DOCS
from tests.stack.native import NativeStack

EXAMPLES = """\
examples:
  python -m tests.dashboards                          a stack of its own, drawn after two minutes
  python -m tests.dashboards --settle 6 --minutes 10 --pictures
                                                      rates over 5 minutes are whole from the left edge on
  python -m tests.dashboards celery --pictures        only one of them
  python -m tests.dashboards --prometheus http://localhost:9090 --minutes 30
"""
OF_THE_MACHINE = {"HighCpuUsage", "HighMemoryUsage", "HostDiskFilling"}
"""Alerts that tell of the machine that draws, which may be busy with more."""

NAMES = [board.uid.removeprefix("busmon-") for board in BOARDS]

MAY_BE_EMPTY = {
    "Alerts firing",  # none does while all is well
}


def main() -> int:
    """Draw them all; 1 where one isn't right."""
    arguments = _arguments()
    boards = arguments.boards or NAMES
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        drawing.bundle(directory)
        with (
            _prometheus(arguments.prometheus, directory, arguments.settle + arguments.minutes) as prometheus,
            drawing.served(directory, prometheus) as address,
            chromium.running() as browser,
        ):
            end = time.time()
            faults = _alerting(prometheus)
            for name in boards:
                drawn = drawing.draw(browser, address, name, end - 60 * arguments.minutes, end)
                faults += _report(name, drawn)
                if arguments.pictures:
                    pictured.write(DOCS / f"dashboards/{name}.png", drawn.picture)
    say(f"{faults} faults" if faults else f"{len(boards)} dashboards drawn, no fault")
    return 1 if faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "boards", nargs="*", metavar="BOARD", help=f"those to draw of {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--prometheus", metavar="URL", help="draw what this one has, instead of a stack's")
    parser.add_argument("--minutes", metavar="N", type=float, default=2.0, help="the time range (default: 2)")
    parser.add_argument("--settle", metavar="N", type=float, default=0.0, help="minutes before the range (default: 0)")
    parser.add_argument("--pictures", action="store_true", help="write the pictures into docs/dashboards")
    given = parser.parse_args()
    if unknown := [name for name in given.boards if name not in NAMES]:
        parser.error(f"{unknown[0]} is no dashboard; expected one of {', '.join(NAMES)}")
    return given


@contextmanager
def _prometheus(given: str | None, directory: Path, minutes: float) -> Iterator[str]:
    if given:
        yield given
        return
    with (
        NativeStack(directory, Settings(), say, ("--agents", "12", "--rate", "20"), hasten="5s") as stack,
        celery_traffic(directory / "shop", stack.amqp_url),
    ):
        say(f"waiting {minutes:g} minutes for something to draw")
        time.sleep(60 * minutes)
        yield stack.prometheus


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _alerting(prometheus: str) -> int:
    """Name the alerts of P1 and P2 that fire over a platform in order, and count those not caused by this machine."""
    query = urllib.parse.urlencode({"query": 'ALERTS{alertstate="firing", tier=~"P1|P2"}'})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=60) as answer:  # noqa: S310 - our own
        firing = {row["metric"]["alertname"] for row in json.load(answer)["data"]["result"]}
    for name in sorted(firing):
        say(f"{name} fires{', because of this machine' if name in OF_THE_MACHINE else ''}")
    return len(firing - OF_THE_MACHINE)


def _report(name: str, drawn: drawing.Drawing) -> bool:
    """Say how a dashboard came out; whether something is wrong with it."""
    broken = [f"{panel['title']}: {panel['error']}" for panel in drawn.panels if panel.get("error")]
    empty = [panel["title"] for panel in drawn.panels if not panel["series"] and panel["title"] not in MAY_BE_EMPTY]
    faults = [*broken, *(f"{title}: no data" for title in empty), *drawn.complaints]
    say("\n  ".join([f"{name}: {len(drawn.panels)} panels", *faults]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
