"""Writes a run to its file, one transaction a sampled step, and keeps the file small."""

from __future__ import annotations

import errno
import json
import linecache
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.trace.journal import Journal
from unstuck.trace.packing import StepNumbers, by_step, pack, to_arrays, unit_cap, unpack
from unstuck.trace.sites import Edge
from unstuck.trace.store import SCHEMA, WAIT_SECONDS, StoreError, files_of, is_run, site_as_dict
from unstuck.trace.trace import KEEP_FROM_START, Facts, LossCall

MAX_FILE_BYTES = 64 << 20  # of a stored run, with what SQLite keeps beside it
FILL_BYTES = 36 << 20  # of the file, from which on samples are thinned: room is left for a log and one large step
UNIT_BYTES = 1 << 20  # of a step's numbers by unit; rows with the most units lose theirs in the file beyond it
LARGEST_STEP_BYTES = 12 << 20
LOG_BYTES = 4 << 20  # to which SQLite's write-ahead log is cut back
SOURCE_BYTES = 2 << 20  # of the source files of one run
LOSS_ROWS = 512


@dataclass(frozen=True)
class Part:
    """What a run adds to its file: the journal since the last part, and what else is new.

    `sites` are the fields of all sites, `edges` all edges where there are more of them, `losses` (step, value) of the
    objective, all that are kept where `journal.losses_thinned`; `info` is plain data about the run.
    """

    journal: Journal
    sites: list[dict[str, Any]]
    edges: frozenset[Edge] | None
    losses: list[tuple[int, float]]
    loss_calls: list[LossCall]
    facts: Facts
    info: Mapping[str, Any]


