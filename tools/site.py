"""Hooks of MkDocs.

Patterns in the nav of mkdocs.yml stand for the pages that match them and that it does not name. Options of commands
are not broken at their hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

Nav = list[Any] | dict[str, Any] | str | None
CODE = re.compile(r"<pre.*?</pre>|<code>.*?</code>", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--?\w[\w-]*")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace the patterns of the nav; called by MkDocs when it knows all files."""
    config.nav = expanded(config.nav or [], [page.src_uri for page in files.documentation_pages()])
    return files


def on_page_content(html: str, **_: object) -> str:
    """Mark the options in the code of running text, for site.css; called by MkDocs for each page."""
    return CODE.sub(lambda code: code[0] if code[0].startswith("<pre") else whole_options(code[0]), html)


def whole_options(code: str) -> str:
    """Return code with each option, as in `--fail-on`, in a span."""
    return OPTION.sub(r'<span class="option">\g<0></span>', code)


def expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    """Return a nav without patterns: `index.md` first, then by name; a heading that is left without pages goes.

    A page that two patterns match stands where the first of them does.
    """
    left = sorted(set(pages) - set(_names(nav)), key=lambda page: (PurePosixPath(page).name != "index.md", page))

    def made(item: Nav) -> list[Any]:
        if isinstance(item, list):
            return [part for below in item for part in made(below)]
        if isinstance(item, dict):
            ((title, below),) = item.items()
            if isinstance(below, str) and "*" not in below:
                return [item]
            found = made(below)
            return [{title: found}] if found else []
        if item is None or "*" not in item:
            return [item]
        matching = [page for page in left if _matches(page, item)]
        left[:] = [page for page in left if page not in matching]
        return matching

    return made(nav)


def _names(item: Nav) -> Iterator[str]:
    """Yield the pages that a nav names."""
    if isinstance(item, str):
        yield from [] if "*" in item else [item]
    else:
        for part in item.values() if isinstance(item, dict) else item or []:
            yield from _names(part)


def _matches(page: str, pattern: str) -> bool:
    path, wanted = PurePosixPath(page), PurePosixPath(pattern)
    return path.parent == wanted.parent and fnmatchcase(path.name, wanted.name)
