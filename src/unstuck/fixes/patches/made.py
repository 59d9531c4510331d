"""Where the file makes the module that a site's label names, and what stands beside it."""

from __future__ import annotations

import re
from collections.abc import Collection

import libcst as cst

from unstuck.findings import Place
from unstuck.fixes.patches.calls import torch_name
from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, dotted

LABEL = re.compile(r"(?:(?P<path>\S+) \()?(?P<op>\w+)\)?(?: #\d+)?$")


def path_and_op(label: str) -> tuple[str, str]:
    """Return the module path (or a variable's name) and the torch function of a site's label."""
    found = LABEL.match(label)
    return (found["path"] or "", found["op"]) if found else ("", "")


def made_for(op: str, classes: Collection[str]) -> set[str]:
    """Return those of the classes whose modules call this torch function: "Conv2d" and "LazyConv2d" for "conv2d"."""
    return {name for name in classes if name.lower().removeprefix("lazy") == op.replace("_", "")}


def constructor(source: Source, place: Place, classes: Collection[str], *, exact: bool = False) -> cst.Call:
    """Return the one call of torch's classes that makes the module which `place` names.

    Where several do, the place's path decides: the index in an `nn.Sequential`, or the attribute's name and the class
    that the line stands in. With `exact` the path has to fit even where only one call makes such a module. Raises
    NoPatch when no call is left, or more than one.
    """
    made = [call for call in source.find(cst.Call) if torch_name(source, call) in classes]
    path = path_and_op(place.site)[0].split(".")
    fitting = [call for call in made if _fits(source, call, path, place)]
    if len(fitting) > 1 and len(path) > 1:
        named = [call for call in fitting if container_name(source, call).endswith(path[-2])]
        fitting = named or fitting
    candidates = fitting if exact or fitting else made
    kinds = " or ".join(f"nn.{name}" for name in sorted(classes)) if 0 < len(classes) < 4 else "layer"
    if not candidates:
        raise NoPatch(f"no {kinds} that {place.site} could be is made in this file")
    if len(candidates) > 1:
        lines = ", ".join(str(source.lines(call)[0]) for call in candidates)
        raise NoPatch(f"{place.site} may be any of those made at lines {lines}")
    return candidates[0]


def sequential(source: Source, made: cst.CSTNode) -> tuple[cst.Call, int] | None:
    """Return the `nn.Sequential(...)` whose argument this is and its index there, or None."""
    given = source.parent(made)
    call = source.parent(given) if isinstance(given, cst.Arg) else None
    if not isinstance(call, cst.Call) or torch_name(source, call) != "Sequential":
        return None
    if any(other.star for other in call.args):
        return None
    return call, next(at for at, other in enumerate(call.args) if other is given)


def container_name(source: Source, made: cst.CSTNode) -> str:
    """Return the name that the `nn.Sequential(...)` around a module is bound to, "" if to none."""
    inside = sequential(source, made)
    holder = source.parent(inside[0]) if inside else None
    return dotted(holder.targets[0].target) if isinstance(holder, cst.Assign) else ""


def is_indexed(source: Source, made: cst.CSTNode, *, forward: bool = False) -> int | None:
    """Return a line that takes modules out of the `nn.Sequential` around `made` by number, or None.

    From its end, or with `forward` from either side. Where the container has no name, any such line of the file counts.
    """
    name = container_name(source, made).rpartition(".")[2]
    for subscript in source.find(cst.Subscript):
        if name and dotted(subscript.value).rpartition(".")[2] != name:
            continue
        if not name and not dotted(subscript.value):
            continue
        if len(subscript.slice) == 1 and _counts(source, subscript.slice[0], forward=forward):
            return source.lines(subscript)[0]
    return None


def _counts(source: Source, element: cst.SubscriptElement, *, forward: bool) -> bool:
    negative = bool(source.find(cst.Minus, element))
    if isinstance(element.slice, cst.Slice):
        return negative or forward
    number = isinstance(element.slice, cst.Index) and isinstance(element.slice.value, cst.Integer | cst.UnaryOperation)
    return number and (negative or forward)


def _fits(source: Source, call: cst.Call, path: list[str], place: Place) -> bool:
    inside = sequential(source, call)
    if path[-1].isdigit():
        return inside is not None and inside[1] == int(path[-1])
    holder = source.parent(call)
    if not isinstance(holder, cst.Assign):
        return False
    name = dotted(holder.targets[0].target)
    if name == path[-1]:
        return True
    around = source.enclosing(call, cst.ClassDef)
    function = place.location.function if place.location else ""
    owner = function.rpartition(".")[0].rpartition(".")[2]
    return name == f"self.{path[-1]}" and (not owner or around is None or around.name.value == owner)
