"""In which order a file's statements run, across its functions: which call leads where."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from unstuck.fixes.patches.source import Source, dotted

Block = cst.IndentedBlock | cst.Module


class Flow:
    """Which function of the file each call leads to, as far as names tell, and the statements around each call."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.functions = source.find(cst.FunctionDef)
        self.classes = {found.name.value: found for found in source.find(cst.ClassDef)}
        self._callees = {call: self._resolve(call) for call in source.find(cst.Call)}

    def callee(self, call: cst.Call) -> cst.FunctionDef | None:
        """Return the function of this file that a call runs, `__init__` for a class; None when it is not clear."""
        return self._callees.get(call)

    def callers(self, function: cst.FunctionDef) -> list[cst.Call]:
        """Return the calls of a function in this file."""
        return [call for call, callee in self._callees.items() if callee is function]

    def owner(self, function: cst.FunctionDef) -> cst.ClassDef | None:
        """Return the class that a method belongs to."""
        block = self.source.parent(function)
        outer = self.source.parent(block) if block is not None else None
        return outer if isinstance(outer, cst.ClassDef) else None

    def chain(self, node: cst.CSTNode) -> list[tuple[Block, cst.CSTNode]]:
        """Return (block, statement of it) around a node, innermost first.

        Goes on from a function to the place that calls it, as long as there is exactly one.
        """
        found: list[tuple[Block, cst.CSTNode]] = []
        seen: set[cst.CSTNode] = set()
        while True:
            function = None
            for outer in self.source.around(node):
                if isinstance(outer, cst.IndentedBlock | cst.Module):
                    found.append((outer, node))
                if isinstance(outer, cst.FunctionDef):
                    function = outer
                    break
                node = outer
            callers = self.callers(function) if function is not None else []
            if function is None or function in seen or len(callers) != 1:
                return found
            seen.add(function)
            node = callers[0]

    def around(self, node: cst.CSTNode, seen: frozenset[cst.CSTNode] = frozenset()) -> Iterator[cst.CSTNode]:
        """Yield the nodes around a node and around every call that leads to it."""
        for outer in self.source.around(node):
            yield outer
            if isinstance(outer, cst.FunctionDef):
                if outer not in seen:
                    for call in self.callers(outer):
                        yield from self.around(call, seen | {outer})
                return

    def loops(self, node: cst.CSTNode) -> set[cst.CSTNode]:
        """Return the loops that a node runs in, those around calls that lead to it included."""
        return {outer for outer in self.around(node) if isinstance(outer, cst.For | cst.While)}

    def leads_to(self, statement: cst.CSTNode, targets: list[cst.Call]) -> bool:
        """Tell whether a statement is around one of the calls, or calls a function that leads to one."""
        return any(outer is statement for target in targets for outer in self.around(target))

    def _resolve(self, call: cst.Call) -> cst.FunctionDef | None:
        name = dotted(call.func)
        receiver, _, method = name.rpartition(".")
        if not receiver:
            if name in self.classes:
                return self._method(self.classes[name], "__init__")
            plain = [f for f in self.functions if f.name.value == name and self.owner(f) is None]
            return plain[0] if len(plain) == 1 else None
        if receiver in ("self", "cls"):
            within = self.source.enclosing(call, cst.ClassDef)
            return self._method(within, method) if within is not None else None
        made = [assign.value for assign in self.source.assignments(receiver)]
        kinds = {dotted(value.func) if isinstance(value, cst.Call) else "" for value in made}
        return (
            self._method(self.classes[kinds.pop()], method) if len(kinds) == 1 and kinds <= set(self.classes) else None
        )

    def _method(self, within: cst.ClassDef, name: str) -> cst.FunctionDef | None:
        own = [f for f in self.functions if f.name.value == name and self.owner(f) is within]
        if own:
            return own[0]
        bases = [self.classes[dotted(b.value)] for b in within.bases if dotted(b.value) in self.classes]
        return self._method(bases[0], name) if bases and bases[0] is not within else None
