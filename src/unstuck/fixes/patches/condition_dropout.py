"""N010. After https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import Changes, torch_name
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.models import Models
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, argument, dotted
from unstuck.fixes.patches.statements import code, fresh, written

DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
TRAINING_AT = 2  # of a dropout's arguments
ATTENTION = "scaled_dot_product_attention"
LINE_LENGTH = 120  # characters; a longer line is split
PROBABILITY_AT = 4  # of an attention's arguments
ALWAYS = ("True", "train", "self.train", "1")  # `self.train` is a method, and so true


class ConditionDropout(Patcher):
    """Lets dropout follow the mode of the module it stands in.

    ## What it does
    Gives `F.dropout` and its relatives `training=self.training`, in place of `training=True` where that was given, and
    makes the `dropout_p` of `F.scaled_dot_product_attention` 0.0 outside train mode.

    ## When it must not be used
    Where dropout in evaluation is wanted (Monte Carlo dropout). Refused: calls outside the methods of a module, which
    have no mode to follow; arguments given by `*` or `**`; a `training=` that is computed.

    ## References
    - torch.nn.functional.dropout, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html
    - torch.nn.functional.scaled_dot_product_attention,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """

    name = "condition-dropout"
    code = "N010"
    summary = "drop units in train mode alone"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with dropout that follows the mode."""
        line = finding.location.line if finding.location else 0
        here = source.calls_at(line)
        calls = [call for call in here if torch_name(source, call) in (*DROPOUTS, ATTENTION)]
        if not calls:
            raise NoPatch(f"line {line} calls neither F.dropout nor F.{ATTENTION} by a name that is understood")
        changes: Changes = {}
        for call in calls:
            if any(given.star for given in call.args):
                raise NoPatch(f"what {code(call.func)} is given at line {line} cannot be seen: it has * or ** in it")
            module = _module(source, call)
            attention = torch_name(source, call) == ATTENTION
            changed = _probability(call, module) if attention else _training(source, call, module)
            if changed is not None:
                changes.update(_laid_out(source, *changed) if attention else {changed[0]: changed[1]})
        if not changes:
            raise NoPatch(f"dropout at line {line} follows the mode of its module already")
        return _replaced(source, changes)


def _laid_out(source: Source, given: cst.CSTNode, value: cst.CSTNode) -> Changes:
    """Return the change that puts a value in; in a statement of its own before, where the line would get too long."""
    statement = next((outer for outer in source.around(given) if isinstance(outer, cst.SimpleStatementLine)), None)
    text = code(value)
    scopes = (cst.Lambda, cst.ListComp, cst.GeneratorExp, cst.DictComp, cst.SetComp)
    inner = any(isinstance(outer, scopes) for outer in source.around(given))
    if statement is None or inner or len(_line(source, given)) + len(text) - len(code(given)) <= LINE_LENGTH:
        return {given: value}
    name = fresh(source, given, "dropout", "dropout_p", "drop", "dropout_probability")
    blank = [line for line in statement.leading_lines if line.comment is None]
    rest = statement.leading_lines[len(blank) :]
    before = written(f"{name} = {text}").with_changes(leading_lines=blank)
    short = cst.ensure_type(statement.deep_replace(given, cst.Name(name)), cst.SimpleStatementLine)
    return {statement: cst.FlattenSentinel([before, short.with_changes(leading_lines=rest)])}


def _line(source: Source, node: cst.CSTNode) -> str:
    return source.module.code.splitlines()[source.lines(node)[0] - 1]


def _replaced(source: Source, changes: Changes) -> cst.Module:
    inner = [node for node in changes if any(outer in changes for outer in source.around(node))]
    if inner:
        raise NoPatch(f"line {source.lines(inner[0])[0]} has one dropout inside another")
    return source.replaced(changes)


def _module(source: Source, call: cst.Call) -> str:
    """Return the name of the module whose method a call stands in; raises NoPatch outside of one."""
    flow = Flow(source)
    models = Models(source, flow)
    for outer in source.around(call):
        owner = flow.owner(outer) if isinstance(outer, cst.FunctionDef) else None
        if owner is not None and isinstance(outer, cst.FunctionDef) and models.is_network_class(owner):
            first = [*outer.params.posonly_params, *outer.params.params][:1]
            kinds = {dotted(decorator.decorator) for decorator in outer.decorators}
            if first and not kinds & {"staticmethod", "classmethod"}:
                return first[0].name.value
    raise NoPatch(
        f"{code(call.func)} stands outside the methods of a module, so there is no mode to follow: "
        "pass the module's `training` to it"
    )


def _training(source: Source, call: cst.Call, module: str) -> tuple[cst.CSTNode, cst.CSTNode] | None:
    follows = f"{module}.training"
    given = argument(call, TRAINING_AT, "training", "train")
    if given is None:
        added = cst.Arg(
            cst.parse_expression(follows),
            keyword=cst.Name("training"),
            equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
        )
        return call, call.with_changes(args=_with(call, added))
    text = code(given.value)
    if follows in text:
        return None
    if text not in ALWAYS:
        raise NoPatch(f"{code(call.func)} at line {source.lines(call)[0]} is told by {text} whether to drop")
    return given.value, cst.parse_expression(follows)


def _with(call: cst.Call, added: cst.Arg) -> list[cst.Arg]:
    """Return a call's arguments with one more, laid out as they are: in a line, or each on its own."""
    *others, last = call.args
    between = others[-1].comma if others else None
    space = between.whitespace_after if isinstance(between, cst.Comma) else cst.SimpleWhitespace(" ")
    if not isinstance(last.comma, cst.Comma):
        ends = last.whitespace_after_arg
        comma = cst.Comma(whitespace_after=_uncommented(space))
        last = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
        return [*others, last, added.with_changes(whitespace_after_arg=ends)]
    end = last.comma.whitespace_after
    space = _uncommented(space)
    if isinstance(end, cst.ParenthesizedWhitespace) and isinstance(space, cst.ParenthesizedWhitespace):
        space = space.with_changes(first_line=end.first_line)
    trailing = last.comma.with_changes(whitespace_after=_uncommented(end))
    last = last.with_changes(comma=last.comma.with_changes(whitespace_after=space))
    return [*others, last, added.with_changes(comma=trailing)]


def _uncommented(space: cst.BaseParenthesizableWhitespace) -> cst.BaseParenthesizableWhitespace:
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return space
    return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])


def _probability(call: cst.Call, module: str) -> tuple[cst.CSTNode, cst.CSTNode] | None:
    given = argument(call, PROBABILITY_AT, "dropout_p")
    if given is None:
        raise NoPatch(f"{code(call.func)} is given no dropout_p")
    value = given.value
    text = code(value)
    if f"{module}.training" in text:
        return None
    if isinstance(value, cst.IfExp | cst.Lambda | cst.NamedExpr) and not value.lpar:
        value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return given.value, cst.IfExp(cst.parse_expression(f"{module}.training"), value, cst.Float("0.0"))
