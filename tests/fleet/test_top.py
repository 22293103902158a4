"""`busmon top` in a terminal of its own, over an exporter without a fleet."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Self

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from tests.fleet.exporting import BUSMON, SECONDS, exporter, get, with_series

_STEERING = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """The terminal of `busmon top`: its output, and its keys."""

    def __init__(self, address: str, lines: int, columns: int) -> None:
        self._keyboard, self._screen = pty.openpty()
        self.shown = ""
        self.size(lines, columns)
        self._modes = termios.tcgetattr(self._screen)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("LINES", "COLUMNS"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            (*BUSMON, "top", "--listen", address),
            stdin=self._screen,
            stdout=self._screen,
            stderr=self._screen,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)
        os.close(self._screen)

    def size(self, lines: int, columns: int) -> None:
        """Have another size from here on, as a window does that is dragged."""
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, lines: int, columns: int) -> None:
        """The same while the program runs, which is told."""
        self.size(lines, columns)
        self.shown = ""
        self.process.send_signal(signal.SIGWINCH)

    def type(self, key: bytes) -> None:
        os.write(self._keyboard, key)

    def wait_for(self, text: str) -> None:
        """Wait until it has been shown."""
        deadline = time.monotonic() + SECONDS
        while text not in _STEERING.sub("", self.shown):
            assert time.monotonic() < deadline, f"{text!r} was not shown in {self.shown[-2000:]!r}"
            if select.select([self._keyboard], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.shown += os.read(self._keyboard, 65536).decode(errors="replace")

    @property
    def is_as_before(self) -> bool:
        """Tell whether its modes are unchanged."""
        return termios.tcgetattr(self._screen) == self._modes


@contextmanager
def top(directory: Path, lines: int = 24, columns: int = 80) -> Iterator[tuple[Terminal, "subprocess.Popen[str]"]]:
    with exporter(directory) as (process, port), Terminal(f"127.0.0.1:{port}", lines, columns) as terminal:
        terminal.wait_for("no worker holds a shard")
        yield terminal, process


def test_json_is_what_the_page_shows(tmp_path: Path) -> None:
    with exporter(with_series(tmp_path / "registry")) as (_, port):
        command = (*BUSMON, "top", "--json", "--listen", f"127.0.0.1:{port}")
        told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout)
    assert [(row["name"], row["series"]) for row in told["families"]] == [("tasks_processed", 1)]
    assert told["scrape"] == f"http://127.0.0.1:{port}/metrics"


def test_q_leaves_with_the_terminal_as_it_was(tmp_path: Path) -> None:
    with top(with_series(tmp_path / "registry")) as (terminal, _):
        assert not terminal.is_as_before
        terminal.type(b"q")
        assert terminal.process.wait(SECONDS) == 0
        assert terminal.is_as_before


def test_a_taller_terminal_is_filled_at_once(tmp_path: Path) -> None:
    with top(with_series(tmp_path / "registry")) as (terminal, _):
        terminal.resize(45, 110)
        terminal.wait_for("tasks_processed")


def test_an_exporter_that_goes_away_is_said_above_the_last_figures(tmp_path: Path) -> None:
    with top(with_series(tmp_path / "registry")) as (terminal, process):
        terminal.shown = ""
        process.kill()
        terminal.wait_for("trying again: no exporter answers")
        terminal.wait_for("envelopes/s")


def test_counts_that_add_up_to_infinity_keep_nobody_from_watching(tmp_path: Path) -> None:
    directory = with_series(tmp_path / "registry")
    name = "busmon_publisher_dropped"
    for writer in (2, 3):
        values = MmapedDict(str(directory / f"counter_{writer}.db"))  # type: ignore[no-untyped-call]
        values.write_value(mmap_key(name, f"{name}_total", ["agent"], ["a"], "Dropped."), 1.7e308, 0.0)  # type: ignore[no-untyped-call]
        values.close()  # type: ignore[no-untyped-call]
    with exporter(directory) as (_, port):
        command = (*BUSMON, "top", "--once", "--listen", f"127.0.0.1:{port}")
        said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert "dropped by publishers" in said


@contextmanager
def answering(told: bytes) -> Iterator[str]:
    """Somebody's server that answers everything like that, and its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object, **__: object) -> None:
            """Not to the test's output."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server, ThreadPoolExecutor(1) as serving:
        serving.submit(server.serve_forever, 0.01)
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_whoever_answers_nothing_that_it_says_steers_the_terminal(tmp_path: Path) -> None:
    with exporter(with_series(tmp_path / "registry")) as (_, port):
        honest = json.loads(get(port, "/overview")[1])
    hostile = {name: f"\x1b]0;mine\x07\x9b2J{told}" if isinstance(told, str) else told for name, told in honest.items()}
    wrong = {**honest, "agents_known": "\x1b[2J"}
    for told, status in ((hostile, 0), (wrong, 1)):
        for form in ("--once", "--json"):
            with answering(json.dumps(told).encode()) as address:
                command = (*BUSMON, "top", form, "--listen", address)
                ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            assert ended.returncode == status
            said = ended.stdout + ended.stderr
            assert ("/metrics" if told is hostile else "is no busmon exporter") in said
            assert all(character.isprintable() for character in said if character != "\n")
