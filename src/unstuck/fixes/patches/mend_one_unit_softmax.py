"""mend-one-unit-softmax: the patch for L006."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding, Place
from unstuck.fixes.patches.calls import Applied, Changes, Form, renamed
from unstuck.fixes.patches.dropping import find_applied
from unstuck.fixes.patches.made import constructor, path_and_op
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, argument

FUNCTIONS = frozenset({"softmax"})
CLASSES = frozenset({"Softmax"})


class MendOneUnitSoftmax(Patcher):
    """Makes a softmax over one number a sigmoid, or takes it over the dimension that has more than one.

    ## What it does
    Where `binary_cross_entropy` takes the output, there is one number for the question yes or no: the softmax becomes a
    sigmoid (`nn.Softmax` becomes `nn.Sigmoid`). Where no loss takes it and the input has one other dimension larger
    than 1 besides the batch's, such as the entries that attention weights, the softmax is taken over that one.

    ## When it must not be used
    Where the first dimension is not the batch's. Refused where several dimensions are larger than 1, where none is and
    no `binary_cross_entropy` says what the number is for, and for `log_softmax`: there a layer with one output for
    each class is missing, which the file does not tell the number of.

    ## References
    - torch.nn.Softmax, https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    - torch.nn.BCELoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html
    """

    name = "mend-one-unit-softmax"
    code = "L006"
    summary = "a sigmoid for one unit, or the softmax over the dimension that has more"
    changes_objective = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Rename the softmax or its dimension; raises NoPatch where it cannot be told which."""
        if path_and_op(finding.site)[1] != "softmax":
            raise NoPatch(f"{finding.site} over one class: how many outputs the last layer should have is not known")
        losses = {path_and_op(place.site)[1] for place in finding.related}
        larger = [int(evidence.value) for evidence in finding.evidence if evidence.name == "larger dimension"]
        if losses == {"binary_cross_entropy"}:
            return source.replaced(_sigmoid(source, finding))
        if losses:
            raise NoPatch(f"what {sorted(losses)[0]} expects of one unit is not known: a sigmoid, or more units")
        if len(larger) != 1:
            several = f"dimensions {larger} all have" if larger else "no dimension but the batch's has"
            raise NoPatch(f"which dimension the softmax should go over is not known: {several} more than one entry")
        return source.replaced(_over(source, finding, larger[0]))


def _softmax(source: Source, finding: Finding) -> tuple[Applied | None, cst.Call]:
    """Return how the softmax is applied at the finding's line, and the call that says over which dimension."""
    assert finding.location is not None
    found = find_applied(source, finding.location.line, FUNCTIONS, CLASSES)
    if found is not None:
        return found, found.made or found.call
    return None, constructor(source, Place(finding.site, finding.location), CLASSES)


def _without_arguments(source: Source, call: cst.Call, name: str, keep: int) -> Changes:
    """Return the changes that rename a call and leave its first `keep` arguments."""
    changes = renamed(source, [call], name)
    func = changes.pop(call.func)
    assert isinstance(func, cst.BaseExpression)
    arguments = [argument(call, at, "input") for at in range(keep)]
    args = [given.with_changes(comma=cst.MaybeSentinel.DEFAULT) for given in arguments if given is not None]
    if args:
        args[-1] = args[-1].with_changes(whitespace_after_arg=call.args[-1].whitespace_after_arg)
    space = call.whitespace_before_args if args else cst.SimpleWhitespace("")
    return {**changes, call: call.with_changes(func=func, args=args, whitespace_before_args=space)}


def _sigmoid(source: Source, finding: Finding) -> Changes:
    found, call = _softmax(source, finding)
    if found is None or found.form is Form.MODULE:
        return _without_arguments(source, call, "Sigmoid", 0)
    return _without_arguments(source, call, "sigmoid", 1 if found.form is Form.FUNCTION else 0)


def _over(source: Source, finding: Finding, axis: int) -> Changes:
    found, call = _softmax(source, finding)
    given = argument(call, 1 if found is not None and found.form is Form.FUNCTION else 0, "dim")
    if given is not None:
        return {given: given.with_changes(value=cst.Integer(str(axis)))}
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return {call: call.with_changes(args=[*call.args, cst.Arg(cst.Integer(str(axis)), cst.Name("dim"), equal)])}
