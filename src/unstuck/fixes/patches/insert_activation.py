"""insert-activation: the patch for A004."""

from __future__ import annotations

from collections import Counter

import libcst as cst

from unstuck.findings import Finding, Place
from unstuck.fixes.patches.calls import Changes, called, made_by, spine, torch_name
from unstuck.fixes.patches.made import constructor, is_indexed, made_for, path_and_op, sequential
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, argument, dotted
from unstuck.fixes.patches.uses import reads

LAYERS = frozenset(
    {"Linear", "LazyLinear", "Bilinear", *(f"Conv{n}d" for n in "123"), *(f"LazyConv{n}d" for n in "123")}
)
FUNCTIONS = {  # class -> function
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Tanh": "tanh",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "LeakyReLU": "leaky_relu",
    "ReLU6": "relu6",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Softplus": "softplus",
}
CLASSES = {function: name for name, function in FUNCTIONS.items()}
IN_TORCH = frozenset({"relu", "tanh", "selu", "celu"})  # both in torch and in torch.nn.functional


class InsertActivation(Patcher):
    """Puts an activation function between two layers that are one linear map without it.

    ## What it does
    Adds the function after the first of the two layers: as a module in their `nn.Sequential`, or around the layer's
    call. It is the one that the file's networks use most, with its arguments, or ReLU where they use none.

    ## When it must not be used
    Where the product of two matrices is meant: a low-rank factorisation, a projection kept apart on purpose. Drop one
    of the layers there. Refused where the file takes modules of that `nn.Sequential` by number or loads weights, since
    the numbers behind it change, and in loops that run the output layer too.

    ## References
    - Deep Learning, section 6.4, https://www.deeplearningbook.org/contents/mlp.html
    - torch.nn, non-linear activations,
      https://docs.pytorch.org/docs/stable/nn.html#non-linear-activations-weighted-sum-nonlinearity
    """

    name = "insert-activation"
    code = "A004"
    summary = "put an activation function between the two layers"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Insert a module or wrap a call; raises NoPatch where the layer's call is not clear."""
        if len(finding.related) != 1:
            raise NoPatch("the finding does not say which layer follows")
        path = path_and_op(finding.site)[0].split(".")
        following = path_and_op(finding.related[0].site)[0].split(".")
        if path[-1].isdigit() and path[:-1] == following[:-1]:
            made = _in_sequential(source, finding)
            if made is not None:
                return source.replaced(_module_inserted(source, made))
        layer = _call(source, finding, path)
        return source.replaced({layer: _wrapped(source, layer)})


def _in_sequential(source: Source, finding: Finding) -> cst.Call | None:
    """Return the call that makes the layer as an argument of an `nn.Sequential`, None where it stands in no such."""
    if not any(torch_name(source, call) == "Sequential" for call in source.find(cst.Call)):
        return None
    try:
        place = Place(finding.site, finding.location)
        made = constructor(source, place, made_for(path_and_op(finding.site)[1], LAYERS), exact=True)
    except NoPatch:
        return None
    return made if sequential(source, made) is not None else None


def _module_inserted(source: Source, made: cst.Call) -> Changes:
    inside = sequential(source, made)
    assert inside is not None
    call, at = inside
    indexed = is_indexed(source, made, forward=True)
    loads = [source.lines(other)[0] for other in source.find(cst.Call) if called(other) == "load_state_dict"]
    if indexed is not None or loads:
        raise NoPatch(f"line {indexed or loads[0]} counts on the numbers of the modules behind this layer")
    before = call.args[at]
    if not isinstance(before.comma, cst.Comma):
        raise NoPatch("no layer follows in this nn.Sequential")
    added = cst.Arg(_module(source), comma=cst.Comma(whitespace_after=_break(before.comma)))
    return {call: call.with_changes(args=[*call.args[: at + 1], added, *call.args[at + 1 :]])}


def _break(comma: cst.Comma) -> cst.BaseParenthesizableWhitespace:
    """Return the space after a comma, without a comment that stands in it."""
    space = comma.whitespace_after
    if isinstance(space, cst.ParenthesizedWhitespace):
        return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])
    return space


def _usual(source: Source) -> tuple[str, cst.Call | None]:
    """Return the activation function that the file's networks use most, and a call of it or of its class."""
    uses: Counter[str] = Counter()
    examples: dict[str, cst.Call] = {}
    for call in source.find(cst.Call):
        name = torch_name(source, call)
        if name in CLASSES and source.enclosing(call, cst.ClassDef) is None:
            continue  # outside the networks, such as in the making of data
        function = FUNCTIONS.get(name, name)
        if function in CLASSES:
            uses[function] += 1
            examples.setdefault(function, call)
    function = uses.most_common(1)[0][0] if uses else "relu"
    return function, examples.get(function)


def _module(source: Source) -> cst.BaseExpression:
    function, example = _usual(source)
    if example is not None and torch_name(source, example) in FUNCTIONS:
        return cst.ensure_type(example.deep_clone(), cst.Call)
    return cst.Call(_reference(source, f"torch.nn.{CLASSES[function]}"))


