"""`--save s3://…`: a folder of an object store, by fsspec (https://filesystem-spec.readthedocs.io).

Files are written on this machine and brought there when the run has ended: a lost connection loses nothing.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from unstuck.cli.errors import fail
from unstuck.escape import one_line
from unstuck.trace.folder import FOLDER, keep_private

SPOOL = Path(FOLDER.parts[0], "spool")
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*://")  # the former chain filesystems


def is_remote(place: str) -> bool:
    """Tell whether a place is an address such as s3://bucket/folder rather than a path."""
    return _ADDRESS.match(place) is not None


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of a store, and the one on this machine where its files are written first."""

    address: str
    spool: Path
    store: Any
    path: str

    def upload(self) -> bool:
        """Bring all files there and remove them here; where that fails, say why and where they are: False."""
        try:
            for file in sorted(self.spool.iterdir()):
                self.store.put_file(str(file), f"{self.path}/{file.name}")
        except Exception as error:  # noqa: BLE001  (each store has errors of its own)
            typer.echo(
                f"unstuck: cannot upload the report to {self.address}: {_reason(error)}; "
                f"it is kept in {self.spool}: copy it there, or name another folder",
                err=True,
            )
            return False
        shutil.rmtree(self.spool, ignore_errors=True)
        return True

    def address_of(self, name: str) -> str:
        """Return the address of a file in it."""
        return f"{self.address}/{name}"


def open_remote(address: str) -> RemoteFolder:
    """Make sure, before any work, that files can be written to an address; else fail."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        fail(f"--save {address} needs the package fsspec; install it: pip install 'unstuck[remote]'")
    address = address.rstrip("/")
    try:
        store, path = url_to_fs(address)
        store.makedirs(path, exist_ok=True)
        probe = f"{path}/.unstuck-write-test"
        store.pipe_file(probe, b"")
        store.rm_file(probe)
    except ImportError as error:
        fail(f"--save {address} needs a package of its store: {_reason(error)}")
    except Exception as error:  # noqa: BLE001  (each store has errors of its own)
        fail(f"cannot write the report to {address}: {_reason(error)}; name another folder")
    try:
        spool = SPOOL.absolute()
        spool.mkdir(parents=True, exist_ok=True)
        keep_private(spool.parent)
        made = Path(tempfile.mkdtemp(prefix="run-", dir=spool))
    except OSError as error:
        fail(f"cannot write to {SPOOL}, where the report waits for its upload: {error.strerror}")
    return RemoteFolder(address, made, store, path)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(text)[:300]
