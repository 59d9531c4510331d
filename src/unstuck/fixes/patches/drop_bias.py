"""drop-bias: the patch for N001."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding, Place
from unstuck.fixes.patches.calls import Changes, called, torch_name
from unstuck.fixes.patches.dropping import removed_statement
from unstuck.fixes.patches.made import constructor, made_for, path_and_op
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, argument, dotted

BIAS_AT = {  # its position among the arguments of the class: https://docs.pytorch.org/docs/stable/nn.html
    "Linear": 2,
    "Conv1d": 7,
    "Conv2d": 7,
    "Conv3d": 7,
    "ConvTranspose1d": 7,
    "ConvTranspose2d": 7,
    "ConvTranspose3d": 7,
}
FUNCTIONS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})


class DropBias(Patcher):
    """Builds the layer before a batch normalisation without a bias.

    ## What it does
    Gives `bias=False` to the `nn.Linear` or `nn.Conv` that makes the layer. For tensors held by hand the bias is taken
    out of the layer's line (`F.linear(x, w, b)`, `x @ w + b`), out of the lists it stands in, and its own line goes.

    ## When it must not be used
    Where weights are loaded that hold the bias: their keys would no longer fit; fold it into the running mean instead
    (`fold-bias-into-norm`). Where one line of the file makes layers of which a norm follows only some: the others would
    lose a bias that they need. Refused where the file loads a state, and where it reads the bias elsewhere (to
    initialise it, say) without asking whether there is one.

    ## References
    - Batch Normalization, section 3.2, https://arxiv.org/abs/1502.03167
    - Performance tuning guide, disable bias for convolutions directly followed by a batch norm,
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    name = "drop-bias"
    code = "N001"
    summary = "drop the bias that batch normalisation subtracts again"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Drop the bias of a layer, or one held by hand; raises NoPatch where something else needs it."""
        for call in source.find(cst.Call):
            if called(call) == "load_state_dict":
                raise NoPatch(f"line {source.lines(call)[0]} loads weights, which may hold the bias")
        bias = _by_hand(source, finding)
        return source.replaced(_layer_without(source, finding) if bias is None else _tensor_dropped(source, *bias))


def _layer_without(source: Source, finding: Finding) -> Changes:
    path, op = path_and_op(finding.site)
    made = constructor(source, Place(finding.site, finding.location), made_for(op, BIAS_AT), exact=True)
    _check_reads(source, path.rpartition(".")[2])
    if any(given.star for given in made.args):
        raise NoPatch(f"line {source.lines(made)[0]} passes arguments on, among which may be the bias")
    given = argument(made, BIAS_AT[torch_name(source, made)], "bias")
    if given is not None:
        return {given: given.with_changes(value=cst.Name("False"))}
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    added = cst.Arg(cst.Name("False"), cst.Name("bias"), equal)
    return {made: made.with_changes(args=_with_last(list(made.args), added))}


def _with_last(args: list[cst.Arg], added: cst.Arg) -> list[cst.Arg]:
    """Return a call's arguments and one more, on a line of its own if each of them is; comments stay on their lines."""
    *others, last = args
    comma = last.comma
    between = others[-1].comma if others else comma
    if not isinstance(comma, cst.Comma) or not isinstance(between, cst.Comma):
        comma, between = last.comma, cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    old, new = getattr(comma, "whitespace_after", None), between.whitespace_after
    if isinstance(comma, cst.Comma) and isinstance(old, cst.ParenthesizedWhitespace):
        if isinstance(new, cst.ParenthesizedWhitespace):
            between = between.with_changes(whitespace_after=new.with_changes(first_line=old.first_line))
        comma = comma.with_changes(whitespace_after=old.with_changes(first_line=cst.TrailingWhitespace()))
    added = added.with_changes(comma=comma, whitespace_after_arg=last.whitespace_after_arg)
    return [*others, last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace("")), added]


def _check_reads(source: Source, layer: str) -> None:
    """Refuse where the file reads `.bias` of this layer, or of one it does not name, without asking for None first."""
    for node in source.find(cst.Attribute):
        owner = dotted(node.value).split(".")
        if node.attr.value != "bias" or (owner[0] == "self" and owner[-1] != layer) or _asks_first(source, node):
            continue
        raise NoPatch(f"line {source.lines(node)[0]} uses a bias, perhaps this one")