class StoreWriter:
    """Writes parts to a new file; used from one thread at a time. Raises OSError, sqlite3.Error and StoreError."""

    def __init__(self, path: Path) -> None:
        """Make the file, in place of an earlier run's."""
        if path.exists() and path.stat().st_size and not is_run(path):
            raise StoreError(f"{path} is not a run that unstuck has stored, and is left alone; name another folder")
        for file in files_of(path):
            file.unlink()
        self.path = path
        self._db = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._set_up()
        except sqlite3.Error:
            self.abandon()
            raise
        self._file = os.stat(path).st_ino
        self._names: dict[str, int] = {}
        self._sites: list[dict[str, Any]] = []
        self._edges: frozenset[Edge] = frozenset()
        self._info: dict[str, str] = {}
        self._sources: set[str] = set()
        self._source_bytes = 0
        self._unit_cap: int | None = None

    def _set_up(self) -> None:
        self._db.execute("PRAGMA secure_delete = OFF").fetchall()  # else dropped samples would be written once more
        self._db.executescript(SCHEMA)  # before there is a log, so that the file itself says what it is
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", f"journal_size_limit = {LOG_BYTES}"):
            self._db.execute(f"PRAGMA {setting}").fetchall()
        self._page_bytes = int(self._number("PRAGMA page_size"))

    def append(self, part: Part) -> None:
        """Add a part, whole or not at all."""
        if not self._is_there():
            raise OSError(errno.ENOENT, "the file is gone")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._write(part)
            if self._filled() > FILL_BYTES:
                self._thin()
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """End the writing; a file that nobody else reads is then one file by itself."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.execute("PRAGMA journal_mode = DELETE").fetchall()
        with suppress(sqlite3.Error):
            self._db.close()

    def abandon(self) -> None:
        """End the writing as it is: something is wrong with the file or its folder."""
        with suppress(sqlite3.Error):
            self._db.close()

    def _is_there(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._file
        except OSError:
            return False

    def _number(self, query: str) -> Any:
        return self._db.execute(query).fetchone()[0]

    def _filled(self) -> int:
        pages = int(self._number("PRAGMA page_count")) - int(self._number("PRAGMA freelist_count"))
        return pages * self._page_bytes

    # -- the parts of a part -----------------------------------------------------------------------------------------

    def _write(self, part: Part) -> None:
        self._write_sites(part)
        journal = part.journal
        for step, numbers in by_step(journal, part.loss_calls).items():
            self._write_step(step, numbers)
        self._drop(journal.dropped)
        new = [(step,) for step in journal.steps if step not in journal.dropped]
        self._db.executemany("INSERT OR IGNORE INTO steps VALUES (?)", new)
        if journal.losses_thinned:
            self._db.execute("DELETE FROM losses")
        if part.losses:
            steps, values = zip(*part.losses, strict=True)
            blob = pack({"steps": np.array(steps, dtype=np.int64), "values": np.array(values, dtype=np.float64)})
            self._db.execute("INSERT INTO losses (data) VALUES (?)", (blob,))
            self._join_losses()
        self._write_info({**part.info, "facts": part.facts})

    def _join_losses(self) -> None:
        """Make one row of all losses once there are many: those of slow steps come one by one."""
        if self._number("SELECT count(*) FROM losses") < LOSS_ROWS:
            return
        rows = [unpack(data) for (data,) in self._db.execute("SELECT data FROM losses ORDER BY id")]
        blob = pack({name: np.concatenate([row[name] for row in rows]) for name in ("steps", "values")})
        self._db.execute("DELETE FROM losses")
        self._db.execute("INSERT INTO losses (data) VALUES (?)", (blob,))

    def _write_step(self, step: int, numbers: StepNumbers) -> None:
        if self._unit_cap is None and numbers.tables:
            self._unit_cap = unit_cap(numbers, UNIT_BYTES)
        cap = self._unit_cap if self._unit_cap is not None else 0
        blob = pack(to_arrays(numbers, self._number_of, cap))
        if len(blob) > LARGEST_STEP_BYTES:
            megabytes = len(blob) / (1 << 20)
            raise StoreError(f"one sample of this network takes {megabytes:.0f} MB, too much for a file of 64 MB")
        self._db.execute("INSERT INTO samples (step, data) VALUES (?, ?)", (step, blob))

    def _number_of(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names)
            self._db.execute("INSERT INTO names VALUES (?, ?)", (number, name))
        return number

    def _write_sites(self, part: Part) -> None:
        for number, site in enumerate(part.sites):
            if number < len(self._sites) and self._sites[number] == site:
                continue
            data = json.dumps(site_as_dict(site))
            self._db.execute("INSERT OR REPLACE INTO sites VALUES (?, ?)", (number, data))
            if site["location"] is not None:
                self._write_source(site["location"].file)
        self._sites = part.sites
        if part.edges is not None:
            rows = [(edge.producer, edge.consumer, edge.direct) for edge in part.edges - self._edges]
            self._db.executemany("INSERT OR IGNORE INTO edges VALUES (?, ?, ?)", rows)
            self._edges = part.edges

    def _write_source(self, file: str) -> None:
        if file in self._sources:
            return
        self._sources.add(file)
        text = "".join(linecache.getlines(file)).encode("utf-8", "replace")
        if text and self._source_bytes + len(text) <= SOURCE_BYTES:
            self._source_bytes += len(text)
            values = file.encode("utf-8", "replace").decode(), text.decode()
            self._db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", values)

    def _write_info(self, info: Mapping[str, Any]) -> None:
        for key, value in info.items():
            text = json.dumps(value, default=_plain)
            if self._info.get(key) != text:
                self._info[key] = text
                self._db.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, text))

    # -- thinning ----------------------------------------------------------------------------------------------------

    def _drop(self, steps: set[int]) -> None:
        rows = [(step,) for step in steps]
        self._db.executemany("DELETE FROM samples WHERE step = ?", rows)
        self._db.executemany("DELETE FROM steps WHERE step = ?", rows)

    def _thin(self) -> None:
        """Drop every other sampled step after the first eleven, then among these, until enough room is left."""
        while self._filled() > FILL_BYTES:
            steps = [step for (step,) in self._db.execute("SELECT step FROM steps ORDER BY step")]
            later = steps[KEEP_FROM_START:-1]
            dropped = set(later[::2] if later else steps[1:-1:2])
            if not dropped:
                return
            self._drop(dropped)


def _plain(value: object) -> Any:
    """Return what JSON knows in place of what it does not."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"cannot store {type(value).__name__}")
