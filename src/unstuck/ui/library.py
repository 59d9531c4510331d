"""The runs that are served: those of one folder, found by their names in its list and by nothing else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from unstuck.trace.folder import Listed, by_age, candidates, describe, name_of
from unstuck.trace.store import files_of, is_run

Version = tuple[tuple[int, int, int], ...]
"""Of the files of a run: inode, bytes, time of the last change in nanoseconds."""


class Library:
    """The runs of a folder, and one more that the user has named; files elsewhere are neither opened nor shown."""

    def __init__(self, folder: Path, named: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.named = None if named is None else named.resolve()
        self._known: dict[Path, tuple[Version, Listed]] = {}

    def paths(self) -> dict[str, Path]:
        """Return the files of all runs by the names that addresses have for them."""
        return self._named_paths(self._candidates())

    def _named_paths(self, paths: list[Path]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in sorted(paths, key=str):
            if self._may_be_read(path) and is_run(path):
                self._add(found, path)
        return found

    def path(self, name: str) -> Path | None:
        """Return the file of a run, or None when there is none of this name."""
        return self.paths().get(name)

    def name(self, path: Path) -> str | None:
        """Return the name that addresses have for a run's file."""
        return next((name for name, known in self.paths().items() if known.resolve() == path.resolve()), None)

    def listed(self) -> list[tuple[str, Listed]]:
        """Return name and description of all runs, the latest first; without a name those that are not served."""
        found = self._candidates()
        names = {path: name for name, path in self._named_paths(found).items()}
        runs = [self._describe(path) for path in names]
        self._known = {path: known for path, known in list(self._known.items()) if path in names}
        runs += [
            replace(Listed(path), trouble=f"lies outside of {self.folder}; to see it: unstuck ui {path.resolve()}")
            for path in found
            if path.is_symlink() and path.is_file() and not self._may_be_read(path)
        ]
        return [(names.get(run.path, ""), run) for run in reversed(by_age(runs))]

    def _describe(self, path: Path) -> Listed:
        """Return what a list says of a run, read again when its files have changed, or its process may have gone."""
        version = _version(path)
        known = self._known.get(path)
        if known is None or known[0] != version or known[1].running:
            known = self._known[path] = version, describe(path)
        return known[1]

    def _candidates(self) -> list[Path]:
        named = [self.named] if self.named is not None and self.named.is_file() else []
        return [*(path for path in candidates(self.folder) if not named or path.resolve() not in named), *named]

    def _may_be_read(self, path: Path) -> bool:
        """Tell whether a file, with what SQLite keeps beside it, is an ordinary one within the folder."""
        real = path.resolve()
        files = files_of(real)
        return files[:1] == [real] and all(self._is_within(real if file == real else file.resolve()) for file in files)

    def _is_within(self, file: Path) -> bool:
        named = self.named is not None and str(file).startswith(str(self.named)) and file.parent == self.named.parent
        return named or file.is_relative_to(self.folder)

    def _add(self, found: dict[str, Path], path: Path) -> None:
        name = name_of(path)
        if name in found:
            name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)
        found[name] = path


def _version(path: Path) -> Version:
    found = []
    for file in files_of(path.resolve() if path.is_symlink() else path):
        with suppress(OSError):  # gone since
            if not file.name.endswith("-shm"):  # which readers touch too
                status = file.stat()
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
