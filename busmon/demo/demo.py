"""The demo's spine: a broker, a fleet, a simulated platform, one screen; then all of it gone again, last come first.

Unattended, it stops publishing after so many seconds, waits until everything is committed, and closes with an audit of
what was published against what is scraped. It ends every process that it started, however it ends. Main thread.
"""

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import orjson
from rich.console import Console

from busmon.catalogue import Catalogue
from busmon.demo import audit, stage
from busmon.demo.children import Child, Interrupts
from busmon.errors import DemoError, ExporterUnreachableError
from busmon.fleet.supervisor import parent
from busmon.plurals import format_count
from busmon.printable import escape
from busmon.settings import Settings
from busmon.simulator.totals import Totals
from busmon.top import screen
from busmon.top.client import Client
from busmon.top.terminal import watch

INTERRUPTED = 130
AGENTS, RATE, SEED = 12, 40, 1
PUBLISH_INTERVAL_SECONDS = 0.1
"""Ten times as often as by default: the envelopes of a platform ten times as large."""

START_SECONDS = 60.0
STOP_SECONDS = 20.0
STALL_SECONDS = 10.0
"""How long a drain may go on without a single envelope more."""

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 3.0


def run(settings: Settings, seconds: float | None) -> int:
    """Play the demo, and return the exit status.

    Args:
        settings: the broker if one is named, the exporter's address, the number of workers.
        seconds: how long to publish when nobody attends; None until the user leaves.

    Raises:
        BusmonError: something is missing, or stopped; the message is one line.
    """
    interrupts = Interrupts()
    interrupts.listen()
    with ExitStack() as stack:
        try:
            return _Play(settings, seconds, stack, interrupts).run()
        except KeyboardInterrupt:
            return INTERRUPTED if seconds else 0
        finally:
            interrupts.hold()


