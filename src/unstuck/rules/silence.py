"""Findings that the user has silenced: at a source line, or for the sites that a pattern matches."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from unstuck.findings import Finding

INLINE = re.compile(r"#\s*unstuck:\s*ignore(?:\[([^\]]*)\])?")


def is_silenced(finding: Finding, per_site_ignores: Mapping[str, Iterable[str]]) -> bool:
    """Tell whether a finding is silenced by a comment on its source line or by its site's label.

    The comment is `# unstuck: ignore` (every rule) or `# unstuck: ignore[A001, G]` (codes or prefixes). The keys of
    `per_site_ignores` are shell patterns (`blocks.*.fc*`) for the site's label; the values codes or prefixes.
    """
    at_line = _codes_at(finding)
    if at_line is not None and (not at_line or _matches(finding.code, at_line)):
        return True
    return any(
        _matches(finding.code, codes)
        for pattern, codes in per_site_ignores.items()
        if fnmatchcase(finding.site, pattern)
    )


def _codes_at(finding: Finding) -> list[str] | None:
    """Return the codes that a comment on the finding's line silences: none named is an empty list; None, no comment."""
    if finding.location is None:
        return None
    found = INLINE.search(linecache.getline(finding.location.file, finding.location.line))
    if found is None:
        return None
    return [code.strip() for code in (found[1] or "").split(",") if code.strip()]


def _matches(code: str, prefixes: Iterable[str]) -> bool:
    return any(prefix and code.startswith(prefix.upper()) for prefix in prefixes)
