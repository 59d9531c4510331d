"""Run docs/lesson.md: its Python blocks in order in one namespace, its commands, its pictures, the ladder's table.

    python -m tools.lesson [--check]

A `text` block holds what the `python` block before it prints. A `console` block holds a command after `$` and some of
the lines that it prints, `…` standing for others. Every number in the prose must be shown by a block of its section, up
to rounding. Where docs/ladder.json is (`unstuck lm ladder --output-format json`), its tables stand in the page and
in the README.

Without `--check` outputs, numbers in console blocks, pictures and tables are written anew where they differ. With it
nothing is written; what differs is named, and the exit code is 1. Between processors the last digits differ: a number
with a decimal point or a % sign may be off by a thousandth of itself or by one in its last place; all else is exact.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import torch

from tools import lesson_ladder
from zoo import forked

ROOT = Path(__file__).resolve().parents[1]
PAGE, README, LADDER, PICTURES = "docs/lesson.md", "README.md", "docs/ladder.json", "docs/images"
RELATIVE = 1e-3
PIXELS = 1.0  # by which a number in a picture may be off
TIME_LIMIT = 120.0  # seconds, for a command
MASKED = "0"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
PROSE_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
NO_PROSE = re.compile(r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|^#+ .*|^\|.*|^\d+\. |[Ss]ection \d+", re.MULTILINE)
UNCHECKED = ("0", "1", "2")  # too common to tell anything


class LessonError(ValueError):
    """The page cannot be run: which line, and why."""


@dataclass(eq=False)
class Part:
    """Lines of the page that belong together: a fenced block without its fences, or what stands between two."""

    line: int  # of its first line in the page, from 1
    kind: str  # the word after ```, or "prose"
    lines: list[str]
    page: str = PAGE

    def written(self) -> list[str]:
        """The lines as they stand in the page."""
        return self.lines if self.kind == "prose" else [f"```{self.kind}", *self.lines, "```"]

    @property
    def blank(self) -> bool:
        """Whether there is nothing in it."""
        return not any(map(str.strip, self.lines))


@dataclass
class Run:
    """What running a page came to: its parts as they should be, what was not so, and what its author must mend."""

    parts: list[Part]
    stale: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The page as it should be."""
        return "\n".join(line for part in self.parts for line in part.written())


def parse(text: str, page: str = PAGE) -> list[Part]:
    """Return the parts of a page, whose name messages give; raises LessonError for a block that does not end."""
    parts, begun = [Part(1, "prose", [], page)], 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("```"):
            parts[-1].lines.append(line)
        elif begun:
            parts.append(Part(number + 1, "prose", [], page))
            begun = 0
        else:
            parts.append(Part(number + 1, line[3:].strip() or "text", [], page))
            begun = number
    if begun:
        raise LessonError(f"{page}:{begun}: the block that begins here does not end: add a line ```")
    return parts


def run(text: str, page: str = PAGE) -> Run:
    """Run a page's blocks and commands; raises LessonError for a block or a command that fails."""
    done = Run(parse(text, page))
    namespace: dict[str, Any] = {"__name__": "lesson"}
    for part in list(done.parts):
        if part.kind == "python":
            _keep_output(done, part, _output(part, namespace))
        elif part.kind == "console":
            _keep_lines(done, part, _printed(part))
    done.parts = [part for part in done.parts if not (part.kind == "text" and not part.lines)]
    done.wrong += unshown(done.parts)
    return done


def _output(part: Part, namespace: dict[str, Any]) -> list[str]:
    code, printed = "\n" * (part.line - 1) + "\n".join(part.lines), StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(code, part.page, "exec"), namespace)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == part.page]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1]
        first = part.lines[0] if part.lines else ""
        raise LessonError(f"{part.page}:{line}: {type(error).__name__}: {error} (in the block {first!r})") from error
    return printed.getvalue().rstrip("\n").split("\n") if printed.getvalue().strip() else []


def _keep_output(done: Run, block: Part, output: list[str]) -> None:
    """Put what a block printed into the text block after it, if it is not there."""
    after = done.parts.index(block) + 1
    held = next((part for part in done.parts[after:] if not part.blank), block)
    if held.kind == "text":
        unlike = [f"{block.page}:{n}: the block prints {new!r}, not {old!r}" for n, old, new in _unlike(held, output)]
        held.lines = output if unlike else held.lines
        done.stale += unlike
    elif output:
        end = block.line + len(block.lines)
        done.stale.append(f"{block.page}:{end}: what the block prints is missing after it: {output[0]!r}")
        done.parts[after:after] = [Part(end, "text", output, block.page)]


