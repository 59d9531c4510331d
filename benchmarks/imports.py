"""What `import unstuck` costs beyond `import torch`: `python -m benchmarks.imports [--rounds 9]`.

Prints one markdown row: the median over the rounds of both times and of their difference, each import in a process of
its own, in turns (A B A B …); then the eight modules that take the longest of what unstuck adds, by the time of their
own code (`python -X importtime`: https://docs.python.org/3/using/cmdline.html#cmdoption-X).
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from typing import NamedTuple

SHOWN = 8
_TIMED = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)")


class Imported(NamedTuple):
    """A module that was imported: its name, and microseconds of its own code and with all that it imports."""

    name: str
    own: int
    cumulative: int


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def seconds(modules: str) -> float:
    """Wall time of `import MODULES` in a new process, the interpreter's start not counted."""
    return float(_python("-c", _TIMED.format(modules)).stdout)


def added(importtime: str) -> list[Imported]:
    """The modules that stand after torch in what -X importtime prints, where a module follows what it imports."""
    found: list[Imported] = []
    for own, cumulative, indent, name in _LINE.findall(importtime):
        if name == "torch" and indent == " ":
            found = []
        else:
            found.append(Imported(name, int(own), int(cumulative)))
    return found


def main() -> None:
    """Print the row and the modules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for modules in ("torch", "torch, unstuck"):  # in no number: the files come from the disk, bytecode is written
        seconds(modules)
    measured = [(seconds("torch"), seconds("torch, unstuck")) for _ in range(rounds)]
    alone, both = (statistics.median(column) for column in zip(*measured, strict=True))
    differences = [b - a for a, b in measured]
    print("| import torch, s | import torch, unstuck, s | added, s (least … most) |\n|---:|---:|---:|")
    spread = f"{statistics.median(differences):.3f} ({min(differences):.3f} … {max(differences):.3f})"
    print(f"| {alone:.3f} | {both:.3f} | {spread} |\n")
    modules = added(_python("-X", "importtime", "-c", "import torch; import unstuck").stderr)
    print(f"{len(modules)} modules are added; those with the slowest code of their own (timed while all are traced):\n")
    print("| module | own, ms | with its imports, ms |\n|---|---:|---:|")
    for module in sorted(modules, key=lambda m: m.own, reverse=True)[:SHOWN]:
        print(f"| {module.name} | {module.own / 1e3:.1f} | {module.cumulative / 1e3:.1f} |")


if __name__ == "__main__":
    main()
