"""Run docs/tutorial.md and docs/faq.md: their commands, the scripts they show and what changes between them.

    python -m tools.tutorial [--check]

A `console` block is as in `tools.lesson`, and so is what may differ. A `py` block holds the file named in its first
line, a `diff` block what changes between the two files that its first lines name. Without `--check` all are written
anew where they differ. With it nothing is written; what differs is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from difflib import unified_diff

from tools import lesson
from tools.lesson import LessonError, Part

PAGES = ("docs/tutorial.md", "docs/faq.md")


def run(text: str, page: str) -> lesson.Run:
    """Run a page's commands and read the files it shows; raises LessonError for what fails or is not there."""
    done = lesson.run(text, page)
    for part in done.parts:
        wanted = list(_lines(part))
        if wanted and wanted != part.lines:
            done.stale.append(f"{part.page}:{part.line}: the block is not that of {' and '.join(_files(part))}")
            part.lines = wanted
    return done


def _files(part: Part) -> list[str]:
    """Return the names that a block's first lines give after `#`, `---` or `+++`."""
    first = part.lines[: {"py": 1, "diff": 2}.get(part.kind, 0)]
    return [line.split(" ", 1)[-1] for line in first]


def _lines(part: Part) -> Iterator[str]:
    """Yield what a block with files should hold, its first lines with it; nothing for other blocks."""
    files = _files(part)
    contents = []
    for name in files:
        path = lesson.ROOT / name
        if not path.is_file():
            raise LessonError(
                f"{part.page}:{part.line}: there is no {name}; a block begins with its path in the repository"
            )
        contents.append(path.read_text("utf-8").splitlines())
    if part.kind == "py" and contents:
        yield from [part.lines[0], *contents[0]]
    elif len(contents) == 2:
        yield from unified_diff(*contents, *files, lineterm="")


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.tutorial", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; name what is not as it would be written")
    check = parser.parse_args(arguments).check
    problems = [problem for page in PAGES for problem in _update(page, write=not check)]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


def _update(page: str, *, write: bool) -> list[str]:
    """Return what is not as it should be, or, when it is written, what still is not."""
    path = lesson.ROOT / page
    text = path.read_text("utf-8")
    try:
        done = run(text, page)
    except LessonError as error:
        return [str(error)]
    if write and done.text() != text:
        path.write_text(done.text(), "utf-8")
    return done.wrong if write else [*done.stale, *done.wrong]


if __name__ == "__main__":
    sys.exit(main())
