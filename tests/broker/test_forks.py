"""Forked processes publish for themselves: whoever makes the fork, whenever, and however the child ends."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import orjson
import pytest

from .secured import open_entrance
from .test_telemetry import arrived, total

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

    from .topologies import Client, Place, Taken

PREAMBLE = """
import ctypes, multiprocessing, os, random, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from busmon import Telemetry
from busmon.publish import forks
from busmon.settings import Settings

python_fork = os.fork

def c_fork():
    # As uWSGI forks: Python's hooks don't run. CPython may hang in the child of such a fork if another thread wants the
    # GIL meanwhile, so the publishing thread has just begun to wait.
    fork = ctypes.PyDLL(None).fork
    if not forks.here[0]:  # a child in which nothing has been published, and no thread runs
        return fork()
    assert telemetry.flush(60)
    changed = telemetry._sender._changed
    earlier = [*changed._waiters]
    while True:
        with changed:
            if changed._waiters and [*changed._waiters] != earlier:
                return fork()
        time.sleep(0.001)

amqp_url, *arguments = sys.argv[1:]
settings = Settings(amqp_url=amqp_url, publish_interval_seconds=0.05, spool_bytes=0)
telemetry = Telemetry("analyzer", settings=settings, lifecycle=False)
hits = telemetry.counter("hits_total")

