"""Taking a function out from before a loss, in whichever form it stands there."""

from __future__ import annotations

from collections.abc import Collection

import libcst as cst

from unstuck.findings import Finding, Place
from unstuck.fixes.patches.calls import Applied, Changes, Form, applied, in_place_of, renamed, spine
from unstuck.fixes.patches.made import constructor, is_indexed, sequential
from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, dotted
from unstuck.fixes.patches.uses import ORDER_ALONE, probability_use, reads


def place_before(finding: Finding, what: str) -> Place:
    """Return the place of the function before the finding's loss; raises NoPatch unless it is one, in the same file."""
    if len(finding.related) != 1:
        raise NoPatch(f"the finding does not say where the {what} stands")
    place = finding.related[0]
    if place.location is None or finding.location is None or place.location.file != finding.location.file:
        raise NoPatch(f"the {what} stands in another file")
    return place


def find_applied(source: Source, line: int, functions: Collection[str], classes: Collection[str]) -> Applied | None:
    """Return the one call on a line that applies a function, None if none does; raises NoPatch for several."""
    found = applied(source, line, functions, classes)
    if len(found) > 1:
        raise NoPatch(f"line {line} has {len(found)} calls of {sorted(functions)[0]}")
    return found[0] if found else None


def dropped(source: Source, finding: Finding, functions: Collection[str], classes: Collection[str]) -> Changes:
    """Return the changes that hand to the finding's loss what its one related place is given, not what it makes.

    Raises NoPatch where the form is not known, or where the output is used for something else too.
    """
    what = sorted(functions)[0]
    place = place_before(finding, what)
    at = _line(place)
    if at > len(source.module.code.splitlines()):
        raise NoPatch(f"line {at} is not in this file")
    found = find_applied(source, at, functions, classes)
    changes = _module_dropped(source, place, classes) if found is None else None
    if changes is not None:
        _check_output(source, finding, what)
        return changes
    assert found is not None
    return _call_dropped(source, found, finding, what)


def _line(place: Place | Finding) -> int:
    return place.location.line if place.location else 0


def _check_output(source: Source, finding: Finding, what: str) -> None:
    wanted = probability_use(source, _line(finding))
    if wanted is not None:
        raise NoPatch(f"line {wanted} takes the network's output for probabilities: move the {what} there")


def _module_dropped(source: Source, place: Place, classes: Collection[str]) -> Changes:
    """Take a module out of its `nn.Sequential`, or put nn.Identity() in its place where others would change number."""
    made = constructor(source, place, classes)
    inside = sequential(source, made)
    if inside is not None and 0 < inside[1] == len(inside[0].args) - 1 and is_indexed(source, made) is None:
        return {inside[0]: without_last(inside[0])}
    changes = renamed(source, [made], "Identity")
    func = changes.pop(made.func)
    assert isinstance(func, cst.BaseExpression)
    return {**changes, made: made.with_changes(func=func, args=[], whitespace_before_args=cst.SimpleWhitespace(""))}


def without_last(call: cst.Call) -> cst.Call:
    """Return a call without its last argument; the line breaks and comments of those before it stay."""
    *others, before, last = call.args
    comma = last.comma
    if isinstance(comma, cst.Comma) and isinstance(before.comma, cst.Comma):
        space, kept = comma.whitespace_after, before.comma.whitespace_after
        if isinstance(space, cst.ParenthesizedWhitespace) and isinstance(kept, cst.ParenthesizedWhitespace):
            comma = comma.with_changes(whitespace_after=space.with_changes(first_line=kept.first_line))
    before = before.with_changes(comma=comma, whitespace_after_arg=last.whitespace_after_arg)
    return call.with_changes(args=[*others, before])


def _call_dropped(source: Source, found: Applied, finding: Finding, what: str) -> Changes:
    loss = _line(finding)
    changes: Changes = {found.call: in_place_of(source, found.call, found.operand)}
    outer = spine(source, found.call)
    end = outer[-1] if outer else None
    if isinstance(end, cst.Assign | cst.AnnAssign):
        changes = _assigned(source, found, end, finding, what) or changes
    elif isinstance(end, cst.Return):
        _check_output(source, finding, what)
    elif not _holds(source, source.enclosing(found.call, cst.SimpleStatementLine), loss):
        raise NoPatch(f"what becomes of the {what} at line {source.lines(found.call)[0]} is not understood")
    if found.form is Form.MODULE and found.made is not None and found.call in changes:
        changes.update(_unused(source, found))
    return changes


def _assigned(source: Source, found: Applied, assign: cst.CSTNode, finding: Finding, what: str) -> Changes | None:
    """Return the changes where the output is given a name, or None for putting the input in its place."""
    assert isinstance(assign, cst.Assign | cst.AnnAssign)
    targets = [target.target for target in assign.targets] if isinstance(assign, cst.Assign) else [assign.target]
    if len(targets) != 1 or not isinstance(targets[0], cst.Name):
        raise NoPatch(f"the {what} is assigned to something else than one variable")
    name, line = targets[0].value, source.lines(assign)[1]
    later = [node for node in reads(source, name, found.call) if source.lines(node)[0] > line]
    others = [node for node in later if not _harmless(source, node, _line(finding))]
    if not others:
        if any(isinstance(node, cst.Return) for read in later for node in source.around(read)):
            _check_output(source, finding, what)
        return removed_statement(source, assign) if dotted(found.operand) == name else None
    fed = [node for node in later if _holds(source, source.enclosing(node, cst.SimpleStatementLine), _line(finding))]
    if isinstance(found.operand, cst.Name) and found.operand.value != name and fed:
        again = [a for a in source.assignments(found.operand.value) if line < source.lines(a)[0] < _line(finding)]
        if not again:
            return {node: node.with_changes(value=found.operand.value) for node in fed if node not in others}
    raise NoPatch(f"{name} is used at line {source.lines(others[0])[0]} too, where it may have to be a {what}")


def _harmless(source: Source, read: cst.Name, loss: int) -> bool:
    """Tell whether a use stands in the loss's statement, is handed back, or asks for the order alone."""
    outer = spine(source, read)
    if any(isinstance(node, cst.Attribute) and node.attr.value in ORDER_ALONE for node in outer):
        return True
    if isinstance(outer[-1], cst.Arg):
        call = source.parent(outer[-1])
        if isinstance(call, cst.Call) and dotted(call.func).rpartition(".")[2] in ORDER_ALONE:
            return True
    return isinstance(outer[-1], cst.Return) or _holds(source, source.enclosing(read, cst.SimpleStatementLine), loss)


def _holds(source: Source, statement: cst.CSTNode | None, line: int) -> bool:
    return statement is not None and source.lines(statement)[0] <= line <= source.lines(statement)[1]


def removed_statement(source: Source, assign: cst.CSTNode) -> Changes | None:
    """Return the removal of an assignment; None where comments or other statements would go with it."""
    statement = source.parent(assign)
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) > 1:
        return None
    if any(line.comment for line in statement.leading_lines) or statement.trailing_whitespace.comment:
        return None
    return {statement: cst.RemoveFromParent()}


def _unused(source: Source, found: Applied) -> Changes:
    """Return the removal of the line that made a module, where nothing else uses it."""
    name = dotted(found.call.func)
    assign = source.parent(found.made) if found.made is not None else None
    mentions: list[cst.CSTNode] = [*source.find(cst.Attribute), *source.find(cst.Name)]
    if not isinstance(assign, cst.Assign) or sum(dotted(node) == name for node in mentions) != 2:
        return {}
    return removed_statement(source, assign) or {}
