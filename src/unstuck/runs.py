"""The report of a stored run."""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unstuck.api import make_report
from unstuck.config import Config
from unstuck.fixes.fix import Applicability, Fix, Proof
from unstuck.report import Report, RunInfo
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.trace import Location, Stretch
from unstuck.trace.folder import FILE, FOLDER, LATEST, Listed, find, listed, new_path, remove, state, state_of
from unstuck.trace.store import StoredRun, StoreError, read

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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"cannot read {path}: what it says of the run is damaged ({error})") from None


def _report(stored: StoredRun, config: Config | None, changes: Mapping[str, Any]) -> Report:
    info, trace = stored.info, stored.trace
    if config is None:
        known = {f.name for f in fields(Config)}
        settings = {key: value for key, value in info.get("config", {}).items() if key in known}
        for name in ("select", "ignore", "extend_select"):
            settings[name] = tuple(settings.get(name, ()))
        settings["per_site_ignores"] = {k: tuple(v) for k, v in settings.get("per_site_ignores", {}).items()}
        config = Config(**settings)
    config = replace(config, **changes)
    for file, text in stored.sources.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    run = info.get("run", {})
    how_far = state_of(stored.path, info)
    unfinished = "" if how_far == "ended" else how_far
    run = RunInfo(**{**run, "command": tuple(run.get("command", ())), "unfinished": unfinished})
    stretches = [Stretch(**{**one, "settled": tuple(one["settled"])}) for one in info.get("stretches", ())]
    fixes = [_fix(fix) for fix in info.get("fixes", ())]
    return make_report(trace, config, run, fixes, info.get("withheld", ()), stretches=stretches)


def _fix(data: Mapping[str, Any]) -> Fix:
    place, proof = data["location"], data["proof"]
    return Fix(
        **{
            **data,
            "applicability": Applicability(data["applicability"]),
            "location": None if place is None else Location(**place),
            "proof": None if proof is None else Proof(**proof),
        }
    )
