"""`busmon publish`: one sample, or a stream of them, stored on a queue when the command ends well."""

import argparse
import sys
import time
from contextlib import suppress
from math import inf, nan
from typing import TYPE_CHECKING, Any, Self

from busmon.cli.commands import Commands, add_command
from busmon.cli.labels import add_labels, labels_from
from busmon.cli.options import add_settings, settings_from
from busmon.errors import BrokerUnreachableError, BusError, PublishRefusedError, UserError
from busmon.plurals import format_count
from busmon.printable import escape
from busmon.suggestion import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from busmon.catalogue import Catalogue
    from busmon.publish.batch import Sealed
    from busmon.settings import Settings

EXAMPLES = """\
examples:
  busmon publish queue_size 42 -l queue=tasks
  busmon publish tasks_processed_total 1 -l agent=analyzer -l status=success --agent analyzer
  busmon publish backups_total 1 --type counter      a metric that no catalogue names
  busmon publish backup_size_bytes 73400320 --type gauge --outlives-source -l db=main
  busmon publish - < samples.jsonl

A counter's value is an increment; a histogram's or summary's is one observation. A gauge's value stays in the scrape
for BUSMON_PRESENCE_TTL_SECONDS (5 minutes). With --outlives-source, or if the catalogue says so, the value stays until
a later one arrives: use this for the result of a job.

Lines of standard input are samples of the wire format:
  {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 42}
An invalid line is reported and skipped.

While the broker is unreachable, restarts or doesn't confirm, or a queue is full, the command retries with backoff, for
--retry-seconds (30) without a success. The fleet counts a sample once, however often it was sent. A wrong user,
password, virtual host or exchange fails at once.

exit status:
  0  every sample is confirmed: a queue has stored it
  1  not every sample: the broker refused it, the retries ended, or a line was invalid
  2  a mistake on the command line or in the settings; nothing was sent
"""

RETRY_SECONDS = 30.0
_PROGRESS_SECONDS = 0.2
_CLEAR_LINE = "\r\x1b[K"


