"""A stored run: one SQLite file, which other processes can read while it grows.

Tables: `info` (key, JSON), `names` (numbers of names), `sites` and `edges`, `steps` (those sampled), `samples` (a
step's numbers as a blob, see `packing.py`; several rows of one step are entered in turn), `losses` (blobs of steps and
values of the objective), `sources` (the text of the files that sites lie in, to show their lines later).
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from unstuck.escape import one_line
from unstuck.trace.packing import PackingError, check_columns, enter, unpack
from unstuck.trace.sites import Edge, Location, Site
from unstuck.trace.trace import Facts, Trace
from unstuck.trace.typed import build, typed
from unstuck.trace.watching import Watching

APPLICATION = 0x756E7374  # SQLite's application id: "unst"
SCHEMA_VERSION = 1
SIDES = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside the one it writes
WAIT_SECONDS = 5.0  # for another process that holds the file
LARGEST_FILE = 256 << 20  # bytes of a file that is opened; a run is written to no more than 64 MiB
LARGEST_VALUE = 64 << 20  # bytes of one text or blob in it

_NAMES, _SOURCES = tuple[tuple[int, str], ...], tuple[tuple[str, str], ...]  # rows of these tables
DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    MemoryError,
)
"""What reading contents raises that no writer of ours has made."""

SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE sites (number INTEGER PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE edges (producer INTEGER, consumer INTEGER, direct INTEGER, PRIMARY KEY (producer, consumer, direct))
    WITHOUT ROWID;
CREATE TABLE steps (step INTEGER PRIMARY KEY);
CREATE TABLE samples (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX samples_by_step ON samples (step);
CREATE TABLE losses (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE sources (file TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
COMMIT;
"""


class StoreError(ValueError):
    """A file is no stored run, or not one that can be read: one line saying what, where and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class StoredRun:
    """What a file holds: the record, what was said of the run (`info`), and the text of source files by name."""

    path: Path
    trace: Trace
    info: Mapping[str, Any]
    sources: Mapping[str, str]


def read(path: Path) -> StoredRun:
    """Read a stored run, also one that is being written at the moment; raises StoreError."""
    with _reading(path) as db:
        trace = Trace()
        trace.sites = [_site(json.loads(data)) for (data,) in db.execute("SELECT data FROM sites ORDER BY number")]
        _check_sites(trace.sites)
        trace.edges = {Edge(p, c, bool(direct)) for p, c, direct in db.execute("SELECT * FROM edges")}
        if not all(0 <= end < len(trace.sites) for edge in trace.edges for end in (edge.producer, edge.consumer)):
            raise PackingError("an edge leads nowhere")
        trace.steps = [step for (step,) in db.execute("SELECT step FROM steps ORDER BY step")]
        names: dict[int, str] = dict(typed(_NAMES, db.execute("SELECT number, name FROM names").fetchall()))
        for step, data in db.execute("SELECT step, data FROM samples ORDER BY id"):
            enter(trace, typed(int, step), unpack(data), names)
        for (data,) in db.execute("SELECT data FROM losses ORDER BY id"):
            arrays = unpack(data)
            check_columns(arrays)
            trace.objective.update(zip(arrays["steps"].tolist(), arrays["values"].tolist(), strict=True))
        info = _info(db)
        if "facts" in info:
            trace.facts = _facts(info["facts"])
        sources = dict(typed(_SOURCES, db.execute("SELECT file, text FROM sources").fetchall()))
        return StoredRun(path, trace, info, sources)


def read_info(path: Path) -> dict[str, Any]:
    """Read what is said of a stored run as a whole; raises StoreError."""
    with _reading(path) as db:
        return _info(db)


def bytes_of(path: Path) -> int:
    """Return how much room a stored run takes, in bytes, with the files that SQLite keeps beside it."""
    return sum(file.stat().st_size for file in files_of(path))


def files_of(path: Path) -> list[Path]:
    """Return the files of a stored run that exist."""
    return [Path(name) for side in ("", *SIDES) if os.path.isfile(name := f"{path}{side}")]


def is_run(path: Path) -> bool:
    """Tell whether a file is a stored run, of any version, by its header."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:72], "big") == APPLICATION


def site_as_dict(site: Mapping[str, Any]) -> dict[str, Any]:
    """Return a site's fields as `json.dumps` takes them."""
    place: Location | None = site["location"]
    return {**site, "location": None if place is None else [place.file, place.line, place.function]}


def _site(data: dict[str, Any]) -> Site:
    return build(Site, data)


def _check_sites(sites: list[Site]) -> None:
    places = range(len(sites))
    for index, site in enumerate(sites):
        others = (*site.parameters, *(() if site.owner is None else (site.owner,)))
        if site.index != index or not all(other in places for other in others):
            raise PackingError(f"site {index} is another one, or leads nowhere")


def _facts(data: dict[str, Any]) -> Facts:
    known = {f.name for f in fields(Watching)}  # a later version's may have more
    watching = {name: value for name, value in data["watching"].items() if name in known}
    return build(Facts, {**data, "watching": watching})


def _info(db: sqlite3.Connection) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM info")}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a stored run for one consistent view of it; what is wrong with it becomes a StoreError."""
    if not path.is_file():
        raise StoreError(f"there is no stored run at {path}; `unstuck runs` lists them")
    if (size := bytes_of(path)) > LARGEST_FILE:
        raise StoreError(f"cannot read {path}: it has {size >> 20} MiB, and no run that unstuck stores has that many")
    with ExitStack() as stack:
        try:
            db = stack.enter_context(closing(_open(path, stack)))
            db.execute("BEGIN")
            _check(db, path)
            yield db
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot read {path}: {error}; it is damaged or no stored run; `unstuck runs` lists others"
            ) from None
        except DAMAGE as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot read {path}: it is damaged ({str(error)[:500]})") from None


def _open(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a file to read; a copy of it where SQLite cannot put the small file that it needs beside a live one."""
    with suppress(sqlite3.OperationalError):
        db = _connect(path)
        try:
            db.execute("PRAGMA user_version")
            return db
        except sqlite3.Error:
            db.close()
            raise
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unstuck-")))
    for file in files_of(path):
        if not file.name.endswith("-shm"):
            shutil.copy(file, folder / file.name)
    return _connect(folder / path.name)


def _connect(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        raise StoreError(f"nothing has been recorded in {path}; the run ended before it began to train")
    if application != APPLICATION:
        raise StoreError(f"{path} is not a run that unstuck has stored; `unstuck runs` lists them")
    if version > SCHEMA_VERSION:  # before its tables are looked at, which may be others
        raise StoreError(
            f"{path} was written by a newer unstuck (layout {version}, this one knows {SCHEMA_VERSION}); update unstuck"
        )
    if frozenset(db.execute("SELECT type, name, sql FROM sqlite_master")) != _layout():
        raise StoreError(f"cannot read {path}: its tables are not those of a stored run; it is damaged")


@cache
def _layout() -> frozenset[tuple[str, str, str | None]]:
    """Return what a stored run consists of; a view or a computed column in its place could go on without end."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return frozenset(db.execute("SELECT type, name, sql FROM sqlite_master"))
