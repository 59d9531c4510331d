"""Fill the tables of docs/accuracy.md and docs/cost.md from the files that the measurements are kept in.

In a page, what stands between

    <!-- table: FILE | HEADING | COLUMNS -->
    <!-- end of table -->

is the first table of FILE, under that heading, whose columns begin so. Codes of rules in its first column become links.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/accuracy.md", "docs/cost.md")
END = "<!-- end of table -->"
PLACE = re.compile(rf"(<!-- table: ([^|\n]+?) \| ([^|\n]+?) \| (.+?) -->\n)(.*?)({END})", re.DOTALL)
CODE = re.compile(r"^\| ([A-Z]\d{3}) \|", re.MULTILINE)


def filled(text: str, page: str) -> str:
    """Return a page with its tables as their files have them; raises ValueError where there is no such table."""
    whole = len(re.findall(r"<!-- table: ", text)), text.count(END), len(PLACE.findall(text))
    if len(set(whole)) > 1:
        raise ValueError(f"{page}: a table's place is `<!-- table: FILE | HEADING | COLUMNS -->`, later `{END}`")

    def new(found: re.Match[str]) -> str:
        begin, file, heading, columns, _, end = found.groups()
        return f"{begin}{_linked(table(file, heading, columns))}\n{end}"

    return PLACE.sub(new, text)


def table(file: str, heading: str, columns: str) -> str:
    """Return the lines of a table; raises ValueError where there is none."""
    section: list[str] | None = None
    for line in (ROOT / file).read_text("utf-8").splitlines():
        if line.startswith("#"):
            section = [] if line.lstrip("#").strip() == heading else None
        elif section and not line.startswith("|"):
            return "\n".join(section)
        elif section is not None and (section or line.startswith(f"| {columns}")):
            section.append(line)
    if section:
        return "\n".join(section)
    raise ValueError(f"{file} has no table under {heading!r} whose columns begin with {columns!r}")


def _linked(lines: str) -> str:
    return CODE.sub(r"| [\1](rules/\1.md) |", lines)
