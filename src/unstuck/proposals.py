"""The patches that a report carries: what `fixes.patches` proposes for its findings, in the report's terms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

from unstuck.findings import Finding
from unstuck.report import Edit, SourcePatch

LARGEST_FILE = 2 << 20  # bytes of a source file that a stored run is compared with; it holds no larger ones
MOST_PATCHES = 50  # findings of a report for which one is looked for; each takes some 40 ms (measured)


def source_patches(findings: Sequence[Finding], sources: Mapping[str, str] | None = None) -> dict[Finding, SourcePatch]:
    """Return for each finding whose rule has a patcher the patch of its file as it now is, or why there is none.

    `sources` are the files that a stored run holds: others, and those that have changed since, are left alone.
    """
    from unstuck.fixes.patches.catalogue import all_patchers  # libcst takes its time to import

    patchable = list(dict.fromkeys(finding for finding in findings if finding.code in all_patchers()))
    more = SourcePatch(reason=f"a patch is looked for {MOST_PATCHES} findings at most; mend the others first")
    return {
        finding: _source_patch(finding, sources) if number < MOST_PATCHES else more
        for number, finding in enumerate(patchable)
    }


def _source_patch(finding: Finding, sources: Mapping[str, str] | None) -> SourcePatch:
    from unstuck.fixes.files import read_source
    from unstuck.fixes.patches.catalogue import propose
    from unstuck.fixes.patches.patch import Patch

    if finding.location is None:
        return SourcePatch(reason="the finding names no line")
    file = Path(finding.location.file)
    if {"site-packages", "dist-packages"} & set(file.parts):
        return SourcePatch(reason=f"{file.name} belongs to an installed package")
    if sources is not None and not _is_as_stored(file, sources.get(finding.location.file)):
        return SourcePatch(reason=f"{file.name} is not here as it was when the run was stored; run it again")
    try:
        (proposal,) = propose(read_source(file).text, [finding], file)
    except OSError as error:
        return SourcePatch(reason=f"{file.name} cannot be read: {error.strerror}")
    except Exception as error:  # noqa: BLE001  (a report must not be lost for a patch)
        return SourcePatch(reason=f"no patch could be made: {type(error).__name__}: {error}")
    if not isinstance(proposal, Patch):
        return SourcePatch(reason=proposal.reason)
    return SourcePatch(proposal.name, proposal.summary, proposal.diff(), _edits(proposal.before, proposal.after))


def _is_as_stored(file: Path, text: str | None) -> bool:
    """Tell whether a file still has the text that a run holds of it; its line ends and the last one do not count."""
    from unstuck.fixes.files import read_source

    try:
        if text is None or not file.is_file() or file.stat().st_size > LARGEST_FILE:
            return False
        return read_source(file).text.splitlines() == text.splitlines()
    except (OSError, ValueError):
        return False


def _edits(before: str, after: str) -> tuple[Edit, ...]:
    """Return what turns one text into the other, in whole lines."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))

    def position(line: int) -> tuple[int, int]:
        open_end = line == len(old) and old and not old[-1].endswith("\n")
        return (line, len(old[-1]) + 1) if open_end else (line + 1, 1)

    changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return tuple(Edit(position(a), position(b), "".join(new[c:d])) for kind, a, b, c, d in changes if kind != "equal")
