"""The patches that a report carries: what `fixes.patches` proposes for its findings, in the report's terms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from unstuck.findings import Finding
from unstuck.report import Edit, SourcePatch

MOST_PATCHES = 50  # findings of a report for which one is looked for; each takes some 40 ms (measured)


def source_patches(findings: Sequence[Finding]) -> dict[Finding, SourcePatch]:
    """Return for each finding whose rule has a patcher the patch of its file as it now is, or why there is none."""
    from unstuck.fixes.patches.catalogue import all_patchers  # libcst takes its time to import

    patchable = list(dict.fromkeys(finding for finding in findings if finding.code in all_patchers()))
    more = SourcePatch(reason=f"a patch is looked for {MOST_PATCHES} findings at most; mend the others first")
    return {
        finding: _source_patch(finding) if number < MOST_PATCHES else more for number, finding in enumerate(patchable)
    }


def _source_patch(finding: Finding) -> SourcePatch:
    from unstuck.fixes.files import read_source
    from unstuck.fixes.patches.catalogue import propose
    from unstuck.fixes.patches.patch import Patch

    if finding.location is None:
        return SourcePatch(reason="the finding names no line")
    file = Path(finding.location.file)
    if {"site-packages", "dist-packages"} & set(file.parts):
        return SourcePatch(reason=f"{file.name} belongs to an installed package")
    try:
        (proposal,) = propose(read_source(file).text, [finding], file)
    except OSError as error:
        return SourcePatch(reason=f"{file.name} cannot be read: {error.strerror}")
    except Exception as error:  # noqa: BLE001  (a report must not be lost for a patch)
        return SourcePatch(reason=f"no patch could be made: {type(error).__name__}: {error}")
    if not isinstance(proposal, Patch):
        return SourcePatch(reason=proposal.reason)
    return SourcePatch(proposal.name, proposal.summary, proposal.diff(), _edits(proposal.before, proposal.after))


def _edits(before: str, after: str) -> tuple[Edit, ...]:
    """Return what turns one text into the other, in whole lines."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))

    def position(line: int) -> tuple[int, int]:
        open_end = line == len(old) and old and not old[-1].endswith("\n")
        return (line, len(old[-1]) + 1) if open_end else (line + 1, 1)

    changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return tuple(Edit(position(a), position(b), "".join(new[c:d])) for kind, a, b, c, d in changes if kind != "equal")