def add(commands: Commands) -> None:
    """Add `publish`."""
    publish = add_command(
        commands,
        "publish",
        "publish a sample, or samples from standard input",
        EXAMPLES,
        description="Publish one sample, or all samples of standard input, and wait until a queue has stored them.",
    )
    common = "[--agent A] [--retry-seconds S]"
    single = f"busmon publish NAME VALUE [--type T] [--outlives-source] [-l KEY=VALUE]... {common} [-v]"
    publish.usage = f"{single}\n       busmon publish - {common}"
    publish.add_argument("name", metavar="NAME", help="the metric, or - for samples from standard input")
    publish.add_argument("value", metavar="VALUE", nargs="?", help="a number")
    publish.add_argument(
        "--type", metavar="T", help="counter, gauge, histogram or summary, if no catalogue names the metric"
    )
    publish.add_argument(
        "--outlives-source",
        action="store_true",
        help="keep the gauge's last value in the scrape, if no catalogue names the metric",
    )
    add_labels(publish, "a label; repeat it for more")
    publish.add_argument("--agent", metavar="A", default="cli", help="the publishing agent (default: cli)")
    publish.add_argument(
        "--retry-seconds",
        metavar="S",
        default=str(RETRY_SECONDS),
        help=f"time to retry without a success; 0 tries once (default: {RETRY_SECONDS:g})",
    )
    publish.add_argument("-v", "--verbose", action="store_true", help="print each confirmed sample")
    add_settings(publish, "amqp_url", "exchange", "catalogue")
    publish.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish, and wait for the confirms."""
    settings = settings_from(args)
    if args.name != "-":
        return _publish_one(args, settings)
    if args.value is not None or args.labels or args.type or args.outlives_source:
        raise UserError("publish: with '-' every line of standard input has its own value, type and labels")
    return _publish_lines(args, settings)


def _publish_one(args: argparse.Namespace, settings: "Settings") -> int:
    from busmon.catalogue import Catalogue
    from busmon.publish.samples import SampleChecks
    from busmon.publish.stream import seal_samples

    _require_type(args.type)
    catalogue = Catalogue.load(settings.catalogue)
    sample = _sample(args, catalogue)
    SampleChecks(catalogue).check(sample)
    with _Sending(args.agent, settings, _retry_seconds(args.retry_seconds)) as sending:
        sending.outbox.put(seal_samples(sending.origin, [sample]))
        sending.settle()
    if args.verbose:
        print(f"confirmed: {sample['name']} from {sending.origin.source}", file=sys.stderr)
    return 0


def _sample(args: argparse.Namespace, catalogue: "Catalogue") -> dict[str, Any]:
    from busmon.publish.contract import full_name, op_of

    family = catalogue.families.get(args.name)
    try:
        name = full_name(catalogue, args.name, args.type)
    except ValueError as error:
        raise UserError(f"publish: {error}") from error
    stated = {
        "type": args.type,
        "op": op_of(family) if family else None,
        "outlives_source": args.outlives_source or None,
    }
    return {
        "name": name,
        "labels": labels_from(args, "publish"),
        "value": _number(args.value),
        **{key: value for key, value in stated.items() if value is not None},
    }


def _require_type(text: str | None) -> None:
    from busmon.catalogue.family import TYPES

    if text is not None and text not in TYPES:
        near = suggestion(text, TYPES)
        raise UserError(f"publish: --type {text!r}: expected {', '.join(TYPES)}{near and f'; {near}'}")


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise UserError(
            f"publish: VALUE {text!r}: expected a number" if text else "publish: VALUE is missing"
        ) from error


def _retry_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 0 <= seconds < inf:
        raise UserError(f"publish: --retry-seconds {text!r}: expected a number of at least 0")
    return seconds


def _publish_lines(args: argparse.Namespace, settings: "Settings") -> int:
    from busmon.catalogue import Catalogue
    from busmon.publish.samples import SampleChecks
    from busmon.publish.stream import Stream

    checks, account = SampleChecks(Catalogue.load(settings.catalogue)), _Account()
    retry_seconds = _retry_seconds(args.retry_seconds)
    with _Sending(args.agent, settings, retry_seconds, account.confirm) as sending, account:
        stream = Stream(sending.origin, checks, account.reject)
        for sealed in stream.envelopes(sys.stdin.fileno(), settings.publish_interval_seconds):
            if sealed is None:
                sending.settle()
                continue
            account.read += sealed.samples
            sending.outbox.put(sealed)
            sending.send()
        sending.settle()
    return 1 if account.bad else 0


class _Sending:
    """A publisher and what goes through it; as a context manager it closes the connection."""

    def __init__(
        self,
        agent: str,
        settings: "Settings",
        retry_seconds: float,
        confirmed: "Callable[[Sealed], None]" = lambda _sealed: None,
    ) -> None:
        from busmon.bus.publish.publisher import ConfirmedPublisher
        from busmon.publish.contract import word
        from busmon.publish.outbox import Outbox
        from busmon.publish.sender import new_origin

        try:
            self.origin = new_origin(word(agent, "--agent"))
        except ValueError as error:
            raise UserError(f"publish: {error}") from error
        self._retry_seconds = retry_seconds
        self.publisher = ConfirmedPublisher(settings.amqp_url, self.origin.source)
        # Nothing is given up for what follows: the input is read no faster than the broker confirms.
        self.outbox = Outbox(self.origin, settings.exchange, self.publisher, sys.maxsize, confirmed=confirmed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close()

    def send(self) -> None:
        """Send what waits, and wait for confirms only where many are due."""
        self._insist(self.outbox.send)

    def settle(self) -> None:
        """Have everything confirmed, and answer the broker's heartbeats."""
        with suppress(BusError):  # lost while idle: the next publish opens another connection
            self.publisher.idle(0)
        self._insist(self._send_and_settle)

    def _send_and_settle(self) -> None:
        self.outbox.send()
        self.outbox.settle()

    def _insist(self, attempt: "Callable[[], None]") -> None:
        """Retry until the attempt succeeds, while the broker is away or a queue is full."""
        from busmon.bus.connect.retry import reconnect_waits

        deadline, waits = time.monotonic() + self._retry_seconds, reconnect_waits()
        while True:
            try:
                attempt()
            except (BrokerUnreachableError, PublishRefusedError) as error:
                wait = next(waits)
                if time.monotonic() + wait > deadline:
                    raise type(error)(f"{error} (retried for {self._retry_seconds:g} s)") from error
                time.sleep(wait)
            else:
                return


class _Account:
    """The account of a stream's samples: on stderr at any end, and now and then before."""

    def __init__(self) -> None:
        self.bad = self.read = self._confirmed = self._envelopes = 0
        self._shows = sys.stderr.isatty()
        self._shown_at = 0.0
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        unknown = self.read - self._confirmed
        said = f"{format_count(self._confirmed, 'sample')} confirmed in {format_count(self._envelopes, 'envelope')}"
        said += f", {unknown:,} not confirmed" if unknown else ""
        said += f", {format_count(self.bad, 'invalid line')}" if self.bad else ""
        self._say(f"busmon: {said}")

    def reject(self, number: int, reason: str) -> None:
        """Report an invalid line."""
        self.bad += 1
        self._say(f"busmon: line {number}: {reason}")

    def confirm(self, sealed: "Sealed") -> None:
        """Note an envelope that is stored."""
        self._confirmed += sealed.samples
        self._envelopes += 1
        now = time.monotonic()
        if self._shows and now - self._shown_at >= _PROGRESS_SECONDS:
            self._shown_at = now
            rate = self._confirmed / max(now - self._began, _PROGRESS_SECONDS)
            shown = f"{_CLEAR_LINE}{format_count(self._confirmed, 'sample')} confirmed, {rate:,.0f} a second"
            print(shown, end="", file=sys.stderr, flush=True)

    def _say(self, line: str) -> None:
        print(f"{_CLEAR_LINE if self._shows else ''}{escape(line)}", file=sys.stderr)
