"""The supervisor's promises, on real processes: a supervisor of its own over small children."""

from __future__ import annotations

import os
import pty
import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from busmon import status
from tests.patience import wait_until

from .small_fleet import SmallFleet, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., SmallFleet]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts fleets in the test's directory, and ends what the test leaves of them."""
    fleets: list[SmallFleet] = []

    def begin(**options: object) -> SmallFleet:
        fleets.append(SmallFleet(tmp_path, **options))  # type: ignore[arg-type]
        return fleets[-1]

    yield begin
    for fleet in fleets:
        fleet.close()


def test_a_killed_worker_is_replaced_and_counted(start: Start) -> None:
    fleet = start()
    fleet.all_started()
    os.kill(fleet.started("worker-0").pid, signal.SIGKILL)
    assert fleet.started("worker-0", times=2).pid != fleet.started("worker-0").pid
    assert fleet.supervisor().restarts == {"0": 1, "1": 0, "exporter": 0}
    assert is_alive(fleet.started("worker-1").pid)
    fleet.tell(signal.SIGTERM)
    assert fleet.ended() == 0


def test_a_killed_exporter_is_replaced_and_counted(start: Start) -> None:
    fleet = start()
    os.kill(fleet.started("exporter").pid, signal.SIGKILL)
    fleet.started("exporter", times=2)
    assert fleet.supervisor().restarts == {"0": 0, "1": 0, "exporter": 1}


def test_a_worker_that_dies_of_its_start_is_tried_again_with_growing_waits(start: Start) -> None:
    fleet = start(behaviours={"worker-0": "dies"})
    fleet.started("worker-0", times=5)
    starts = [note.at for note in fleet.notes("started", "worker-0")][:5]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert all(gap > wait for gap, wait in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True)), gaps
    assert len(fleet.notes("started", "worker-1")) == 1


def test_a_child_that_cannot_be_started_costs_the_others_nothing(start: Start) -> None:
    fleet = start(behaviours={"worker-0": "missing"})
    fleet.started("worker-1")
    fleet.started("exporter")
    wait_until(lambda: fleet.log().count("supervisor.child_not_started") > 1)
    fleet.tell(signal.SIGTERM)
    assert fleet.ended() == 0


@pytest.mark.parametrize("name", ["worker-0", "worker-1", "exporter"])
def test_a_users_mistake_in_any_childs_first_start_stops_the_fleet_with_its_status(start: Start, name: str) -> None:
    fleet = start(behaviours={name: "refuses"})
    assert fleet.ended() == 2
    assert len(fleet.notes("started", name)) == 1
    assert not any(is_alive(note.pid) for note in fleet.notes("started"))


@pytest.mark.parametrize("name", ["worker-1", "exporter"])
def test_a_mistake_that_is_made_later_costs_the_others_nothing_and_is_told_until_it_is_mended(
    start: Start, tmp_path: Path, name: str
) -> None:
    fleet = start(behaviours={name: "refuses_later"})
    fleet.all_started()
    os.kill(fleet.started(name).pid, signal.SIGKILL)
    fleet.started(name, times=4)
    wait_until(lambda: fleet.supervisor().refusing == [name])
    assert fleet.log().count("supervisor.child_refused") >= 2
    (tmp_path / "mended").touch()
    wait_until(lambda: fleet.supervisor().refusing == [])
    assert is_alive(fleet.notes("started", name)[-1].pid)
    assert all(len(fleet.notes("started", other)) == 1 for other in {"worker-0", "worker-1", "exporter"} - {name})
    fleet.tell(signal.SIGTERM)
    assert fleet.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_fleet_ends_workers_first_and_the_exporter_after_them(start: Start, number: signal.Signals) -> None:
    fleet = start()
    fleet.all_started()
    fleet.tell(number)
    assert fleet.ended() == 0
    assert [note.name for note in fleet.notes("SIGTERM")][-1] == "exporter"
    assert len(fleet.notes("SIGTERM")) == 3
    assert not fleet.notes("SIGINT")
    assert status.read(fleet.registry_dir).supervisor is None


def test_a_terminals_interrupt_reaches_the_supervisor_alone(start: Start) -> None:
    fleet = start()
    fleet.all_started()
    os.killpg(fleet.process.pid, signal.SIGINT)
    assert fleet.ended() == 0
    assert not fleet.notes("SIGINT")
    assert len(fleet.notes("SIGTERM")) == 3


def test_who_does_not_end_in_time_is_killed_and_the_exporter_still_gets_its_turn(start: Start) -> None:
    fleet = start(behaviours={"worker-0": "stubborn"}, drain_seconds=1.0)
    fleet.all_started()
    fleet.tell(signal.SIGTERM)
    assert fleet.ended() == 0
    assert {note.name for note in fleet.notes("SIGTERM")} == {"worker-0", "worker-1", "exporter"}
    assert not any(is_alive(note.pid) for note in fleet.notes("started"))


def test_a_second_interrupt_kills_at_once(start: Start) -> None:
    fleet = start(behaviours={"worker-0": "stubborn"}, drain_seconds=3600.0)
    fleet.all_started()
    fleet.tell(signal.SIGINT)
    wait_until(lambda: fleet.notes("SIGTERM", "worker-0"))
    fleet.tell(signal.SIGINT)
    assert fleet.ended() == 130
    assert not any(is_alive(note.pid) for note in fleet.notes("started"))


