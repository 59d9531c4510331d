"""Writing files so that a crash leaves the old one or the new one, never half of one; reading no endless ones."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from unstuck.lm.errors import LmError

_TEMPORARY = ".unstuck-tmp-"


def read_whole(path: Path) -> bytes:
    """Return the bytes of a regular file; raises OSError, also for a pipe or a device, which may have no end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, force it to the disk, and put it in `path`'s place; raises OSError."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk where the system can (Windows opens no folders)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(folder: Path) -> None:
    """Make `folder` if it is missing and try a file in it; raises LmError saying why that fails."""
    if folder.exists() and not folder.is_dir():
        raise LmError(f"output folder {folder} is a file: choose another --out")
    probe = folder / f"{_TEMPORARY}{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise LmError(f"output folder {folder} is not writable ({error.strerror}): choose another --out") from None
