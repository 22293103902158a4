"""A process that was forked is known as such without Python's hooks, on any kernel."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable
from mmap import mmap
from types import SimpleNamespace
from typing import Any

import pytest

from busmon.publish import forks, uwsgi


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The module that uWSGI makes in its processes."""
    server = SimpleNamespace(has_threads=1, worker_id=lambda: 1, workers=lambda: [{"respawn_count": 0}])
    monkeypatch.setitem(sys.modules, "uwsgi", server)
    monkeypatch.delitem(sys.modules, "uwsgidecorators", raising=False)
    return server


@pytest.mark.parametrize("make", [forks.new_mark, forks.ProcessIdMark])
def test_a_mark_is_gone_in_a_child_whoever_forks_it(make: Callable[[], forks.Mark]) -> None:
    mark = make()
    assert not mark[0]
    mark[0] = 1
    for fork in (os.fork, ctypes.PyDLL(None).fork):
        child = fork()
        if child == 0:
            was_set = mark[0]
            mark[0] = 1
            os._exit(0 if not was_set and mark[0] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert mark[0]


def test_the_kernel_wipes_the_page() -> None:
    assert isinstance(forks.here, mmap)


def test_one_that_fails_in_a_child_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(forks, "_forget", [lambda: 1 / 0, lambda: called.append("forgot")])
    monkeypatch.setattr(forks, "_renew", [lambda _: 1 / 0, called.append])
    monkeypatch.setattr(forks, "here", bytearray(1))
    logging.disable()
    try:
        forks.notice()
    finally:
        logging.disable(logging.NOTSET)
    assert called == ["forgot", False]
    forks.notice()
    assert called == ["forgot", False]


def test_a_signal_handler_that_counts_meanwhile_begins_no_second_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[object] = []
    monkeypatch.setattr(forks, "here", bytearray(1))
    monkeypatch.setattr(forks, "_forget", [forks.notice])
    monkeypatch.setattr(forks, "_renew", [renewed.append])
    forks.notice()
    assert renewed == [False]


class TestUwsgi:
    def test_workers_are_noticed_when_they_begin_after_what_the_program_does(self, server: Any) -> None:
        called: list[str] = []
        server.post_fork_hook = lambda: called.append("the program's")
        uwsgi.look(lambda: called.append("ours"))
        chained = server.post_fork_hook
        uwsgi.look(lambda: called.append("again"))
        assert server.post_fork_hook is chained
        chained()
        assert called == ["the program's", "ours"]

    def test_its_own_chain_is_used_where_the_program_does(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        decorators = SimpleNamespace(postfork_chain=[])
        monkeypatch.setitem(sys.modules, "uwsgidecorators", decorators)
        called: list[str] = []
        uwsgi.look(lambda: called.append("ours"))
        (begin,) = decorators.postfork_chain
        begin()
        assert called == ["ours"]
        assert not hasattr(server, "post_fork_hook")

    def test_that_no_thread_runs_is_said_once(self, server: Any, caplog: pytest.LogCaptureFixture) -> None:
        server.has_threads = 0
        uwsgi.look(lambda: None)
        uwsgi.look(lambda: None)
        (record,) = caplog.records
        assert record.getMessage().startswith("uWSGI runs without threads, so telemetry is published late")
        assert record.getMessage().endswith("Start uWSGI with --enable-threads")
