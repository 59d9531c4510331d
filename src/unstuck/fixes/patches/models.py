"""Which names of a file stand for networks, and which networks a piece of it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import libcst as cst

from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.source import Source, dotted

Key = tuple[object, str]
SAME = frozenset({"to", "cuda", "cpu", "float", "half", "double", "bfloat16", "train", "eval", "requires_grad_"})
WRAPPERS = frozenset({"torch.compile", "torch.jit.script", "torch.fx.symbolic_trace", "copy.deepcopy"})
ONLY_NETWORKS_HAVE = frozenset({"parameters", "named_parameters", "state_dict", "load_state_dict"})
NOT_RUNNING = ONLY_NETWORKS_HAVE | SAME | {"zero_grad", "buffers", "modules", "named_modules", "children", "apply"}
OTHERS_HAVE = ("torch.optim", "optim")


class Models:
    """The variables, parameters and attributes of a file that hold a `torch.nn.Module`, as far as the file shows."""

    def __init__(self, source: Source, flow: Flow) -> None:
        self.source = source
        self.flow = flow
        self._held: set[Key] = set()
        for function in flow.functions:
            self._take_annotations(function)
        for call in source.find(cst.Call):
            func = call.func
            if not isinstance(func, cst.Attribute) or flow.callee(call) is not None:
                continue
            if func.attr.value in ("parameters", "named_parameters") or (func.attr.value == "eval" and not call.args):
                self._hold(func.value)
        while self._spread():
            pass

    def is_network_class(self, found: cst.ClassDef) -> bool:
        """Tell whether a class is a `torch.nn.Module`; of classes from elsewhere, whether it has a `forward`."""
        if not found.bases:
            return False
        for base in found.bases:
            names = self.source.qualified(base.value)
            inner = self.flow.classes.get(dotted(base.value))
            if any(name.startswith("torch.nn.") for name in names):
                return True
            if inner is not None and inner is not found and self.is_network_class(inner):
                return True
        bases = [base.value for base in found.bases if dotted(base.value) not in self.flow.classes]
        elsewhere = any(not n.startswith("builtins.") for base in bases for n in self.source.qualified(base))
        return elsewhere and any(f.name.value == "forward" for f in self.flow.functions if self.flow.owner(f) is found)

    def key(self, node: cst.CSTNode) -> Key | None:
        """Return what tells the variable apart that an expression names; None for other expressions."""
        name = dotted(node)
        if name.startswith("self."):
            return (self.source.enclosing(node, cst.ClassDef), name) if name.count(".") == 1 else None
        if not name or "." in name:
            return None
        scope = self.source.scope(node)
        found = [assigned.scope for assigned in scope[name]] if scope is not None else []
        return (found[0] if found else None, name)

    def is_network(self, node: cst.CSTNode) -> bool:
        """Tell whether an expression is a network."""
        if isinstance(node, cst.Call):
            return self._makes_network(node)
        if dotted(node) == "self":
            within = self.source.enclosing(node, cst.ClassDef)
            return within is not None and self.is_network_class(within)
        return self.key(node) in self._held

    def run_by(self, node: cst.CSTNode, without: Collection[cst.FunctionDef] = ()) -> list[str]:
        """Return the networks that a piece of the file runs, as it would name them; `without` functions that it calls.

        Inside a network's own methods this is "self".
        """
        return list(dict.fromkeys(self._runs(node, frozenset(without))))

    def _runs(self, node: cst.CSTNode, seen: frozenset[cst.FunctionDef]) -> Iterator[str]:
        for call in self.source.find(cst.Call, node):
            func = call.func
            if isinstance(func, cst.Name | cst.Attribute) and self.is_network(func):
                yield self._outermost(func)
                continue
            callee = self.flow.callee(call)
            if callee is not None:
                if callee not in seen and callee.name.value != "__init__":
                    yield from self._translated(call, callee, self._runs(callee.body, seen | {callee}))
                continue
            if isinstance(func, cst.Attribute) and self.is_network(func.value):
                if func.attr.value not in NOT_RUNNING:
                    yield self._outermost(func.value)
                continue
            torchs = any(name.startswith(("torch.", *OTHERS_HAVE)) for name in self.source.qualified(func))
            if not torchs and dotted(func) not in ("id", "type", "print", "isinstance", "getattr", "setattr"):
                yield from (self._outermost(a.value) for a in call.args if dotted(a.value) and self.is_network(a.value))

    def _outermost(self, node: cst.CSTNode) -> str:
        name = dotted(node)
        within = self.source.enclosing(node, cst.ClassDef)
        inside = name.startswith("self") and within is not None and self.is_network_class(within)
        return "self" if inside else name

    def _translated(self, call: cst.Call, callee: cst.FunctionDef, names: Iterator[str]) -> Iterator[str]:
        receiver = dotted(call.func).rpartition(".")[0]
        given = {parameter: dotted(argument) for parameter, argument in self._bound(call, callee)}
        local = {dotted(t.target) for a in self.source.find(cst.Assign, callee) for t in a.targets}
        for name in names:
            first, _, rest = name.partition(".")
            if first == "self":
                if receiver:
                    yield ".".join(part for part in (receiver, rest) if part)
            elif name in given:
                if given[name]:
                    yield given[name]
            elif name not in local:
                yield name

    def _bound(self, call: cst.Call, callee: cst.FunctionDef) -> Iterator[tuple[str, cst.BaseExpression]]:
        parameters = [parameter.name.value for parameter in (*callee.params.posonly_params, *callee.params.params)]
        if self.flow.owner(callee) is not None and parameters[:1] == ["self"]:
            parameters = parameters[1:]
        for position, given in enumerate(call.args):
            if given.star:
                return
            if given.keyword is not None:
                yield given.keyword.value, given.value
            elif position < len(parameters):
                yield parameters[position], given.value

    def _makes_network(self, call: cst.Call) -> bool:
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in SAME and self.is_network(call.func.value):
            return True
        made = self.flow.classes.get(dotted(call.func))
        if made is not None:
            return self.is_network_class(made)
        names = self.source.qualified(call.func)
        if names & WRAPPERS:
            return bool(call.args) and self.is_network(call.args[0].value)
        if any(name.startswith("torchvision.models.") or name == "timm.create_model" for name in names):
            return True
        return any(n.startswith("torch.nn.") and n.rpartition(".")[2][:1].isupper() for n in names) and not any(
            n.endswith("Loss") or ".Parameter" in n for n in names
        )

    def _hold(self, node: cst.CSTNode) -> bool:
        key = self.key(node)
        if key is None or key in self._held or dotted(node) == "self":
            return False
        self._held.add(key)
        return True

    def _take_annotations(self, function: cst.FunctionDef) -> None:
        for parameter in (*function.params.params, *function.params.kwonly_params):
            if parameter.annotation is None:
                continue
            kind = parameter.annotation.annotation
            own = self.flow.classes.get(dotted(kind))
            names = self.source.qualified(kind)
            if (own is not None and self.is_network_class(own)) or names & {"torch.nn.Module", "torch.nn.Sequential"}:
                self._hold(parameter.name)

    def _spread(self) -> bool:
        """Follow assignments and arguments one step further; tell whether that found another."""
        grew = False
        for assign in self.source.find(cst.Assign):
            for target in assign.targets:
                for place, value in _pairs(target.target, assign.value):
                    grew |= self.is_network(value) and self._hold(place)
        for call in self.source.find(cst.Call):
            callee = self.flow.callee(call)
            if callee is None:
                continue
            parameters = {p.name.value: p.name for p in (*callee.params.params, *callee.params.kwonly_params)}
            for name, value in self._bound(call, callee):
                grew |= name in parameters and self.is_network(value) and self._hold(parameters[name])
        return grew


def _pairs(
    target: cst.BaseExpression, value: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    if isinstance(target, cst.Tuple | cst.List):
        values: list[cst.BaseExpression] = []
        if isinstance(value, cst.Tuple | cst.List):
            values = [element.value for element in value.elements]
        elif isinstance(value, cst.Call) and dotted(value.func).endswith((".prepare", ".setup", ".initialize")):
            values = [given.value for given in value.args]
        if len(values) == len(target.elements):
            for element, part in zip(target.elements, values, strict=True):
                yield from _pairs(element.value, part)
    else:
        yield target, value
