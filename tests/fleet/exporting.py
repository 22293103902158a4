"""The exporter as a process of its own, over a registry directory that no fleet runs in, and who asks it."""

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

BUSMON = (sys.executable, "-m", "busmon")
SECONDS = 60


def with_series(directory: Path, count: int = 1) -> Path:
    """Series of one counter, as a worker or any other process with prometheus_client leaves them."""
    directory.mkdir(mode=0o700)
    values = MmapedDict(str(directory / "counter_1.db"))  # type: ignore[no-untyped-call]
    for number in range(count):
        agent = "analyzer" if number == 0 else f"agent-{number:08}"
        key = mmap_key("tasks_processed", "tasks_processed_total", ["agent"], [agent], "Tasks.")
        values.write_value(key, 42.0, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    return directory


@contextmanager
def exporter(
    registry_dir: Path, *arguments: str | Path, descriptors: int = 0
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A running exporter and its port; it may have no more than so many descriptors, if that is said."""
    limited = ("prlimit", f"--nofile={descriptors}:{descriptors}") if descriptors else ()
    command = [*limited, *BUSMON, "exporter", "--listen", "127.0.0.1:0", "--registry-dir", registry_dir, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, _port(process)
        finally:
            process.kill()


def _port(process: "subprocess.Popen[str]") -> int:
    assert process.stderr
    for line in process.stderr:
        if line.startswith("{") and (said := json.loads(line))["event"] == "server.started":
            return int(said["address"].rpartition(":")[2])
    raise AssertionError("the exporter ended before it served")


def get(
    port: int, path: str, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, bytes]:
    """An answer's status and body."""
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=SECONDS, context=tls
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