def wait(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def end(is_good):
    os._exit(0 if is_good else 1)
"""


def run(place: Place, program: str, *arguments: str) -> str:
    """Run a program whose `telemetry` publishes to the place, and return what it printed; it must end without error."""
    # From Python 3.12 on, every fork of a process with threads is warned of.
    expected = "ignore:This process:DeprecationWarning"
    command = [sys.executable, "-W", expected, "-c", PREAMBLE + program, place.amqp_url, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def sources(taken: Iterable[Taken], name: str = "hits_total") -> Counter[str]:
    """Sum each source's counts, each message id once, as the fleet counts."""
    once = {each.properties.message_id: each for each in taken}.values()
    counted: Counter[str] = Counter()
    for each in once:
        envelope = orjson.loads(each.body)
        counted[envelope["source"]] += sum(
            row[-1] for table in envelope["tables"] if table["name"] == name for row in table["rows"]
        )
    return +counted


def counts(client: Client, expected: int) -> list[int]:
    """Wait until the sources have counted the total, and return their counts in order."""
    taken = arrived(client, lambda taken: total(taken, "hits_total") >= expected)
    return sorted(sources(taken).values())


@pytest.mark.parametrize("fork", ["python_fork", "c_fork"])
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("assert telemetry.close(30); os._exit(0)", [2, 3]),
        ("assert telemetry.flush(30); os._exit(0)", [2, 3]),
        ("sys.exit()", [2, 3]),
        ("time.sleep(3600)", [2, 3]),
    ],
    ids=["closes", "flushes", "exits", "goes idle"],
)
def test_a_child_of_a_few_calls_publishes_however_it_ends(
    place: Place, client: Client, fork: str, end: str, expected: list[int]
) -> None:
    program = f"""
hits.inc()
child = {fork}()
if child == 0:
    hits.inc(3)
    {end}
hits.inc()
sys.stdin.read()
os.kill(child, 9)
os.waitpid(child, 0)
"""
    command = [sys.executable, "-c", PREAMBLE + program, place.amqp_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as parent:
        assert counts(client, 5) == expected
        parent.communicate(b"")
        assert parent.returncode == 0


def test_a_child_that_makes_no_call_is_silent_and_ends_at_once(place: Place, client: Client) -> None:
    run(
        place,
        """
hits.inc()
child = c_fork()
if child == 0:
    began = time.monotonic()
    telemetry.close()
    end(time.monotonic() - began < 1)
wait(child)
""",
    )
    assert counts(client, 1) == [1]


@pytest.mark.parametrize("fork", ["python_fork", "c_fork"])
def test_threads_of_a_child_lose_no_call_while_it_is_noticed(place: Place, client: Client, fork: str) -> None:
    run(
        place,
        f"""
hits.inc()
for _ in range(10):
    child = {fork}()
    if child == 0:
        started = threading.Barrier(4)
        def work():
            started.wait()
            for _ in range(100):
                hits.inc()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        end(telemetry.close(60))
    wait(child)
""",
    )
    assert counts(client, 4001) == [1, *[400] * 10]


@pytest.mark.parametrize("first", ["python_fork", "c_fork"])
@pytest.mark.parametrize("second", ["python_fork", "c_fork"])
def test_a_daemon_that_forks_twice_publishes(place: Place, client: Client, first: str, second: str) -> None:
    run(
        place,
        f"""
assert telemetry.flush(60)
read, write = os.pipe()
child = {first}()
if child == 0:
    os.setsid()
    if {second}() != 0:
        os._exit(0)
    os.close(read)
    hits.inc(7)
    is_good = telemetry.close(60)
    os.write(write, b"good" if is_good else b"bad")
    os._exit(0)
os.close(write)
wait(child)
assert os.read(read, 4) == b"good"
""",
    )
    assert counts(client, 7) == [7]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_publish_without_a_call_to_close(
    place: Place, client: Client, method: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        PREAMBLE
        + """
def work(number):
    hits.inc(number)

if __name__ == "__main__":
    context = multiprocessing.get_context(arguments[0])
    children = [context.Process(target=work, args=(number,)) for number in (1, 2)]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0]
    with ProcessPoolExecutor(2, context) as pool:
        list(pool.map(work, [4, 4, 4, 4]))
    hits.inc(100)
"""
    )
    command = [sys.executable, str(program), place.amqp_url, method]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    counted = counts(client, 119)
    assert sum(counted) == 119
    assert counted[:2] == [1, 2]
    assert counted[-1] == 100


def test_a_program_that_starts_others_stays_one_source(place: Place, client: Client) -> None:
    run(
        place,
        """
import subprocess
hits.inc()
os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
subprocess.run(["/bin/true"], check=True)
subprocess.run(["/bin/true"], check=True, preexec_fn=lambda: None)
hits.inc()
""",
    )
    assert counts(client, 2) == [2]


LOADED = """
load = threading.Thread(target=work)
load.start()
"""
IMPORTING = """
from pathlib import Path

imported = []

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            imported.append(name)

sys.meta_path.insert(0, Finder)
for agent, url in (("known", amqp_url), ("refused", arguments[0]), ("unreachable", "amqp://localhost:1/")):
    spooling = {"spool_dir": Path(arguments[1]), "publish_buffer_bytes": 1, "publish_interval_seconds": 0.05}
    with Telemetry(agent, settings=Settings(amqp_url=url, **spooling)) as other:
        other.watch_process(interval_seconds=0)
        other.gauge("a").set_function(lambda: 1)
        other.histogram("c", buckets=[1]).observe(1)
        other.summary("d").observe(1)
        assert other.flush(30 if agent == "known" else 0.5) == (agent == "known")
        other.summary("d").observe(1)
assert len(os.listdir(arguments[1])) == 3
print(imported)
"""


@pytest.mark.parametrize("is_secured", [False, True], ids=["plain", "tls"])
def test_no_thread_imports_a_module(node: PrivateNode, place: Place, tmp_path: Path, *, is_secured: bool) -> None:
    """A child that is forked in the middle of an import waits for its end permanently."""
    amqp_url = place.amqp_url
    if is_secured:
        virtual_host = amqp_url.rpartition("/")[2]
        entrance = open_entrance(node, tmp_path)
        amqp_url = entrance.amqp_url(virtual_host, cacertfile=entrance.authority.ca)
    refused = amqp_url.replace("guest:guest@", "guest:wrong@")
    command = [sys.executable, "-c", PREAMBLE + IMPORTING, amqp_url, refused, str(tmp_path / "spool")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


PARENTS, CHILDREN = 10, 50


def test_no_child_is_silent_that_was_forked_while_its_parent_connects_and_counts(place: Place, client: Client) -> None:
    program = f"""
moments = random.Random(arguments[0])
calls = 0
stop = threading.Event()
def work():
    global calls
    while not stop.is_set():
        hits.inc()
        calls += 1
        time.sleep(0.0002)
load = threading.Thread(target=work)
load.start()
children = []
for _ in range({CHILDREN}):
    time.sleep(moments.uniform(0, 0.006))
    child = os.fork()
    if child == 0:
        hits.inc()
        end(telemetry.flush(90))
    children.append(child)
silent = sum(os.waitpid(child, 0)[1] != 0 for child in children)
stop.set()
load.join()
assert silent == 0, silent
assert telemetry.close(60)
print(calls)
"""
    calls = sum(int(run(place, program, str(seed))) for seed in range(PARENTS))
    children = PARENTS * CHILDREN
    counted = counts(client, calls + children)
    assert sum(counted) == calls + children
    assert counted[:children] == [1] * children