def _unlike(held: Part, output: list[str]) -> Iterator[tuple[int, str | None, str | None]]:
    for offset, (old, new) in enumerate(zip_longest(held.lines, output)):
        if old is None or new is None or not alike(old, new):
            yield held.line + offset, old, new


def _printed(part: Part) -> list[str]:
    """Return what a console block's command prints."""
    if not part.lines or not part.lines[0].startswith("$ unstuck "):
        raise LessonError(f"{part.page}:{part.line}: a console block begins with `$ unstuck …`")
    command = part.lines[0].removeprefix("$ ")
    done = _done(command)
    if done.returncode is None:
        raise LessonError(f"{part.page}:{part.line}: `{command}` takes more than {TIME_LIMIT:g} s")
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise LessonError(f"{part.page}:{part.line}: `{command}` exits with {done.returncode}: {last}")
    return done.stdout.splitlines()


@cache
def _done(command: str) -> forked.Done:
    """Run a command once, however many blocks show it; a watched run is not kept among the user's own."""
    os.environ["COLUMNS"] = "100"
    name, *arguments = shlex.split(command)[1:]
    unrecorded = ["--no-record"] if name == "run" else []
    return forked.python(["-m", "unstuck", name, *unrecorded, *arguments], time_limit=TIME_LIMIT, folder=ROOT)


def _keep_lines(done: Run, part: Part, printed: list[str]) -> None:
    """Bring the numbers of a console block's lines up to date; name those that are not printed together."""
    masked, at = [NUMBER.sub(MASKED, line.rstrip()) for line in printed], 0
    for place, lines in _shown_together(part.lines):
        wanted = [NUMBER.sub(MASKED, line.rstrip()) for line in lines]
        found = [n for n in range(at, len(masked)) if masked[n : n + len(lines)] == wanted]
        if not found:
            done.wrong.append(f"{part.page}:{part.line + place}: the command does not print {' / '.join(lines)!r} here")
            continue
        at = found[0] + len(lines)
        for offset, (line, new) in enumerate(zip(lines, printed[found[0] : at], strict=True), start=place):
            if not alike(line, new.rstrip()):
                done.stale.append(f"{part.page}:{part.line + offset}: the command prints {new!r}, not {line!r}")
                part.lines[offset] = new.rstrip()