class _Play:
    """One demo.

    Args:
        settings: the user's.
        seconds: as of `run`.
        stack: ends what was started, last come first.
        interrupts: kept away while a process starts.
    """

    def __init__(self, settings: Settings, seconds: float | None, stack: ExitStack, interrupts: Interrupts) -> None:
        self._settings = settings
        self._seconds = seconds
        self._stack = stack
        self._interrupts = interrupts
        self._lifeline = stack.enter_context(parent.lifeline())
        self._console = Console(highlight=False, soft_wrap=True)

    def run(self) -> int:
        """Run everything, from the broker's start to the last line."""
        directory = self._stack.enter_context(stage.directory())
        settings = self._set_up(directory)
        client = Client(settings.listen)
        self._say(f"starting {format_count(settings.workers, 'worker')} and the exporter")
        fleet = self._start("fleet", ("up", "--supervised"), settings, directory)
        self._await_ready(client, fleet)
        report = directory / "published.json"
        self._say(f"starting a simulated platform of {AGENTS} agents")
        simulator = self._start("simulator", self._simulate(report), settings, directory)
        hint = joining(self._settings, settings, sys.argv[0])
        self._show(client, lambda: fleet.status is not None or simulator.status is not None, hint)
        fleet.check()
        if self._seconds is not None:
            return self._audit(client, simulator, report)
        simulator.check()
        return 0

    def _say(self, line: str) -> None:
        self._console.print(escape(f"busmon demo: {line}"), markup=False)

    def _set_up(self, directory: Path) -> Settings:
        with_broker = self._stack.enter_context(stage.broker(self._settings, directory, self._say))
        address = stage.free_address(self._settings, self._say)
        # On a failure the last line of a log is all that remains of it: one for a person.
        settings = stage.override(
            with_broker, registry_dir=directory / "registry", listen=address, log_format="console"
        )
        if settings.origin("publish_interval_seconds") != "default":
            return settings
        return stage.override(settings, publish_interval_seconds=PUBLISH_INTERVAL_SECONDS)

    def _simulate(self, report: Path) -> tuple[str, ...]:
        seconds = () if self._seconds is None else ("--seconds", str(self._seconds))
        numbers = ("--agents", str(AGENTS), "--rate", str(RATE), "--seed", str(SEED))
        return ("simulate", "--supervised", *numbers, *seconds, "--totals", str(report))

    def _start(self, name: str, arguments: tuple[str, ...], settings: Settings, directory: Path) -> Child:
        child = Child(
            name,
            arguments,
            environment=settings.environment(),
            log=directory / f"{name}.log",
            lifeline=self._lifeline,
            stop_seconds=STOP_SECONDS,
        )
        with self._interrupts.delay():
            self._stack.callback(self._stop, child)
            child.start()
        return child

    def _stop(self, child: Child) -> None:
        if child.status is None:
            self._say(f"stopping the {child.name}")
        child.stop()

    def _await_ready(self, client: Client, fleet: Child) -> None:
        """Wait until every shard is consuming, so that no latency counts the start."""
        deadline = time.monotonic() + START_SECONDS
        missing = ["its exporter does not answer"]
        while missing and time.monotonic() < deadline:
            fleet.check()
            time.sleep(POLL_SECONDS)
            with suppress(ExporterUnreachableError):
                overview = client.overview()
                missing = [] if overview.ready == "ready" else overview.degraded
        if missing:
            raise DemoError(f"the fleet is not ready after {START_SECONDS:.0f} s: {missing[0]}; {fleet.last_line()}")
        self._say(f"ready: the scrape is at http://{client.address}/metrics")

    def _show(self, client: Client, over: Callable[[], bool], hint: str) -> None:
        """Show the screen, or a line every few seconds without a terminal, until the end or until the user leaves."""
        if self._console.is_terminal:
            watch(client, self._console, over, hint)
            return
        due = time.monotonic() + PROGRESS_SECONDS
        while not over():
            if time.monotonic() >= due:
                due += PROGRESS_SECONDS
                with suppress(ExporterUnreachableError):
                    self._say(screen.in_one_line(client.overview()))
            time.sleep(POLL_SECONDS)

    def _audit(self, client: Client, simulator: Child, report: Path) -> int:
        """Drain, scrape and compare; return 0 if all totals are equal."""
        simulator.stop()
        if simulator.status:
            simulator.check()
        published = Totals.from_document(orjson.loads(report.read_bytes()))
        self._say("draining")
        self._drain(client, published)
        lines = self._compare(client, published)
        different = sum(not line.equal for line in lines)
        self._console.print(audit.table(lines))
        verdict = f"{different} of {len(lines)} totals DIFFER" if different else f"all {len(lines)} totals are equal"
        self._say(f"published vs scraped: {verdict}")
        return 1 if different else 0

    def _drain(self, client: Client, published: Totals) -> None:
        """Wait until the queues are empty and all is committed, or nothing has moved for a while: the audit tells."""
        before: list[audit.Line] = []
        stalled_at = 0.0
        while time.monotonic() < stalled_at or not before:
            lines = self._compare(client, published)
            if all(line.equal for line in lines) and not any(row.depth for row in client.overview().shards):
                return
            if lines != before:
                before, stalled_at = lines, time.monotonic() + STALL_SECONDS
            time.sleep(POLL_SECONDS)

    def _compare(self, client: Client, published: Totals) -> list[audit.Line]:
        _, exposition = client.get("/metrics")
        return audit.compare(published, exposition.decode(), Catalogue.load(self._settings.catalogue).families.values())


def joining(given: Settings, settings: Settings, program: str) -> str:
    """Write the command with which a second terminal sees the demo's samples; a narrow screen shows its variable.

    The URL of a flag may have a password, so the command leaves it out.

    Args:
        given: the settings of the user.
        settings: those of the demo.
        program: the name under which the demo was started.
    """
    is_of_flag = given.origin("amqp_url").startswith("flag")
    if settings.amqp_url != given.amqp_url:
        variables = {"AMQP_URL": settings.amqp_url}
    else:
        variables = {"EXCHANGE": settings.exchange}
    stated = " ".join(f"BUSMON_{name}={shlex.quote(value)}" for name, value in variables.items())
    command = shlex.quote(program) if Path(program).name == "busmon" else "busmon"
    own = " with your --amqp-url" if settings.amqp_url == given.amqp_url and is_of_flag else ""
    return f"{stated} {command} tail   in a second terminal{own}"
