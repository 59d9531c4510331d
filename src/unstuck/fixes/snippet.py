"""How parameters and modules are called in the lines that a fix gives to copy.

A tensor that belongs to no module keeps the name of its variable. A module's parameter is asked for by its dotted name,
which is no Python where an `nn.Sequential` counts its entries ("0.weight"): `model.get_parameter("0.weight")`. Beside
the first tree of modules the names of another one begin with its class ("Linear-2.weight"), and it is called so in
small letters: `linear_2.get_parameter("weight")`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from unstuck.trace import Kind, Trace

OTHER_TREE = re.compile(r"(?:[A-Z]\w*[a-z]\w*|\w+-\d+)")  # the class that stands before the names of a further tree


def parameter(trace: Trace, name: str) -> str:
    """Return Python that gives the parameter which the trace calls `name`."""
    sites = [site for site in trace.of_kind(Kind.PARAMETER) if site.label == name]
    if sites and not sites[0].path:
        return name.replace(" ", "_")
    if sites and sites[0].variable:
        return name
    tree, path = _tree(name)
    return f'{tree}.get_parameter("{path}")'


def parameters(trace: Trace, names: Iterable[str]) -> tuple[str, ...]:
    """Return the same for several."""
    return tuple(parameter(trace, name) for name in names)


def module(path: str) -> str:
    """Return Python that gives the module at a path below the model."""
    return f'model.get_submodule("{path}")'


def held(trace: Trace, name: str) -> str:
    """Return Python to assign to: the parameter that the trace calls `name`."""
    code = parameter(trace, name)
    if not code.endswith(")"):
        return code
    tree, path = _tree(name)
    path, _, attribute = path.rpartition(".")
    return f'{tree}.get_submodule("{path}").{attribute}'


def multiplied(codes: Iterable[str], factor: float) -> list[str]:
    """Return lines that multiply each of the parameters which `codes` give."""
    return [f"{c}.data.mul_({factor:.6g})" if c.endswith(")") else f"{c}.data *= {factor:.6g}" for c in codes]


def _tree(name: str) -> tuple[str, str]:
    first, dot, rest = name.partition(".")
    if dot and OTHER_TREE.fullmatch(first):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", first).lower().replace("-", "_"), rest
    return "model", name
