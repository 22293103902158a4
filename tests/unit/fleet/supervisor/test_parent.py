"""The death signal that `watch` asks of the kernel is for a process's whole life, so each test has its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

from busmon.fleet.supervisor import parent

CHILD = """
import signal
from busmon.fleet.supervisor import parent
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
parent.watch()
print(parent.parent_is_gone(), flush=True)
signal.sigwait({signal.SIGTERM})
print(parent.parent_is_gone(), flush=True)
"""
SUPERVISOR = f"""
import subprocess, sys
from busmon.fleet.supervisor import parent
with parent.lifeline() as lifeline:
    subprocess.run([sys.executable, "-c", {CHILD!r}], stdin=lifeline)
"""


def test_a_process_that_nobody_supervises_has_no_parent_to_lose() -> None:
    assert not parent.parent_is_gone()


def test_a_child_is_told_to_end_when_its_supervisor_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        assert supervisor.stdout.readline() == "False\n"
        supervisor.kill()
        # This ends when the last writer has: the child, which says that it knows.
        assert supervisor.stdout.read() == "True\n"


def test_a_child_whose_supervisor_died_before_it_began_is_told_so_too() -> None:
    with ExitStack() as supervisor:
        lifeline = os.dup(supervisor.enter_context(parent.lifeline()))
    program = "from busmon.fleet.supervisor import parent; parent.watch(); print('not reached')"
    done = subprocess.run([sys.executable, "-c", program], stdin=lifeline, stdout=subprocess.PIPE, check=False)
    os.close(lifeline)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
