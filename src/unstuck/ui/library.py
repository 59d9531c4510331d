"""The runs that are served: those of one folder, found by their names in its list and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unstuck.trace.folder import Listed, by_age, candidates, describe, name_of
from unstuck.trace.store import files_of, is_run


class Library:
    """The runs of a folder, and one more that the user has named; files elsewhere are neither opened nor shown."""

    def __init__(self, folder: Path, named: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.named = None if named is None else named.resolve()

    def paths(self) -> dict[str, Path]:
        """Return the files of all runs by the names that addresses have for them."""
        found: dict[str, Path] = {}
        for path in sorted(self._candidates(), key=str):
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
        names = {path: name for name, path in self.paths().items()}
        runs = [describe(path) for path in names]
        runs += [
            replace(Listed(path), trouble=f"lies outside of {self.folder}; to see it: unstuck ui {path.resolve()}")
            for path in self._candidates()
            if path.is_symlink() and path.is_file() and not self._may_be_read(path)
        ]
        return [(names.get(run.path, ""), run) for run in reversed(by_age(runs))]

    def _candidates(self) -> list[Path]:
        named = [self.named] if self.named is not None and self.named.is_file() else []
        return [*(path for path in candidates(self.folder) if path.resolve() not in named), *named]

    def _may_be_read(self, path: Path) -> bool:
        """Tell whether a file, with what SQLite keeps beside it, is an ordinary one within the folder."""
        files = [path, *files_of(path.resolve())]
        return all(file.is_file() and self._is_within(file.resolve()) for file in files)

    def _is_within(self, file: Path) -> bool:
        named = self.named is not None and str(file).startswith(str(self.named)) and file.parent == self.named.parent
        return named or file.is_relative_to(self.folder)

    def _add(self, found: dict[str, Path], path: Path) -> None:
        name = name_of(path)
        if name in found:
            name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)
        found[name] = path