def _wrapped(source: Source, layer: cst.BaseExpression) -> cst.BaseExpression:
    """Return the activation function of a layer's output."""
    function, example = _usual(source)
    value = layer.with_changes(lpar=[], rpar=[]) if source.lines(layer)[0] == source.lines(layer)[1] else layer
    if example is not None and torch_name(source, example) == function:
        rest = [cst.ensure_type(given.deep_clone(), cst.Arg) for given in example.args[1:]]
        func = cst.parse_expression(dotted(example.func))
        return cst.Call(func, [cst.Arg(value), *rest])
    return cst.Call(_reference(source, f"torch.nn.functional.{function}"), [cst.Arg(value)])


def _reference(source: Source, name: str) -> cst.BaseExpression:
    """Return how the file can write a name of torch's, after what it imports."""
    bound: dict[str, str] = {}  # what is imported -> how it is called
    for statement in source.find(cst.Import):
        for alias in statement.names:
            top = alias.evaluated_name if alias.asname else alias.evaluated_name.partition(".")[0]
            bound[top] = alias.evaluated_alias or top
    for origin in source.find(cst.ImportFrom):
        if origin.module is not None and not isinstance(origin.names, cst.ImportStar):
            for alias in origin.names:
                bound[f"{dotted(origin.module)}.{alias.evaluated_name}"] = alias.evaluated_alias or alias.evaluated_name
    parts = name.split(".")
    if parts[-1] in IN_TORCH and "torch.nn.functional" not in bound and "torch" in bound:
        return cst.parse_expression(f"{bound['torch']}.{parts[-1]}")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in bound:
            return cst.parse_expression(".".join([bound[prefix], *parts[length:]]))
    raise NoPatch(f"the file imports nothing to call {name} by")


def _call(source: Source, finding: Finding, path: list[str]) -> cst.BaseExpression:
    """Return the expression at the finding's line that is the layer's output."""
    assert finding.location is not None
    line = finding.location.line
    found: list[cst.BaseExpression] = [call for call in source.calls_at(line) if _runs(source, call, path)]
    found = found or _products(source, line, path[-1])
    for end in range(len(path) - 1, 0, -1):  # the module that the layer is the last of
        found = found or [call for call in source.calls_at(line) if _runs(source, call, path[:end])]
    if not found:
        unnamed = [call for call in source.calls_at(line) if made_by(source, call, LAYERS) is not None]
        found = [*(call for call in unnamed if _taken_by(source, call) in unnamed)] or [*unnamed]
    if len(found) != 1:
        raise NoPatch(f"the call of {finding.site} cannot be made out at line {line}")
    return found[0]


def _runs(source: Source, call: cst.Call, path: list[str]) -> bool:
    if torch_name(source, call) == "linear":
        weight = argument(call, 1, "weight")
        return weight is not None and dotted(weight.value).rpartition(".")[2] == path[-1]
    if isinstance(call.func, cst.Subscript):
        index = call.func.slice[0].slice
        number = index.value if isinstance(index, cst.Index) else None
        owner = dotted(call.func.value).rpartition(".")[2]
        return owner in path[-2:-1] and isinstance(number, cst.Integer) and number.value == path[-1]
    name = dotted(call.func)
    if path[-1].isdigit():
        return name != "" and _is_loop_over(source, call, name, path)
    return name != "" and name in (f"self.{path[-1]}", path[-1])


def _is_loop_over(source: Source, call: cst.Call, name: str, path: list[str]) -> bool:
    """Tell whether a call runs each layer of the list that holds this one; refuse where the output layer is one."""
    for loop in source.around(call):
        if not isinstance(loop, cst.For) or dotted(loop.target) != name:
            continue
        if path[-2:-1] != [dotted(loop.iter).rpartition(".")[2]]:
            return False
        for holder in spine(source, call)[-1:]:
            target = dotted(holder.targets[0].target) if isinstance(holder, cst.Assign) else ""
            after = [node for node in reads(source, target, call) if source.lines(node)[0] > source.lines(loop)[1]]
            if any(isinstance(spine(source, node)[-1], cst.Return) for node in after):
                raise NoPatch(f"the loop at line {source.lines(loop)[0]} runs the output layer too")
        return True
    return False


def _products(source: Source, line: int, weight: str) -> list[cst.BaseExpression]:
    """Return what is made on a line by multiplying with a weight held by hand, the addition of a bias included."""
    found: list[cst.BaseExpression] = []
    for product in source.find(cst.BinaryOperation):
        first, last = source.lines(product)
        own = isinstance(product.operator, cst.MatrixMultiply) and dotted(product.right) == weight
        if own and first <= line <= last:
            outer = source.parent(product)
            biased = isinstance(outer, cst.BinaryOperation) and isinstance(outer.operator, cst.Add)
            found.append(outer if biased and isinstance(outer, cst.BinaryOperation) else product)
    return found


def _taken_by(source: Source, call: cst.Call) -> cst.CSTNode | None:
    given = source.parent(call)
    return source.parent(given) if isinstance(given, cst.Arg) else None
