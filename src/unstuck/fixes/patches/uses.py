"""Whether a file takes what its network puts out for probabilities somewhere."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
import torch

from unstuck.fixes.patches.calls import called, spine, torch_name
from unstuck.fixes.patches.source import Source, dotted

ORDER_ALONE = frozenset({"argmax", "argmin", "argsort", "topk", "shape", "size", "dim", "device", "dtype"})
WANT_PROBABILITIES = frozenset(
    """
    log log2 log10 round bernoulli multinomial entropy Categorical Bernoulli binary_cross_entropy BCELoss
    brier_score_loss log_loss roc_auc_score
    """.split()
)

STATISTICS = frozenset({"max", "amax", "min", "amin", "mean", "sum", "median", "std"})
WITH_INDICES = frozenset({"max", "min", "median", "topk"})

KEEP = frozenset({"softmax", "sigmoid", "squeeze", "unsqueeze", "flatten", "reshape"})


def probability_use(source: Source, line: int) -> int | None:
    """Return a line that takes the network's output for probabilities, given the line of its loss; None if none does.

    The output is what the calls return that stand in the loss's first argument, and what is assigned or returned of
    it; a network that is handed to a function is followed there.
    It is taken for probabilities where it is compared with a number between 0 and 1, rounded, sampled from, subtracted
    from 1, put through a logarithm or into a loss that wants them; and where its largest values (not which they are),
    its mean or the like are taken, or it is printed.
    """
    networks = _networks(source, line)
    seen: set[str] = set()
    while networks - seen:
        networks = networks | _other_names(source, networks)
        seen |= networks
        for value in _values(source, networks):
            outer = spine(source, value)
            is_network = isinstance(value, cst.Name) and value.value in networks  # what its class has made
            looked_at = not is_network and _is_looked_at(source, outer)
            if looked_at or any(wants_probabilities(source, node) for node in outer):
                return source.lines(value)[0]
            if isinstance(outer[-1], cst.Return) and not _only_order(outer):
                function = source.enclosing(value, cst.FunctionDef)
                networks = networks | (
                    {function.name.value} if function and function.name.value != "forward" else set()
                )
    return None


def wants_probabilities(source: Source, node: cst.CSTNode) -> bool:
    """Tell whether a node takes a value within it for a probability."""
    if isinstance(node, cst.Attribute):
        return node.attr.value in WANT_PROBABILITIES
    if isinstance(node, cst.Arg):
        taker = source.parent(node)
        return isinstance(taker, cst.Call) and called(taker) in WANT_PROBABILITIES
    if isinstance(node, cst.ComparisonTarget):
        node = source.parent(node) or node
    if isinstance(node, cst.Comparison):
        sides = [node.left, *(target.comparator for target in node.comparisons)]
        return any(isinstance(side, cst.Float) and 0 < side.evaluated_value < 1 for side in sides)
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Subtract):
        return isinstance(node.left, cst.Integer | cst.Float) and float(node.left.evaluated_value) == 1
    return False


def _is_looked_at(source: Source, outer: list[cst.CSTNode]) -> bool:
    """Tell whether the size of a value is looked at, given its spine: printed, or a statistic taken of it.

    Which class is the largest one is the same without a softmax; that alone is no such use.
    """
    for at, node in enumerate(outer):
        following = outer[at + 2 :]  # what takes the method's result
        if isinstance(node, cst.Attribute):
            name = node.attr.value
        elif isinstance(node, cst.Arg) and isinstance(taker := source.parent(node), cst.Call) and taker.args[0] is node:
            name, following = torch_name(source, taker), spine(source, taker)
            if called(taker) == "print" and isinstance(taker.func, cst.Name):
                return True
        else:
            if isinstance(node, cst.FormattedStringExpression):
                return True
            continue
        if name in WITH_INDICES:
            return _takes_values(source, following)
        if name in STATISTICS:
            return True
        if name in ORDER_ALONE:
            return False
    return False


def _takes_values(source: Source, following: list[cst.CSTNode]) -> bool:
    """Tell whether the values are used, not the indices alone, of what takes both; no where it is not seen."""
    node = following[0] if following else None
    if isinstance(node, cst.Attribute):
        return node.attr.value != "indices"
    if isinstance(node, cst.Subscript):
        return source.module.code_for_node(node.slice[0].slice) == "0"
    target = node.targets[0].target if isinstance(node, cst.Assign) else None
    if isinstance(target, cst.Tuple) and isinstance(held := target.elements[0].value, cst.Name):
        return any(read is not held for read in reads(source, held.value, node or held))
    return False


def threshold_at_half(source: Source) -> int | None:
    """Return a line that compares something which is not random with one half, or rounds it; None if none does."""
    for comparison in source.find(cst.Comparison):
        sides = [comparison.left, *(target.comparator for target in comparison.comparisons)]
        drawn = any(called(call).startswith("rand") for call in source.find(cst.Call, comparison))
        if not drawn and any(isinstance(side, cst.Float) and side.evaluated_value == 0.5 for side in sides):
            return source.lines(comparison)[0]
    rounds = (call for call in source.find(cst.Call) if called(call) == "round" and dotted(call.func) != "round")
    return next((source.lines(call)[0] for call in rounds), None)


def reads(source: Source, name: str, near: cst.CSTNode) -> list[cst.Name]:
    """Return where a variable is read in the function (or the file's own lines) that `near` stands in."""
    function = source.enclosing(near, cst.FunctionDef)
    return [
        node
        for node in source.find(cst.Name, function)
        if node.value == name and source.enclosing(node, cst.FunctionDef) is function and _is_read(source, node)
    ]


def _is_read(source: Source, node: cst.Name) -> bool:
    outer = source.parent(node)
    if isinstance(outer, cst.Attribute):
        return outer.value is node
    if isinstance(outer, cst.Arg):
        return outer.value is node
    return not isinstance(outer, cst.AssignTarget | cst.Param | cst.ImportAlias | cst.FunctionDef | cst.ClassDef)


def _networks(source: Source, line: int) -> set[str]:
    calls = [call for call in source.calls_at(line) if call.args]
    if not calls:
        return set()
    scores = calls[0].args[0].value
    found = _callees(source, scores)
    for name in source.find(cst.Name, scores):
        function = source.enclosing(name, cst.FunctionDef)
        for assign in source.assignments(name.value, function):
            found |= _callees(source, assign.value)
    return found


def _callees(source: Source, value: cst.CSTNode) -> set[str]:
    names = {called(call) for call in source.find(cst.Call, value) if not torch_name(source, call)}
    return {name for name in names if name and not hasattr(torch.Tensor, name)}


def _other_names(source: Source, networks: set[str]) -> set[str]:
    """Return the parameters that networks are handed to functions of the file as, and what they are called outside."""
    functions = {function.name.value: function for function in source.find(cst.FunctionDef)}
    pairs: list[set[str]] = []
    for call in source.find(cst.Call):
        function = functions.get(called(call))
        if function is not None:
            names = [parameter.name.value for parameter in function.params.params]
            names = names[1:] if names[:1] == ["self"] else names
            plain = [dotted(given.value).rpartition(".")[2] for given in call.args if given.keyword is None]
            pairs += [{name, given} for name, given in zip(names, plain, strict=False) if given]
            pairs += [{g.keyword.value, dotted(g.value).rpartition(".")[2]} for g in call.args if g.keyword is not None]
    return {name for pair in pairs if pair & networks for name in pair if name}


def _values(source: Source, networks: set[str]) -> Iterator[cst.BaseExpression]:
    """Yield the calls of networks, and where the variables are read that hold what they return."""
    for network in source.find(cst.Call):
        for call in _passed_on(source, network) if called(network) in networks else ():
            yield call
            outer = spine(source, call)
            holder = outer[-1] if outer else None
            if isinstance(holder, cst.Assign) and not _only_order(outer):
                for target in holder.targets:
                    yield from reads(source, dotted(target.target), call) if dotted(target.target) else ()


def _passed_on(source: Source, call: cst.Call) -> Iterator[cst.Call]:
    """Yield a call, and those of functions around it that keep what is a probability one, or make it one."""
    yield call
    outer = spine(source, call)
    taker = source.parent(outer[-1]) if outer and isinstance(outer[-1], cst.Arg) else None
    if isinstance(taker, cst.Call) and torch_name(source, taker) in KEEP:
        yield from _passed_on(source, taker)


def _only_order(outer: list[cst.CSTNode]) -> bool:
    return any(isinstance(node, cst.Attribute) and node.attr.value in ORDER_ALONE for node in outer)
