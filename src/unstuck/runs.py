"""The report of a stored run."""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from unstuck.api import make_report
from unstuck.config import Config
from unstuck.fixes.fix import Fix
from unstuck.proposals import source_patches
from unstuck.report import Report, RunInfo
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.trace import Stretch
from unstuck.trace.folder import FILE, FOLDER, LATEST, Listed, find, listed, new_path, remove, state, state_of
from unstuck.trace.store import DAMAGE, StoredRun, StoreError, read
from unstuck.trace.typed import build, typed

__all__ = [
    "FILE",
    "FOLDER",
    "LATEST",
    "Listed",
    "find",
    "listed",
    "new_path",
    "read_report",
    "remove",
    "state",
    "state_of",
]


def read_report(path: Path, config: Config | None = None, **changes: Any) -> tuple[Report, StoredRun]:
    """Read a stored run back and judge it, as it was configured or otherwise; raises StoreError, UnknownRuleError.

    `changes` replace settings of the stored configuration. Source lines are shown as they were when it ran.
    """
    stored = read(path)
    try:
        return _report(stored, config, changes), stored
    except UnknownRuleError:
        raise
    except DAMAGE as error:
        raise StoreError(
            f"cannot read {path}: what it says of the run is damaged ({str(error)[:500]}); `unstuck runs` lists others"
        ) from None


def _report(stored: StoredRun, config: Config | None, changes: Mapping[str, Any]) -> Report:
    info, trace = stored.info, stored.trace
    if config is None:
        known = {f.name for f in fields(Config)}
        settings = {key: value for key, value in info.get("config", {}).items() if key in known}
        config = build(Config, settings)
    config = replace(config, **changes)
    fixes = typed(tuple[Fix, ...], info.get("fixes", []))
    withheld = typed(tuple[str, ...], info.get("withheld", []))
    _show_stored_lines(stored, fixes)
    run = build(RunInfo, info.get("run", {}))
    how_far = state_of(stored.path, info)
    unfinished = "" if how_far == "ended" else how_far
    run = replace(run, unfinished=unfinished)
    stretches = typed(tuple[Stretch, ...], info.get("stretches", []))
    report = make_report(trace, config, run, fixes, withheld, stretches=stretches)
    return replace(report, source_patches=partial(source_patches, sources=stored.sources))


def _show_stored_lines(stored: StoredRun, fixes: Sequence[Fix]) -> None:
    """Have the lines of files shown as the run holds them, and of others none: a run may be a stranger's, and name any
    file of this machine.
    """
    named = [site.location for site in stored.trace.sites] + [fix.location for fix in fixes]
    for file in {place.file for place in named if place is not None}:
        text = stored.sources.get(file, "")
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
