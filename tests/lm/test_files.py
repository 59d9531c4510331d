from __future__ import annotations

import os
from pathlib import Path

import pytest

from unstuck.lm.checkpoint import load_checkpoint
from unstuck.lm.errors import LmError
from unstuck.lm.files import read_whole, require_writable, write_atomically


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="it is no regular file"):
            read_whole(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "checkpoint.json")
        with pytest.raises(LmError, match=r"checkpoint.json cannot be read \(it is no regular file\)"):
            load_checkpoint(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    assert read_whole(tmp_path / "file") == b"x"
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_whole(tmp_path)


def test_a_missing_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    require_writable(folder)
    assert list(folder.iterdir()) == []


def test_a_file_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(LmError) as caught:
        require_writable(file)
    assert str(caught.value) == f"output folder {file} is a file: choose another --out"
    with pytest.raises(LmError) as caught:
        require_writable(file / "below")
    assert str(caught.value) == f"output folder {file}/below is not writable (Not a directory): choose another --out"
