"""Files are replaced whole or not at all, and a lock has one holder."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from busmon import files


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    files.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_mode_is_set_before_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, modes = tmp_path / "definitions.json", []
    original = Path.replace

    def seen(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    files.replace(path, b"{}", mode=0o640)
    assert modes == [0o640]


def test_a_replacement_that_fails_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    with suppress(ZeroDivisionError), files.replacing(path) as descriptor:
        os.write(descriptor, b"half")
        _ = 1 / 0
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_replacement_closes_its_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    files.replace(tmp_path / "state.json", b"new")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        files.replace(tmp_path / "state.json", b"new")
    assert descriptors() == before


def test_a_link_in_the_drafts_place_is_not_written_through(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"kept")
    (tmp_path / "state.tmp").symlink_to(foreign)
    files.replace(tmp_path / "state.json", b"new")
    assert foreign.read_bytes() == b"kept"
    assert (tmp_path / "state.json").read_bytes() == b"new"


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.hold_lock(path) as held:
        assert files.try_lock(held)
        other = os.open(path, os.O_RDWR)
        assert not files.try_lock(other)
    assert files.try_lock(other)
    os.close(other)
