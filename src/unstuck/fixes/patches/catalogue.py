"""All patchers, discovered from the modules beside this one, and what they propose for a script's findings."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import unstuck.fixes.patches
from unstuck.findings import Finding
from unstuck.fixes.patches.patch import NoPatch, Patch, Patcher


@dataclass(frozen=True)
class Refusal:
    """Why there is no patch for a finding, in words for the user."""

    code: str
    line: int
    reason: str


@cache
def all_patchers() -> dict[str, type[Patcher]]:
    """Return rule code → patcher class, in the order of the codes.

    Raises RuntimeError when two modules claim one code.
    """
    found: dict[str, type[Patcher]] = {}
    package = unstuck.fixes.patches
    for module_info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(module_info.name)
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if not own or not issubclass(value, Patcher) or "code" not in vars(value):
                continue
            if value.code in found:
                raise RuntimeError(f"{value.__module__} and {found[value.code].__module__} both claim {value.code}")
            found[value.code] = value
    return dict(sorted(found.items()))


def propose(text: str, findings: Iterable[Finding], file: Path) -> list[Patch | Refusal]:
    """Return, for each finding in `file` whose rule has a patcher, the patch of the file's text or why there is none.

    In the order of the findings; each patch is of `text` as it is, alone. Findings that lead to the same patch, such as
    one line that several layers run through, give it once.
    """
    proposals: list[Patch | Refusal] = []
    texts: set[str] = set()
    for finding in findings:
        patcher = all_patchers().get(finding.code)
        if patcher is None or finding.location is None or Path(finding.location.file).resolve() != file.resolve():
            continue
        try:
            patch = patcher().patch(text, finding, file)
        except NoPatch as reason:
            proposals.append(Refusal(finding.code, finding.location.line, str(reason)))
            continue
        if patch.after not in texts:
            texts.add(patch.after)
            proposals.append(patch)
    return proposals
