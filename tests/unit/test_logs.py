"""Each test logs in a process of its own: logging is set up once for a whole process."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

PROGRAM = """
import logging, sys, threading, structlog
from busmon import logs
from busmon.settings import Settings
logs.configure(Settings(log_format=sys.argv[1], log_level=sys.argv[2]), "worker", worker=3)
log = structlog.get_logger("busmon.fleet.worker.worker")
"""


def logged(body: str, log_format: str = "json", log_level: str = "info") -> list[str]:
    """The lines that the body writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + body, log_format, log_level], capture_output=True, text=True, check=True
    )
    assert not done.stdout
    return done.stderr.splitlines()


def test_every_line_names_its_process_whatever_thread_and_library_it_is_from() -> None:
    lines = logged("""
log.info("worker.started", shards=[0, 2])
thread = threading.Thread(target=lambda: log.info("worker.thread_started"))
thread.start(); thread.join()
logging.getLogger("busmon").warning("dropped %s", 5)
""")
    rows = [json.loads(line) for line in lines]
    assert [row["event"] for row in rows] == ["worker.started", "worker.thread_started", "dropped 5"]
    assert {(row["process"], row["worker"]) for row in rows} == {("worker", 3)}
    assert [row["level"] for row in rows] == ["info", "info", "warning"]
    assert rows[0]["shards"] == [0, 2]
    assert all(row["timestamp"].endswith("Z") for row in rows)


def test_a_line_below_the_level_is_not_written() -> None:
    assert len(logged('log.debug("a.b"); log.info("c.d"); log.warning("e.f")', log_level="warning")) == 1


def test_a_level_that_is_off_can_be_asked_for() -> None:
    body = "print(log.is_enabled_for(logging.DEBUG), log.is_enabled_for(logging.INFO), file=sys.stderr)"
    assert logged(body) == ["False True"]
    assert logged(body, log_level="debug") == ["True True"]


def test_a_traceback_shows_no_values_of_variables() -> None:
    body = """
def connect(password):
    raise OSError("no")
try:
    connect("secret" + "word")
except OSError:
    log.exception("worker.failed")
"""
    for log_format in ("json", "console"):
        text = "\n".join(logged(body, log_format))
        assert "OSError: no" in text
        assert "secretword" not in text


def test_pika_is_quiet_but_for_debugging() -> None:
    body = 'logging.getLogger("pika.adapters").error("Socket failed to connect"); log.info("a.b")'
    assert len(logged(body)) == 1
    assert len(logged(body, log_level="debug")) == 2


def test_auto_is_json_where_nobody_watches_and_console_on_a_terminal() -> None:
    assert json.loads(logged('log.info("a.b")', "auto")[0])["event"] == "a.b"
    controller, terminal = pty.openpty()
    program = [sys.executable, "-c", PROGRAM + 'log.info("a.b", key="value")', "auto", "info"]
    subprocess.run(program, stderr=terminal, check=True)
    os.close(terminal)
    line = os.read(controller, 4096).decode()
    os.close(controller)
    assert "a.b" in line
    assert "value" in line
    assert not line.startswith("{")


def test_a_reader_that_left_costs_lines_but_never_the_process() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-c", PROGRAM + 'log.info("a.b"); log.info("c.d"); print("alive")', "json", "info"]
    done = subprocess.run(program, stderr=writing, stdout=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stdout == "alive\n"


HOSTILE = "\x1b[2J\x9b31m\x07\u202e\u2028\x7f\n2026-11-30T00:00:00Z [info     ] all is well"

HOSTILE_LINES = f"""
hostile = {HOSTILE!a}
log.warning("lane.quarantined", detail=hostile, agents=[hostile, {{hostile: hostile}}], **{{"k" + hostile: 1}})
logging.getLogger("busmon").warning(hostile)
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("lane.step_failed")
"""


def test_no_text_of_a_publisher_steers_the_terminal_or_makes_a_line_of_its_own() -> None:
    lines = logged(HOSTILE_LINES, "console")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("2026-11-30T00:00:00Z")]
    assert any(r"ValueError: \x1b[2J\x9b31m\x07\u202e\u2028\x7f" in line for line in lines)
    assert r"\x1b[2J\x9b31m\x07\u202e\u2028\x7f\n2026" in lines[1]


def test_json_has_every_character_as_an_escape() -> None:
    lines = logged(HOSTILE_LINES, "json")
    assert all(line.isprintable() for line in lines)
    quarantined, foreign, failed = map(json.loads, lines)
    assert quarantined["detail"] == foreign["event"] == HOSTILE
    assert quarantined["agents"] == [HOSTILE, {HOSTILE: HOSTILE}]
    assert HOSTILE in failed["exception"]
