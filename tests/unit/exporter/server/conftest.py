"""The deadlines that a test can wait for, steps of known length, and terms with TLS."""

import itertools
from pathlib import Path

import pytest

from busmon.exporter.access import gate
from busmon.exporter.access.access import Access
from busmon.exporter.server import connection
from tests.certificates import Authority


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the deadlines of connections and answers forward."""
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.2)


@pytest.fixture
def even_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each look at the clock of turns take a millisecond, so that a step takes one."""
    milliseconds = itertools.count()
    monkeypatch.setattr("busmon.exporter.server.turns.time.thread_time", lambda: next(milliseconds) / 1000)


@pytest.fixture
def closed(tmp_path: Path) -> Access:
    """With TLS."""
    Authority(tmp_path).for_this_host()
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    return Access(web)
