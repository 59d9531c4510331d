"""A stored run: one SQLite file, which other processes can read while it grows.

Tables: `info` (key, JSON), `names` (numbers of names), `sites` and `edges`, `steps` (those sampled), `samples` (a
step's numbers as a blob, see `packing.py`; several rows of one step are entered in turn), `losses` (blobs of steps and
values of the objective), `sources` (the text of the files that sites lie in, to show their lines later).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unstuck.trace.packing import PackingError, enter, unpack
from unstuck.trace.sites import Edge, Kind, Location, Site
from unstuck.trace.trace import Facts, Trace
from unstuck.trace.watching import Watching

APPLICATION = 0x756E7374  # SQLite's application id: "unst"
SCHEMA_VERSION = 1
SIDES = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside the one it writes
WAIT_SECONDS = 5.0  # for another process that holds the file

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
        trace.edges = {Edge(p, c, bool(direct)) for p, c, direct in db.execute("SELECT * FROM edges")}
        if not all(0 <= end < len(trace.sites) for edge in trace.edges for end in (edge.producer, edge.consumer)):
            raise PackingError("an edge leads nowhere")
        trace.steps = [step for (step,) in db.execute("SELECT step FROM steps ORDER BY step")]
        names: dict[int, str] = dict(db.execute("SELECT number, name FROM names"))
        for step, data in db.execute("SELECT step, data FROM samples ORDER BY id"):
            enter(trace, step, unpack(data), names)
        for (data,) in db.execute("SELECT data FROM losses ORDER BY id"):
            arrays = unpack(data)
            trace.objective.update(zip(arrays["steps"].tolist(), arrays["values"].tolist(), strict=True))
        info = _info(db)
        if "facts" in info:
            trace.facts = _facts(info["facts"])
        return StoredRun(path, trace, info, dict(db.execute("SELECT file, text FROM sources")))


def read_info(path: Path) -> dict[str, Any]:
    """Read what is said of a stored run as a whole; raises StoreError."""
    with _reading(path) as db:
        return _info(db)


def bytes_of(path: Path) -> int:
    """Return how much room a stored run takes, in bytes, with the files that SQLite keeps beside it."""
    return sum(file.stat().st_size for file in files_of(path))


def files_of(path: Path) -> list[Path]:
    """Return the files of a stored run that exist."""
    return [file for side in ("", *SIDES) if (file := Path(f"{path}{side}")).is_file()]


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
    place = data.pop("location")
    for name in ("interval", "parameters", "shape"):
        data[name] = None if data[name] is None else tuple(data[name])
    return Site(**{**data, "kind": Kind(data["kind"]), "location": None if place is None else Location(*place)})


def _facts(data: dict[str, Any]) -> Facts:
    watching = {f.name: data["watching"][f.name] for f in fields(Watching) if f.name in data["watching"]}
    return Facts(**{**data, "watching": Watching(**watching)})


def _info(db: sqlite3.Connection) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM info")}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a stored run for one consistent view of it; what is wrong with it becomes a StoreError."""
    if not path.is_file():
        raise StoreError(f"there is no stored run at {path}; `unstuck runs` lists them")
    with ExitStack() as stack:
        try:
            db = stack.enter_context(closing(_open(path, stack)))
            db.execute("BEGIN")
            _check(db, path)
            yield db
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot read {path}: {error}; it is damaged or no stored run") from None
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot read {path}: it is damaged ({error})") from None


def _open(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a file to read; a copy of it where SQLite cannot put the small file that it needs beside a live one."""
    with suppress(sqlite3.OperationalError):
        db = _connect(path)
        try:
            db.execute("PRAGMA user_version")
            return db
        except sqlite3.OperationalError:
            db.close()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unstuck-")))
    for file in files_of(path):
        if not file.name.endswith("-shm"):
            shutil.copy(file, folder / file.name)
    return _connect(folder / path.name)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS, isolation_level=None)


def _check(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        raise StoreError(f"nothing has been recorded in {path}; the run ended before it began to train")
    if application != APPLICATION:
        raise StoreError(f"{path} is not a run that unstuck has stored; `unstuck runs` lists them")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer unstuck (layout {version}, this one knows {SCHEMA_VERSION}); update unstuck"
        )
