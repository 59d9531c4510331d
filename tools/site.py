"""A hook of MkDocs: patterns in the nav of mkdocs.yml stand for the pages that match them and that it does not name."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

Nav = list[Any] | dict[str, Any] | str | None


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace the patterns of the nav; called by MkDocs when it knows all files."""
    config.nav = expanded(config.nav or [], [page.src_uri for page in files.documentation_pages()])
    return files


def expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    """Return a nav without patterns: `index.md` first, then by name; a heading that is left without pages goes."""
    left = sorted(set(pages) - set(_names(nav)), key=lambda page: (PurePosixPath(page).name != "index.md", page))

    def made(item: Nav) -> Nav:
        if isinstance(item, dict):
            ((title, below),) = item.items()
            below = made(below)
            return {title: below} if below else None
        if isinstance(item, list):
            return [part for part in map(made, item) if part]
        if item is not None and "*" in item:
            return [page for page in left if _matches(page, item)]
        return item

    result = made(nav)
    assert isinstance(result, list)
    return result


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
