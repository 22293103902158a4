from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from busmon.errors import FleetRunningError, RegistryError, SettingsError
from busmon.fleet.supervisor import directory
from busmon.fleet.supervisor.directory import filesystem, hold, prepare
from busmon.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    prepare(Settings(registry_dir=tmp_path / "state" / "busmon"))
    assert (tmp_path / "state" / "busmon").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o702, 0o720, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(SettingsError, match="registry_dir from default: others can write to"):
        prepare(Settings(registry_dir=tmp_path))
    tmp_path.chmod(0o755)
    prepare(Settings(registry_dir=tmp_path))


@pytest.mark.parametrize("name", ["passwd", "aliases.db", "shards.lock", "gauge_shard0", "supervisor.log"])
def test_a_directory_of_other_programs_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SettingsError) as caught:
        prepare(Settings(registry_dir=tmp_path))
    assert str(caught.value) == (
        f"registry_dir from default: {tmp_path} has other programs' files ({name!r}) and no registry; name an empty "
        "directory, or one that can be made"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "supervisor.lock",
        "fleet.lock",
        "admission.lock",
        "shard12.journal",
        "dealt.json",
        "counter_4711.db",
        "gauge_mostrecent_shard0.db",
    ],
)
def test_a_registry_may_have_files_of_others_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "notes").touch()
    prepare(Settings(registry_dir=tmp_path))


def test_an_empty_volume_is_no_other_programs(tmp_path: Path) -> None:
    for name in ("lost+found", "spool", ".snapshot", ".bashrc", "busmon.toml"):
        (tmp_path / name).mkdir()
    prepare(Settings(registry_dir=tmp_path))


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, fault in (("file", r"\S*/file is no directory"), ("file/beneath", r"can't make \S*: Not a directory")):
        with pytest.raises(SettingsError, match=rf"^registry_dir from default: {fault}; name another directory$"):
            prepare(Settings(registry_dir=tmp_path / path))


@pytest.mark.parametrize(("kind", "warnings"), [("tmpfs", 1), ("ramfs", 1), ("ext4", 0), ("", 0)])
def test_a_directory_in_memory_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, warnings: int
) -> None:
    monkeypatch.setattr(directory, "filesystem", lambda _: kind)
    with capture_logs() as lines:
        prepare(Settings(registry_dir=tmp_path / "new"))
    assert [line["event"] for line in lines] == ["directory.volatile"] * warnings


def test_the_file_system_is_that_of_the_paths_device(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:999999 / / rw,relatime shared:1 master:2 - ext4 /dev/sda rw\n"
        f"22 21 {here} / /somewhere\\040else rw,nosuid - tmpfs tmpfs rw,size=1024k\n"
    )
    assert filesystem(tmp_path, mounts) == "tmpfs"
    mounts.write_text("")
    assert filesystem(tmp_path, mounts) == ""
    assert filesystem(tmp_path, tmp_path / "absent") == ""


def test_a_directory_that_is_held_is_refused_with_the_holders_process_id(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(FleetRunningError, match=f"process id {os.getpid()} runs here"), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_a_child_that_outlives_its_supervisor_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "ORPHANS_SECONDS", 0.2)
    with hold(tmp_path) as lock:
        inherited = os.dup(lock)
    with (
        capture_logs() as lines,
        pytest.raises(FleetRunningError, match="a process of an earlier fleet doesn't end"),
        hold(tmp_path),
    ):
        pass
    assert [line["event"] for line in lines] == ["directory.orphans_awaited"]
    os.close(inherited)
    with hold(tmp_path):
        pass


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / directory.SUPERVISOR_LOCK).mkdir()
    with pytest.raises(RegistryError, match="can't make the lock's file: Is a directory"), hold(tmp_path):
        pass
