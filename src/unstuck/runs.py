"""Stored runs: where they are kept, which there are, and the report of one."""

from __future__ import annotations

import linecache
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from unstuck.api import make_report
from unstuck.config import Config
from unstuck.fixes.fix import Applicability, Fix, Proof
from unstuck.report import Report, RunInfo
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.trace import Location
from unstuck.trace.store import StoredRun, StoreError, bytes_of, files_of, is_run, read, read_info

FOLDER = PurePath(".unstuck", "runs")
FILE = "run.sqlite"  # of a run in a folder of its own
LATEST = "latest"


@dataclass(frozen=True)
class Listed:
    """One stored run in a list: `begun` is local time, `size` in bytes; `trouble` says why it cannot be read."""

    path: Path
    script: str = ""
    begun: datetime | None = None
    steps: int = 0
    size: int = 0
    verdict: str = ""
    running: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        """What `unstuck report` finds it by, in the folder that was listed."""
        return self.path.parent.name if self.path.name == FILE else self.path.stem


def new_path(title: str, folder: Path | None = None) -> Path:
    """Return a file for a run that begins now, below `folder` (default: the current one); raises OSError.

    The folder for runs is made, and kept out of version control.
    """
    runs = (folder or Path.cwd()) / FOLDER
    runs.mkdir(parents=True, exist_ok=True)
    ignore = runs.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    script = re.sub(r"[^\w.-]+", "_", PurePath(title).stem)[:60] or "run"
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{script}"
    for count in range(1, 1_000):
        path = runs / (f"{stem}.sqlite" if count == 1 else f"{stem}-{count}.sqlite")
        with suppress(FileExistsError):
            path.touch(exist_ok=False)  # taken: two runs may begin in the same second
            return path
    raise FileExistsError(17, "too many runs began in this second", str(runs))


def find(name: str, folder: Path | None = None) -> Path:
    """Return the file of a run: a path to it or its folder, "latest", or (the beginning of) a name that is listed.

    Raises StoreError when there is none or more than one.
    """
    for path in (Path(name), Path(name) / FILE):
        if path.is_file():
            return path
    known = sorted(_files((folder or Path.cwd()) / FOLDER), key=_changed)
    if name == LATEST:
        if not known:
            raise StoreError(f"no run is stored below {FOLDER}; record one: unstuck run --record train.py")
        return known[-1]
    found = [path for path in known if path.stem == name] or [path for path in known if path.stem.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"{len(found)} runs begin with {name!r}: {', '.join(path.stem for path in found[:5])}")
    raise StoreError(f"there is no stored run {name!r}; `unstuck runs` lists them")


def listed(folder: Path) -> list[Listed]:
    """Return the runs in a folder, in its `.unstuck/runs` and in the folders that `--save` has made in it, by age."""
    places = {path.resolve(): path for place in (folder, folder / FOLDER, folder / "runs") for path in _files(place)}
    places |= {path.resolve(): path for path in folder.glob(f"*/{FILE}")}
    runs = [_listed(path) for path in places.values() if is_run(path)]
    return sorted(runs, key=lambda run: (run.begun.timestamp() if run.begun else 0.0, run.path))


def remove(run: Listed) -> None:
    """Delete a stored run; raises OSError."""
    for file in reversed(files_of(run.path)):
        file.unlink(missing_ok=True)


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


def state(info: Mapping[str, Any]) -> str:
    """Return how far a run is: "ended", "running", or "broken off" when its process is gone without a word."""
    if "ended" in info:
        return "ended"
    return "running" if _lives(info.get("process")) else "broken off"


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
    run = RunInfo(**{**run, "command": tuple(run.get("command", ()))})
    since, restarted = info.get("judged", (0, False))
    judged = trace.since(since, as_start=restarted) if since else None
    fixes = [_fix(fix) for fix in info.get("fixes", ())]
    return make_report(trace, config, run, fixes, info.get("withheld", ()), judged=judged)


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


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.sqlite")


def _changed(path: Path) -> float:
    try:
        return max(file.stat().st_mtime for file in files_of(path))
    except (OSError, ValueError):
        return 0.0


def _listed(path: Path) -> Listed:
    try:
        info = read_info(path)
        run = info.get("run", {})
        verdict = info.get("verdict")
        how_far = state(info)
        text = how_far
        if verdict is not None:
            text = ", ".join(verdict["causes"]) or ("no fault found" if verdict["ok"] else "did not train")
        begun = datetime.fromisoformat(run["started"]).astimezone() if run.get("started") else None
        return Listed(
            path, run.get("title", ""), begun, run.get("steps", 0), bytes_of(path), text, how_far == "running"
        )
    except StoreError as error:
        return Listed(path, size=bytes_of(path), trouble=str(error))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Listed(path, size=bytes_of(path), trouble=f"cannot read {path}: it is damaged")


def _lives(process: object) -> bool:
    """Tell whether a process of this number exists on this machine."""
    if not isinstance(process, int) or os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
