"""Exchanging a loss for the one that takes what the network gives it."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import Changes, made_by, renamed, torch_name
from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source


def loss_calls(source: Source, finding: Finding, function: str, module: str) -> list[cst.Call]:
    """Return the calls that have to change where a loss is exchanged: all of the function, or the module's making.

    The function's other calls in the file measure the same network, with what it gives now. Raises NoPatch where the
    finding's line calls neither.
    """
    line = finding.location.line if finding.location else 0
    here = source.calls_at(line)
    if any(torch_name(source, call) == function for call in here):
        return [call for call in source.find(cst.Call) if torch_name(source, call) == function]
    made = [found for call in here if (found := made_by(source, call, {module})) is not None]
    made = made or [call for call in source.find(cst.Call) if torch_name(source, call) == module]
    if not made:
        raise NoPatch(f"line {line} has no call of {function}, and no nn.{module} is made in this file")
    if len(made) > 1:
        raise NoPatch(f"which nn.{module} line {line} uses is not clear")
    return made


def exchanged(
    source: Source, finding: Finding, old: tuple[str, str], new: tuple[str, str], without: frozenset[str] = frozenset()
) -> Changes:
    """Return the changes that put one loss in the place of another, each given as (function, class).

    Raises NoPatch where an argument `without` which the new one does is given.
    """
    calls = loss_calls(source, finding, *old)
    for call in calls:
        given = {argument.keyword.value for argument in call.args if argument.keyword is not None}
        if given & without:
            raise NoPatch(f"{old[0]} is given {', '.join(sorted(given & without))}, which {new[0]} does not take")
    functional = [call for call in calls if torch_name(source, call) == old[0]]
    modules = [call for call in calls if torch_name(source, call) == old[1]]
    return {**renamed(source, functional, new[0]), **renamed(source, modules, new[1])}
