"""Where stored runs lie: `.unstuck/runs` of a folder, and folders of their own. Which there are; removing old ones."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from unstuck.trace.ending import ending
from unstuck.trace.processes import lives
from unstuck.trace.store import DAMAGE, StoreError, bytes_of, files_of, is_run, read_info

FOLDER = PurePath(".unstuck", "runs")
FILE = "run.sqlite"  # of a run in a folder of its own
LATEST = "latest"
ELSEWHERE_SECONDS = 24 * 3600.0  # without a change, after which a run whose process is not known is broken off
BEGINNING_SECONDS = 60.0  # in which a file may say nothing of its run yet


@dataclass(frozen=True)
class Listed:
    """One stored run in a list: `begun` is local time, `size` in bytes; `trouble` says why it cannot be read.

    `ending` says how it ended otherwise than well, or that it broke off; the `verdict` says so too.
    """

    path: Path
    script: str = ""
    begun: datetime | None = None
    steps: int = 0
    size: int = 0
    verdict: str = ""
    running: bool = False
    ending: str = ""
    trouble: str = ""

    @property
    def name(self) -> str:
        """What `unstuck report` finds it by, in the folder that was listed."""
        return name_of(self.path)


def name_of(path: Path) -> str:
    """Return the name of the run in a file: that of its folder, where it has one of its own."""
    return path.parent.name if path.name == FILE else path.stem


def new_path(title: str, folder: Path | None = None) -> Path:
    """Return a new, empty file for a run that begins now, below `folder` (default: the current one); raises OSError.

    The folder for runs is made, and kept out of version control.
    """
    runs = (folder or Path.cwd()) / FOLDER
    runs.mkdir(parents=True, exist_ok=True)
    keep_private(runs.parent)
    script = re.sub(r"[^\w.-]+", "_", PurePath(title).stem)[:60] or "run"
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{script}"
    for count in range(1, 1_000):
        path = runs / (f"{stem}.sqlite" if count == 1 else f"{stem}-{count}.sqlite")
        with suppress(FileExistsError):
            path.touch(exist_ok=False)  # taken: two runs may begin in the same second
            return path
    raise FileExistsError(17, "too many runs began in this second", str(runs))


def keep_private(folder: Path) -> None:
    """Keep all that is in a folder of ours out of version control; raises OSError."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def link(run: Path, title: str, folder: Path | None = None) -> None:
    """Have a run that is stored elsewhere listed below `folder`, as long as it is there; raises OSError."""
    for path in _files((folder or Path.cwd()) / FOLDER):
        if path.is_symlink() and path.resolve() == run.resolve():
            path.unlink(missing_ok=True)  # it named an earlier run in that place
    path = new_path(title, folder)
    path.unlink()
    path.symlink_to(run.resolve())


def forget(run: Path) -> None:
    """Take away the folders that were made for a run that left no file, where nothing else is in them."""
    runs = run.parent
    if runs.parts[-2:] != FOLDER.parts:
        return
    with suppress(OSError):
        runs.rmdir()
        if [file.name for file in runs.parent.iterdir()] == [".gitignore"]:
            (runs.parent / ".gitignore").unlink()
            runs.parent.rmdir()


def find(name: str, folder: Path | None = None) -> Path:
    """Return the file of a run: a path to it, "latest", (the beginning of) a name that is listed, or its folder.

    Raises StoreError when there is none or more than one.
    """
    for path in (Path(name), Path(name) / FILE):
        if path.is_file():
            return path.resolve()
    folder = folder or Path.cwd()
    known = listed(folder)
    if name == LATEST:
        if not known:
            raise StoreError(f"no run is stored in {folder}; watch one: unstuck run train.py")
        return known[-1].path.resolve()
    found = [run for run in known if run.name == name] or [run for run in known if run.name.startswith(name)]
    if len(found) == 1:
        return found[0].path.resolve()
    if found:
        raise StoreError(f"{len(found)} runs begin with {name!r}: {', '.join(run.name for run in found[:5])}")
    if Path(name).is_dir():
        return _only_run(Path(name))
    raise StoreError(f"there is no stored run {name!r} in {folder}; `unstuck runs` lists them")


def _only_run(folder: Path) -> Path:
    """Return the file of the run that is stored in a folder; raises StoreError when there is none or more than one."""
    found = listed(folder)
    if len(found) == 1:
        return found[0].path.resolve()
    if found:
        raise StoreError(f"{folder} has {len(found)} runs; name one, for example the latest: {found[-1].path}")
    raise StoreError(f"no run is stored in {folder}; name a folder that has one, or a run that `unstuck runs` lists")


