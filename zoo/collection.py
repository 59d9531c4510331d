"""Which programs the zoo has, what is expected of each, and which half and part of the collection each belongs to."""

import hashlib
import importlib.util
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ZOO = Path(__file__).resolve().parent
EXTRA = "transformers"  # what the programs of healthy/architectures import; an optional package


class Program(NamedTuple):
    """A program, and what must be found in it: nothing in a working one."""

    path: Path
    name: str
    root: str | None = None
    codes: frozenset[str] = frozenset()
    line: int | None = None
    metric: str = "final_loss"
    processes: int = 1

    @property
    def key(self) -> str:
        """Its path from the folder that holds the zoo, the same on every machine."""
        path = self.path
        return (path.relative_to(ZOO.parent) if path.is_relative_to(ZOO.parent) else path).as_posix()


def programs(*, all_there_are: bool = False) -> tuple[list[Program], list[Program]]:
    """Return the faulty programs and the working ones, in order; by default those that can be run here."""
    faulty, working = [], []
    for file in sorted((ZOO / "faulty").glob("*/expect.toml")):
        expect = tomllib.loads(file.read_text(encoding="utf-8"))
        folder, metric = file.parent, expect["metric"]
        codes = frozenset(expect["codes"])
        ranks = expect.get("processes", 1)
        faulty.append(Program(folder / "faulty.py", folder.name, expect["root"], codes, expect["line"], metric, ranks))
        working.append(Program(folder / "fixed.py", folder.name, metric=metric, processes=ranks))
    healthy = sorted(path for path in (ZOO / "healthy").glob("*.py") if path.stem != "__init__")
    if all_there_are or has_extra():
        healthy += sorted((ZOO / "healthy" / "architectures").glob("*.py"))
    return faulty, [*working, *(Program(path, path.stem) for path in healthy)]


def has_extra() -> bool:
    """Tell whether the programs that need the optional package can be run."""
    return importlib.util.find_spec(EXTRA) is not None


def frozen() -> set[str]:
    """Return the names of the programs that no threshold may be set by."""
    file = ZOO / "frozen.txt"
    return set(file.read_text(encoding="utf-8").split()) if file.exists() else set()


def in_part(name: str, part: int, parts: int) -> bool:
    """Tell whether a program belongs to the `part`-th of `parts`: by its name alone, whatever others there are."""
    number = int.from_bytes(hashlib.sha1(name.encode()).digest()[:8])
    return number % parts == part - 1


def chosen(
    group: Iterable[Program], *, part: tuple[int, int] = (1, 1), half: str = "all", names: Iterable[str] = ()
) -> list[Program]:
    """Return the programs of a part, a half ("tuned", "frozen", "all") and, where any are given, these names."""
    kept, named = frozen(), set(names)
    return [
        program
        for program in group
        if in_part(program.name, *part)
        and (half == "all" or (program.name in kept) is (half == "frozen"))
        and (not named or program.name in named)
    ]