def test_a_second_term_is_no_reason_to_hurry(start: Start) -> None:
    fleet = start(behaviours={"worker-0": "stubborn"}, drain_seconds=3600.0)
    fleet.all_started()
    fleet.tell(signal.SIGTERM)
    wait_until(lambda: fleet.notes("SIGTERM", "worker-0"))
    fleet.tell(signal.SIGTERM)
    wait_until(lambda: not is_alive(fleet.started("worker-1").pid))
    assert is_alive(fleet.started("worker-0").pid)
    assert is_alive(fleet.started("exporter").pid)
    assert fleet.supervisor().stopping


def test_a_reload_reaches_every_worker_and_the_exporter_and_is_counted(start: Start) -> None:
    fleet = start()
    fleet.all_started()
    fleet.tell(signal.SIGHUP)
    wait_until(lambda: {note.name for note in fleet.notes("SIGHUP")} == {"worker-0", "worker-1", "exporter"})
    wait_until(lambda: fleet.supervisor().config_reloads == {"success": 1, "failure": 0})


def test_a_wrong_catalogue_is_refused_before_anyone_reads_it(start: Start) -> None:
    fleet = start()
    fleet.all_started()
    fleet.catalogue.write_text("[counter\n")
    fleet.tell(signal.SIGHUP)
    wait_until(lambda: fleet.supervisor().config_reloads == {"success": 0, "failure": 1})
    assert str(fleet.catalogue) in fleet.log()
    fleet.catalogue.write_text("")
    fleet.tell(signal.SIGHUP)
    wait_until(lambda: fleet.supervisor().config_reloads == {"success": 1, "failure": 1})
    wait_until(lambda: len(fleet.notes("SIGHUP")) == 3)


def test_a_worker_that_hangs_is_killed_and_replaced(start: Start) -> None:
    fleet = start(behaviours={"worker-1": "hangs"}, beat_timeout_seconds=1.0)
    fleet.started("worker-1", times=2)
    assert fleet.supervisor().restarts["1"] >= 1
    assert "supervisor.child_hung" in fleet.log()


def test_a_machine_that_was_asleep_kills_nobody(start: Start) -> None:
    fleet = start(beat_timeout_seconds=3.0)
    fleet.all_started()
    workers = [fleet.started(name).pid for name in ("worker-0", "worker-1")]
    wait_until(lambda: len(status.read(fleet.registry_dir).workers) == 2)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    # The supervisor has seen their last beats before it sleeps itself.
    asleep_at = fleet.beaten_after(time.time() + 0.2)
    fleet.tell(signal.SIGSTOP)
    wait_until(lambda: time.time() > asleep_at + 4)
    fleet.tell(signal.SIGCONT)
    fleet.beaten_after(asleep_at + 4)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    fleet.beaten_after(time.time() + 4)
    assert set(fleet.supervisor().restarts.values()) == {0}


def test_a_full_disk_is_no_proof_that_a_worker_hangs(start: Start, tmp_path: Path) -> None:
    # Nothing can be written by this name, as on a full disk.
    draft = tmp_path / "registry" / "status" / "supervisor.tmp"
    draft.mkdir(mode=0o700, parents=True)
    draft.parent.parent.chmod(0o700)
    fleet = start(behaviours={"worker-1": "hangs"}, beat_timeout_seconds=1.0)
    hung = fleet.started("worker-1")
    wait_until(lambda: time.monotonic() > hung.at + 4)
    assert is_alive(hung.pid)
    assert fleet.log().count("supervisor.status_not_written") == 1
    draft.rmdir()
    fleet.started("worker-1", times=2)


def test_the_children_of_a_killed_supervisor_end_before_another_starts_its_own(start: Start, tmp_path: Path) -> None:
    fleet = start(behaviours={"worker-1": "stubborn"})
    fleet.all_started()
    fleet.tell(signal.SIGKILL)
    another = start()
    wait_until(lambda: "directory.orphans_awaited" in another.log())
    wait_until(lambda: {note.name for note in fleet.notes("SIGTERM")} == {"worker-0", "worker-1", "exporter"})
    assert len(fleet.notes("started")) == 3
    (tmp_path / "release").touch()
    another.started("worker-1", times=2)
    assert len(another.notes("orphaned", "worker-1")) == 1
    another.tell(signal.SIGTERM)
    assert another.ended() == 0


def test_a_second_supervisor_in_one_directory_is_refused_and_names_the_first(start: Start) -> None:
    fleet = start()
    fleet.all_started()
    second = start()
    assert second.ended() == 2
    assert f"the supervisor with process id {fleet.process.pid} runs here" in second.log()
    assert len(fleet.notes("started")) == 3


def test_a_closed_terminal_ends_a_fleet_that_was_started_on_it(start: Start) -> None:
    controller, terminal = pty.openpty()
    fleet = start(terminal=terminal)
    os.close(terminal)
    fleet.all_started()
    os.close(controller)
    fleet.tell(signal.SIGHUP)
    assert fleet.ended() == 0
    assert not fleet.notes("SIGHUP")