def listed(folder: Path) -> list[Listed]:
    """Return the runs in a folder, in its `.unstuck/runs` and in the folders that `--save` has made in it, by age."""
    return by_age(describe(path) for path in candidates(folder) if is_run(path))


def candidates(folder: Path) -> list[Path]:
    """Return the files that may be the runs of a folder, by their names alone; no file twice."""
    places = {path.resolve(): path for place in (folder, folder / FOLDER, folder / "runs") for path in _files(place)}
    for pattern in (f"*/{FILE}", f"{FOLDER.parts[0]}/*/*/{FILE}"):  # made by --save, and by the demo
        places |= {path.resolve(): path for path in folder.glob(pattern)}
    return list(places.values())


def by_age(runs: Iterable[Listed]) -> list[Listed]:
    """Return runs in the order in which they began."""
    return sorted(runs, key=lambda run: (run.begun.timestamp() if run.begun else 0.0, run.path.stem))


def remove(run: Listed) -> None:
    """Delete a stored run, or what lists one that is stored elsewhere; raises OSError."""
    for file in reversed(files_of(run.path)):
        file.unlink(missing_ok=True)


def prune(folder: Path, *, runs: int, nbytes: int) -> None:
    """Make room for one more run below `folder`, so that there are at most `runs`, with `nbytes` bytes without it.

    The oldest go first, never one that is running; what cannot be deleted stays.
    """
    files = list(_files(folder / FOLDER))
    for path in files:
        if path.is_symlink() and not path.exists():
            with suppress(OSError):
                path.unlink()
    if len(files) < runs and sum(map(_own_bytes, files)) <= nbytes:
        return
    known = by_age(describe(path) for path in files if is_run(path))
    count, size = len(known), sum(_own_bytes(run.path) for run in known)
    for run in known:
        if count < runs and size <= nbytes:
            return
        if run.running:
            continue
        with suppress(OSError):
            own = _own_bytes(run.path)
            remove(run)
            count, size = count - 1, size - own


def state(info: Mapping[str, Any], changed: float | None = None) -> str:
    """Return how far a run is: "ended", "running", or "broken off" when its process was killed or could not write.

    Of a process on another machine, and where nothing tells whether one is still the same, the file decides: when it
    was last `changed` (seconds since 1970; None is long ago for another machine, and lately for this one).
    """
    if "ended" in info:
        return "ended"
    if "process" not in info:
        begins = changed is not None and time.time() - changed < BEGINNING_SECONDS
        return "running" if begins else "broken off"
    here = info.get("host", platform.node()) == platform.node()
    known = lives(info["process"], info.get("process_born", "")) if here else None
    recent = here if changed is None else time.time() - changed < ELSEWHERE_SECONDS
    return "running" if (recent if known is None else known) else "broken off"


def state_of(path: Path, info: Mapping[str, Any]) -> str:
    """Return how far the run in a file is."""
    return state(info, _changed(path))


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.sqlite")


def _own_bytes(path: Path) -> int:
    return 0 if path.is_symlink() else bytes_of(path)


def _changed(path: Path) -> float:
    try:
        return max(file.stat().st_mtime for file in files_of(path.resolve()))
    except (OSError, ValueError):
        return 0.0


def describe(path: Path) -> Listed:
    """Return what a list says of the run in a file, also where it cannot be read."""
    file = path.resolve()
    size = bytes_of(file)
    try:
        info = read_info(file)
        run = info.get("run", {})
        verdict = info.get("verdict")
        how_far = state_of(file, info)
        end = how_far if how_far == "broken off" else ""
        text = how_far
        if verdict is not None:
            end = ending(run.get("exit_code"), run.get("exception", ""), run.get("signal", ""))
            text = ", ".join(verdict["causes"]) or ("no fault found" if verdict["ok"] else "did not train")
            text += f"; {end}" if end else ""
        begun = datetime.fromisoformat(run["started"]).astimezone() if run.get("started") else None
        if begun is not None and "begun" in info:  # to the microsecond: several may begin in one second
            begun = datetime.fromtimestamp(info["begun"]).astimezone()
        return Listed(path, run.get("title", ""), begun, run.get("steps", 0), size, text, how_far == "running", end)
    except StoreError as error:
        return Listed(path, size=size, trouble=str(error))
    except (*DAMAGE, OSError):  # of the last, times that no clock shows
        return Listed(path, size=size, trouble=f"cannot read {path}: it is damaged")
