"""The user's files as other programs name them: relative to the repository that holds them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

CELL = re.compile(r"^(?P<file>.*\.ipynb)\[(?P<cell>cell \d+)\]$", re.DOTALL)


def cell_of(file: str) -> tuple[str, str]:
    """Return a file's path and, for code of a notebook, which cell it is ("cell 3"); else ""."""
    found = CELL.match(file)
    return (found["file"], found["cell"]) if found else (file, "")


@lru_cache(maxsize=256)
def repository_of(file: str) -> Path | None:
    """Return the folder that a file's path is given relative to; None for what is no file, such as "<stdin>".

    The nearest folder above it that holds `.git`; else the workspace of a GitHub workflow or the current folder, when
    the file lies below it; else its own folder.
    """
    if not os.path.isabs(file):
        return None
    folders = Path(file).parents
    for folder in folders:
        if (folder / ".git").exists():
            return folder
    for folder in (Path(os.environ.get("GITHUB_WORKSPACE") or os.devnull), Path.cwd()):
        if folder in folders:
            return folder
    return folders[0]


def relative(file: str) -> str:
    """Return a path below its repository, with forward slashes; "" for what is no file."""
    root = repository_of(file)
    return "" if root is None else Path(file).relative_to(root).as_posix()


def uri(path: str) -> str:
    """Return a relative path as a URI reference (RFC 3986)."""
    return quote(path, errors="surrogateescape")
