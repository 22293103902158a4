"""`busmon quarantine list|show|replay|purge`: what the fleet refused, for a person to look at and to decide on.

A run that is interrupted ends after the body at hand, so that every body is in one place.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from heapq import nsmallest
from types import FrameType
from typing import TYPE_CHECKING

from busmon.cli.commands import Commands, add_command, add_group
from busmon.cli.numbers import whole
from busmon.cli.options import add_settings, settings_from
from busmon.errors import UserError
from busmon.plurals import format_count

if TYPE_CHECKING:
    from busmon.bus.operator.quarantine import Quarantine, Step, Steps
    from busmon.bus.operator.quarantined import Quarantined

IDS = "An ID is a body's message_id or, without one, the first 12 hex digits of the body's SHA-256."

LIST_EXAMPLES = f"""\
examples:
  busmon quarantine list                     the oldest 50
  busmon quarantine list --limit 1000 --reason invalid_json
  busmon quarantine list --json              for a program

{IDS}
"""

SHOW_EXAMPLES = f"""\
examples:
  busmon quarantine show analyzer-7f9c2-c41be07fa9d2385e:12
  busmon quarantine show 9f86d081884c --raw > body

{IDS}
"""

REPLAY_EXAMPLES = f"""\
examples:
  busmon quarantine replay analyzer-7f9c2-c41be07fa9d2385e:12
  busmon quarantine replay --reason version
  busmon quarantine replay --all

A body is published unchanged to the telemetry exchange, and leaves the quarantine after the confirm. Ctrl-C stops after
the present body. A body that is still invalid returns to the quarantine.

{IDS}
"""

PURGE_EXAMPLES = f"""\
examples:
  busmon quarantine purge --yes              delete everything
  busmon quarantine purge --reason invalid_json --yes

{IDS}
"""

DEFAULT_LIMIT = 50
DEFAULT_SHOWN_BYTES = 4096
REDRAW_SECONDS = 0.1


def add(commands: Commands) -> None:
    """Add `quarantine` and its four commands."""
    actions = add_group(
        commands,
        "quarantine",
        "list, show, replay or delete quarantined bodies",
        "Invalid bodies, and bodies that killed workers, each with its reason.",
    )
    _add_list(actions)
    _add_show(actions)
    replay = _add(actions, "replay", "publish bodies again, unchanged", REPLAY_EXAMPLES)
    _add_choice(replay)
    replay.add_argument("--all", action="store_true", help="every body")
    replay.set_defaults(run=run_replay, wrong=replay.error)
    purge = _add(actions, "purge", "delete bodies; all of them without IDs or --reason", PURGE_EXAMPLES)
    _add_choice(purge)
    purge.add_argument("--yes", action="store_true", help="confirm the deletion")
    purge.set_defaults(run=run_purge, wrong=purge.error)


def _add_list(actions: Commands) -> None:
    parser = _add(actions, "list", "list the bodies, the oldest first", LIST_EXAMPLES)
    parser.add_argument(
        "--limit", type=whole(1), default=DEFAULT_LIMIT, metavar="N", help="maximum number (default: %(default)s)"
    )
    parser.add_argument("--reason", help="only the bodies with this reason")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_list)


def _add_show(actions: Commands) -> None:
    parser = _add(actions, "show", "show a body and its headers", SHOW_EXAMPLES)
    parser.add_argument("id", metavar="ID", help="an ID that `list` prints")
    parser.add_argument("--raw", action="store_true", help="write only the body, unchanged")
    parser.add_argument(
        "--max-bytes",
        type=whole(1),
        default=DEFAULT_SHOWN_BYTES,
        metavar="N",
        help="maximum bytes of the body to show (default: %(default)s)",
    )
    parser.set_defaults(run=run_show)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", help="an ID that `list` prints")
    parser.add_argument("--reason", help="every body with this reason")


def _add(actions: Commands, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    parser = add_command(actions, name, summary, examples)
    add_settings(parser, "amqp_url", "exchange", "topology")
    return parser


def run_list(args: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from busmon.cli import quarantine_text

    chosen = _choose([], args.reason)
    with _open(args) as quarantine:
        total = quarantine.total()
        found = (quarantine_text.row(step.body) for step in _watch(quarantine.look()) if chosen(step.body))
        rows = nsmallest(args.limit, found, key=lambda row: row.quarantined_at or 0)
    if args.json:
        print(json.dumps({"total": total, "bodies": [row._asdict() for row in rows]}, indent=2))
    else:
        print(quarantine_text.table(rows, total))
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print every body with this ID; there may be copies."""
    from busmon.cli import quarantine_text

    with _open(args) as quarantine:
        found = [step.body for step in _watch(quarantine.look()) if step.body.identity == args.id]
    if not found:
        raise _unknown([args.id])
    if args.raw:
        sys.stdout.buffer.write(found[0].body)
    else:
        print("\n\n".join(quarantine_text.page(body, args.max_bytes) for body in found))
    return 0


