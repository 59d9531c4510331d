"""A folder of stored runs, copies of one that was recorded, with what is said of them changed at will."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from unstuck.trace.folder import FOLDER
from unstuck.trace.processes import as_stored

PORT = 6076
HERE = f"http://127.0.0.1:{PORT}"
RUNNING: dict[str, Any] = {**as_stored(os.getpid()), "ended": None, "verdict": None}
"""What the file of a run says that this process is still training."""


def place(stored: Path, folder: Path, name: str, **info: Any) -> Path:
    """Put a copy of a run below a folder, with other words about it; returns its file."""
    path = folder / FOLDER / f"{name}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(stored, path)
    change(path, **info)
    return path


def change(path: Path, **info: Any) -> None:
    """Change what a file says of its run; None takes it away, fields of a dict that it has are kept."""
    with closing(sqlite3.connect(path)) as db, db:
        for key, value in info.items():
            known = db.execute("SELECT value FROM info WHERE key = ?", (key,)).fetchone()
            if isinstance(value, dict) and known:
                value = {**json.loads(known[0]), **value}
            if value is None:
                db.execute("DELETE FROM info WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, json.dumps(value)))


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by their names."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