def _shown_together(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the places of the first and the text of lines below the command between which no `…` stands."""
    ends = [0, *(place for place, line in enumerate(lines) if line.strip() == "…"), len(lines)]
    for before, end in pairwise(ends):
        if before + 1 < end:
            yield before + 1, lines[before + 1 : end]


def alike(old: str, new: str, slack: float = 0.0) -> bool:
    """Tell whether two texts differ in nothing but the last digits of numbers.

    A number with a decimal point or a % sign may be off by `RELATIVE` or one in its last place; any by `slack`.
    """
    if NUMBER.split(old) != NUMBER.split(new):
        return False
    pairs = zip(NUMBER.finditer(old), NUMBER.finditer(new), strict=True)
    return all(_near(a.group(), b.group(), old[a.end() : a.end() + 2], slack) for a, b in pairs)


def _near(old: str, new: str, after: str, slack: float) -> bool:
    mantissa, _, exponent = old.partition("e")
    exact = "." not in mantissa and not exponent and after.strip()[:1] != "%"
    place = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    allowed = slack if exact else max(slack, RELATIVE * abs(float(old)), place)
    return old == new or abs(float(old) - float(new)) <= allowed * (1 + 1e-9)


def unshown(parts: list[Part]) -> Iterator[str]:
    """Name the prose's numbers that no block or table of their section shows."""
    for section in _sections(_without_ladder(parts)):
        shown = [float(found) for text in map(_showing, section) for found in NUMBER.findall(text)]
        for part in section:
            if part.kind != "prose":
                continue
            text = NO_PROSE.sub(lambda found: " " * len(found.group()), "\n".join(part.lines))
            for found in PROSE_NUMBER.finditer(text):
                if found.group() not in UNCHECKED and not _is_shown(found.group(), shown):
                    line = part.line + text.count("\n", 0, found.start())
                    yield f"{part.page}:{line}: no block of this section shows the number {found.group()}"


def _without_ladder(parts: list[Part]) -> Iterator[Part]:
    """Yield the parts, empty lines standing for the ladder's section, which has no number of its author's."""
    for part in parts:
        text = "\n".join(part.lines)
        before, begin, rest = text.partition(lesson_ladder.BEGIN)
        if part.kind == "prose" and begin:
            ladder, _, after = rest.partition(lesson_ladder.END)
            text = before + "\n" * ladder.count("\n") + after
        yield Part(part.line, part.kind, text.split("\n"), part.page)


def _showing(part: Part) -> str:
    lines = part.lines if part.kind != "prose" else [line for line in part.lines if line.startswith("|")]
    return re.sub(r"(?<=\d)[,_](?=\d{3})", "", "\n".join(lines))


def _is_shown(number: str, shown: list[float]) -> bool:
    """Tell whether a number as written is one of those shown, rounded; a whole number must be there itself."""
    value, digits = float(number.replace(",", "")), len(number.partition(".")[2])
    half = 0.5 * 10.0**-digits * (1 + 1e-9) if digits else 0.0
    return any(abs(abs(other) - value) <= half for other in shown)


def _sections(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Yield the parts below each heading; prose that holds a heading is cut there."""
    section: list[Part] = []
    for part in parts:
        lines = part.lines if part.kind == "prose" else []
        starts = [0, *(n for n, line in enumerate(lines) if line.startswith("## ")), len(lines)]
        if part.kind != "prose":
            section.append(part)
        for begin, end in pairwise(starts):
            if begin < end and lines[begin].startswith("## "):
                yield section
                section = []
            if begin < end:
                section.append(Part(part.line + begin, "prose", lines[begin:end], part.page))
    yield section


def _pictures(made: Path, page: str) -> Iterator[tuple[Path, Path | None, str]]:
    """Yield each picture that is not as it should be, what it should be (None: not be there), and why."""
    kept = {path.name: path for path in (ROOT / PICTURES).glob("lesson-*")}
    new = {path.name: path for path in made.glob("lesson-*")}
    for name in sorted(kept.keys() | new.keys()):
        target = ROOT / PICTURES / name
        if name not in new:
            yield target, None, "no block draws it"
        elif name not in kept:
            yield target, new[name], "is missing"
        elif not alike(kept[name].read_text("utf-8"), new[name].read_text("utf-8"), slack=PIXELS):
            yield target, new[name], "is not what the block draws"
        if name in new and f"images/{name}" not in page:
            raise LessonError(f"{PAGE} draws {name} but does not show it: add ![…](images/{name})")


def main(arguments: list[str] | None = None) -> int:
    """Write the page, its pictures and the README's table, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.lesson", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; name what is not as it would be written")
    check = parser.parse_args(arguments).check
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LESSON_PICTURES"] = folder
        try:
            problems = _update(Path(folder), write=not check)
        except LessonError as error:
            problems = [str(error)]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


def _update(folder: Path, *, write: bool) -> list[str]:
    """Return what is not as it should be, or, when it is written, what still is not."""
    files = {name: (ROOT / name).read_text("utf-8") for name in (PAGE, README)}
    tables = ROOT / LADDER
    ladder = json.loads(tables.read_text("utf-8")) if tables.exists() else None
    wanted = {
        PAGE: lesson_ladder.filled(files[PAGE], lesson_ladder.section(ladder), PAGE),
        README: lesson_ladder.filled(files[README], lesson_ladder.table(ladder), README),
    }
    stale = [f"{name}: its table is not that of {LADDER}" for name in files if wanted[name] != files[name]]
    done = run(wanted[PAGE])
    wanted[PAGE] = done.text()
    pictures = list(_pictures(folder, wanted[PAGE]))
    if not write:
        return [*stale, *done.stale, *done.wrong, *(f"{path.relative_to(ROOT)} {why}" for path, _, why in pictures)]
    for name, text in wanted.items():
        if text != files[name]:
            (ROOT / name).write_text(text, "utf-8")
    for path, new, _ in pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        if new:
            shutil.copy(new, path)
        else:
            path.unlink()
    return done.wrong


if __name__ == "__main__":
    sys.exit(main())