def run_replay(args: argparse.Namespace) -> int:
    """Replay what was chosen."""
    if [bool(args.ids), args.reason is not None, args.all].count(True) != 1:
        args.wrong("expected what to replay: IDs, --reason or --all")
    with _open(args) as quarantine:
        return _follow(quarantine.replay(_choose(args.ids, args.reason)), args.ids, "replayed")


def run_purge(args: argparse.Namespace) -> int:
    """Delete what was chosen, or everything."""
    if args.ids and args.reason is not None:
        args.wrong("expected IDs or --reason, not both; without them everything is deleted")
    with _open(args) as quarantine:
        if not args.yes:
            raise UserError(
                f"nothing deleted of {format_count(quarantine.total(), 'body')}: "
                "this can't be undone; confirm with --yes"
            )
        if args.ids or args.reason is not None:
            return _follow(quarantine.delete(_choose(args.ids, args.reason)), args.ids, "deleted")
        print(f"{format_count(quarantine.delete_all(), 'body')} deleted")
    return 0


def _open(args: argparse.Namespace) -> "Quarantine":
    from busmon.bus.operator.quarantine import Quarantine
    from busmon.bus.topology.topology import load

    settings = settings_from(args)
    return Quarantine(settings.amqp_url, load(settings.topology, settings.exchange, settings.replication))


def _choose(ids: list[str], reason: str | None) -> "Callable[[Quarantined], bool]":
    if ids:
        return lambda body: body.identity in ids
    return lambda body: reason is None or body.cause.reason == reason


def _unknown(ids: list[str]) -> UserError:
    return UserError(
        f"the quarantine has no body with the ID {', '.join(map(repr, ids))}; `busmon quarantine list` lists them"
    )


def _follow(steps: "Steps", ids: list[str], done: str) -> int:
    """Go through the steps until the last or a signal; the exit status."""
    settled: list[str] = []
    stopped = ""
    with _signals() as signals, closing(steps):
        for step in _watch(steps):
            settled += [step.body.identity] if step.settled else []
            if signals:
                stopped = f"; stopped after {step.position} of {step.total}"
                break
    print(f"{format_count(len(settled), 'body')} {done}{stopped}")
    if stopped:
        return 128 + signals[0]
    if missing := [identity for identity in ids if identity not in settled]:
        raise _unknown(missing)
    return 0


def _watch(steps: "Steps") -> "Iterator[Step]":
    """Yield the steps, and show them in one line that is redrawn; without a terminal show nothing."""
    if not sys.stderr.isatty():
        yield from steps
        return
    drawn_at = 0.0
    try:
        for step in steps:
            if time.monotonic() - drawn_at >= REDRAW_SECONDS:
                drawn_at = time.monotonic()
                print(f"\r{step.position} of {step.total} examined", end="", file=sys.stderr, flush=True)
            yield step
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in the list that it yields; a second signal has its usual effect."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)
