"""What is not known of fixes that no trial was made of, in words that the text and the page share."""

from __future__ import annotations

from collections.abc import Iterable

from unstuck.report.report import AppliedFix, Report


def unproven(report: Report, fixes: Iterable[AppliedFix]) -> list[str]:
    """Return what is not known of those fixes that were kept without a trial; nothing where there are none.

    Also says what a new beginning of training means, and which of their rules could not judge once they were made.
    """
    kept = [fix for fix in fixes if fix.kept and fix.proof is None]
    if not kept:
        return []
    notes = ["not proven on trial: compare the loss with a run without"]
    if any(fix.restarted for fix in kept):
        notes.append("training began again: parameters put back to the start, optimizer state cleared")
    missing = {rule.code: rule.name for rule in report.not_checked}
    codes = [code for code in dict.fromkeys(fix.code for fix in kept) if code in missing]
    if codes:
        notes.append(f"not checked since: {', '.join(f'{code} {missing[code]}' for code in codes)}")
    return notes