def _asks_first(source: Source, node: cst.Attribute) -> bool:
    tests = [outer.test for outer in source.around(node) if isinstance(outer, cst.If | cst.IfExp | cst.While)]
    return any(inner.attr.value == "bias" for test in tests for inner in source.find(cst.Attribute, test))


def _by_hand(source: Source, finding: Finding) -> tuple[str, Changes] | None:
    """Return the name of the tensor that is the bias, and the layer's line without it; None where it is a module's."""
    assert finding.location is not None
    line = finding.location.line
    weight = path_and_op(finding.site)[0]
    for call in source.calls_at(line):
        if torch_name(source, call) in FUNCTIONS:
            given, own = argument(call, 2, "bias"), argument(call, 1, "weight")
            if given is None or own is None or dotted(own.value) != weight:
                continue
            return dotted(given.value), {call: call.with_changes(args=_without(call, given))}
    for total in source.find(cst.BinaryOperation):
        product, (first, last) = total.left, source.lines(total)
        biased = isinstance(total.operator, cst.Add) and isinstance(product, cst.BinaryOperation)
        if not biased or not first <= line <= last or not isinstance(product, cst.BinaryOperation):
            continue
        if isinstance(product.operator, cst.MatrixMultiply) and dotted(product.right) == weight and dotted(total.right):
            kept = product.with_changes(lpar=[*total.lpar, *product.lpar], rpar=[*product.rpar, *total.rpar])
            return dotted(total.right), {total: kept}
    return None


def _without(call: cst.Call, given: cst.Arg) -> list[cst.Arg]:
    """Return a call's arguments without one; None takes its place where others are counted after it."""
    args = list(call.args)
    at = args.index(given)
    if given.keyword is None and any(other.keyword is None for other in args[at + 1 :]):
        args[at] = given.with_changes(value=cst.Name("None"))
        return args
    del args[at]
    if at == len(args):
        args[-1] = args[-1].with_changes(comma=given.comma, whitespace_after_arg=given.whitespace_after_arg)
    return args


def _tensor_dropped(source: Source, name: str, changes: Changes) -> Changes:
    """Add the changes that take a tensor out of the lists it stands in and remove the line that makes it."""
    made = source.assignments(name)
    if "." in name or len(made) != 1 or len(made[0].targets) != 1:
        raise NoPatch(f"where the bias {name or 'of this layer'} is made is not clear")
    gone = removed_statement(source, made[0])
    if gone is None:
        raise NoPatch(f"line {source.lines(made[0])[0]}, which makes {name}, says more than that")
    changes = {**changes, **gone}
    lists: dict[cst.List | cst.Tuple, set[cst.CSTNode]] = {}
    for node in source.find(cst.Name):
        holder = source.parent(node)
        if node.value != name or any(outer in changes for outer in source.around(node)):
            continue
        display = source.parent(holder) if isinstance(holder, cst.Element) else None
        if not isinstance(display, cst.List | cst.Tuple) or not _in_order_only(source, display):
            raise NoPatch(f"line {source.lines(node)[0]} uses {name} too")
        lists.setdefault(display, set()).add(cst.ensure_type(holder, cst.Element))
    for display, elements in lists.items():
        kept = [element for element in display.elements if element not in elements]
        if len(kept) < 2:
            raise NoPatch(f"line {source.lines(display)[0]} would be left with {len(kept)} parameters")
        if display.elements[-1] in elements:
            kept[-1] = kept[-1].with_changes(comma=display.elements[-1].comma)
        changes[display] = display.with_changes(elements=kept)
    return changes


def _in_order_only(source: Source, display: cst.List | cst.Tuple) -> bool:
    """Tell whether a list is only gone through: not unpacked into names, and nothing taken out by number."""
    holder = source.parent(display)
    if isinstance(holder, cst.For | cst.CompFor | cst.Arg):
        return True
    if not isinstance(holder, cst.Assign) or len(holder.targets) != 1:
        return False
    name = dotted(holder.targets[0].target)
    taken = [node for node in source.find(cst.Subscript) if dotted(node.value) == name]
    unpacked = [a for a in source.find(cst.Assign) if dotted(a.value) == name and not dotted(a.targets[0].target)]
    return bool(name) and not taken and not unpacked
