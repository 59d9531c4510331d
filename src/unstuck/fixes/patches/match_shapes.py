"""match-shapes: the patch for L010."""

from __future__ import annotations

import re

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import ATOMS, Changes, called, made_by, torch_name
from unstuck.fixes.patches.made import path_and_op
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, argument, dotted

SUPERFLUOUS = re.compile(r"superfluous dimension of the (predictions|targets)")
CLASSES = {
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss",
    "kl_div": "KLDivLoss",
    "soft_margin_loss": "SoftMarginLoss",
    "hinge_embedding_loss": "HingeEmbeddingLoss",
}


class MatchShapes(Patcher):
    """Gives the two sides of an elementwise loss the same shape.

    ## What it does
    Takes the dimension of size 1 that one side has too many out of that side, where the loss is called:
    `criterion(model(x), y)` becomes `criterion(model(x).squeeze(1), y)`; an `unsqueeze` that put it there goes instead.
    Only this one line changes: what else reads the network's output or the targets finds them as they were.

    ## When it must not be used
    Where all predictions are compared with all targets on purpose. Refused where no single dimension of size 1 makes
    the difference, and for differences written by hand of which both sides may be meant.

    ## References
    - Broadcasting semantics, https://docs.pytorch.org/docs/stable/notes/broadcasting.html
    - torch.squeeze, https://docs.pytorch.org/docs/stable/generated/torch.squeeze.html
    """

    name = "match-shapes"
    code = "L010"
    summary = "give predictions and targets the same shape where the loss compares them"
    changes_objective = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Squeeze one side; raises NoPatch where the loss's call or the dimension is not clear."""
        found = [(match[1], int(e.value)) for e in finding.evidence if (match := SUPERFLUOUS.fullmatch(e.name))]
        if len(found) != 1:
            raise NoPatch("no one dimension of size 1 makes the difference between the two shapes")
        side, axis = found[0]
        value = _compared(source, finding)[side]
        return source.replaced(_squeezed(source, value, axis))


def _compared(source: Source, finding: Finding) -> dict[str, cst.BaseExpression]:
    """Return the predictions and the targets, as they stand in the loss's call at the finding's line."""
    assert finding.location is not None
    line, function = finding.location.line, path_and_op(finding.site)[1]
    calls = [call for call in source.calls_at(line) if _is_loss(source, call, function)]
    if not calls and function not in CLASSES:
        raise NoPatch(f"which side of the difference at line {line} are the predictions cannot be told from the file")
    if len(calls) != 1:
        raise NoPatch(f"line {line} has {len(calls) or 'no'} calls of {function} that can be made out")
    predictions, targets = argument(calls[0], 0, "input"), argument(calls[0], 1, "target")
    if predictions is None or targets is None:
        raise NoPatch(f"the arguments of {function} at line {line} cannot be made out")
    return {"predictions": predictions.value, "targets": targets.value}


def _is_loss(source: Source, call: cst.Call, function: str) -> bool:
    """Tell whether a call is one of the function, of its module, or of a two-sided loss whose making is not seen."""
    if torch_name(source, call):
        return torch_name(source, call) == function
    if function not in CLASSES:
        return False
    if made_by(source, call, {CLASSES[function]}) is not None:
        return True
    name = dotted(call.func)
    known = source.assignments(name) or any(node.name.value == name for node in source.find(cst.FunctionDef))
    likely = re.search(r"loss|criterion|objective", called(call), re.IGNORECASE)
    return not known and bool(likely) and len(call.args) == 2


def _squeezed(source: Source, value: cst.BaseExpression, axis: int) -> Changes:
    if isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and called(value) == "unsqueeze":
        given = argument(value, 0, "dim")
        if not torch_name(source, value) and given is not None and _number(given.value) in (axis, -1):
            return {value: value.func.value}
    if not isinstance(value, ATOMS) and not value.lpar:
        inner = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    else:
        inner = value
    return {value: cst.Call(cst.Attribute(inner, cst.Name("squeeze")), [cst.Arg(cst.Integer(str(axis)))])}


def _number(node: cst.BaseExpression) -> int | None:
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = _number(node.expression)
        return None if inner is None else -inner
    return node.evaluated_value if isinstance(node, cst.Integer) else None
