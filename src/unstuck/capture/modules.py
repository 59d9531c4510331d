"""Which module is running: global forward hooks keep a stack of module paths while a step is sampled."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from unstuck.capture.site import Ordinals, locals_of
from unstuck.capture.wrappers import own_class, plain_modules, plain_parameters, sharded, unwrapped


class Frame:
    """One running call of a module: its path, its class, and the counters of the places passed within it."""

    __slots__ = ("from_torch", "kind", "ordinals", "path", "training")

    def __init__(self, path: str, kind: str = "", *, from_torch: bool = False) -> None:
        self.path = path
        self.kind = kind
        self.from_torch = from_torch
        self.training = True  # whether the module was in train mode when it was called
        self.ordinals = Ordinals()

    @classmethod
    def of(cls, path: str, module: nn.Module) -> Frame:
        """Return the frame of a module's call."""
        kind = own_class(module)
        return cls(path, kind.__name__, from_torch=kind.__module__.startswith("torch.nn."))


def _passes_through(module: nn.Module) -> bool:
    """Tell whether a module that belongs to no known tree stands for its bare function in the caller's code.

    `nn.ReLU()(x)` within a forward pass makes a new module each time; a parametrization computes a weight.
    """
    kind = own_class(module)
    if kind.__module__.startswith("torch.nn.utils."):
        return True
    held = [*module._parameters.values(), *module._buffers.values(), *module._modules.values()]
    return all(value is None for value in held)


class ModuleTracker:
    """Keeps the stack of running modules and the names of their parameters.

    Paths come from `named_modules()` of the outermost module. The first outermost module that has children gives
    plain paths ("blocks.0.fc"); any other is prefixed with its class name ("Critic.fc", "Linear", "Linear-2").
    Wrappers (`torch.compile`, DistributedDataParallel, …) add nothing to a path.
    """

    def __init__(self, guard: Callable[..., Any]) -> None:
        self._guard = guard
        self._stack: list[Frame] = []
        self._outside = Frame("")
        self._known: dict[int, tuple[weakref.ref[nn.Module], Frame]] = {}
        self._paths: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self._parameter_names: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()
        self._names_by_id: dict[int, str] = {}
        self._any_sharded = False
        self._gathered: dict[int, tuple[weakref.ref[Tensor], weakref.ref[Tensor]]] = {}
        self._class_counts: Counter[str] = Counter()
        self._plain_taken = False
        self._handles: list[RemovableHandle] = []
        self._thread = 0
        self.roots: list[weakref.ref[nn.Module]] = []
        self._outermost: list[weakref.ref[nn.Module]] = []  # those of `roots` that no other module's code called
        self._found_inside: set[str] = set()  # names of parameters of the other roots, in training mode

    def install(self) -> None:
        """Register the global hooks; `remove` takes them away."""
        self._thread = threading.get_ident()
        if not self._handles:
            self._handles = [
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave, always_call=True),
            ]

    def remove(self) -> None:
        """Remove the hooks and forget the running modules."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._stack = []

    def new_step(self) -> None:
        """Start the counters outside modules anew."""
        self._outside = Frame("")

    @property
    def current(self) -> Frame:
        """The innermost running module call, or the frame of code outside modules."""
        return self._stack[-1] if self._stack else self._outside

    @property
    def outermost(self) -> Frame | None:
        """The outermost running module call, or None outside modules."""
        return self._stack[0] if self._stack else None

    def path_of(self, module: nn.Module) -> str | None:
        """Return the path of a module that has run in a sampled step (or is part of one that has), or None."""
        return self._paths.get(module)

    def know(self, root: nn.Module) -> None:
        """Name a network before it runs."""
        if root not in self._paths:
            self._name_tree(root)

    def has_run(self, module: nn.Module) -> bool:
        """Tell whether a module was called itself in a sampled step, not only what it holds."""
        known = self._known.get(id(module))
        return known is not None and known[0]() is module

    def name_for(self, root: nn.Module) -> str:
        """Return the name that would stand before the paths of another tree of modules, without giving it away."""
        kind = own_class(unwrapped(root)).__name__
        return f"{kind}-{count + 1}" if (count := self._class_counts[kind]) else kind

    def parameter_name(self, parameter: Tensor) -> str:
        """Return the dotted name of a module's parameter, or ""."""
        name = self._names_by_id.get(id(parameter), "")
        return name if name and self._parameter_names.get(name) is parameter else ""

    def kept(self, parameter: Tensor) -> Tensor:
        """Return the parameter that gets the gradient and the update: `fully_shard` computes with gathered copies."""
        if not self._any_sharded or self.parameter_name(parameter):
            return parameter
        known = self._gathered.get(id(parameter))
        if known is None or known[0]() is not parameter:
            known = self._gathered[id(parameter)] = weakref.ref(parameter), weakref.ref(self._find_kept(parameter))
        own = known[1]()
        return parameter if own is None else own

    def _find_kept(self, parameter: Tensor) -> Tensor:
        for module, path in self._paths.items():
            for name, held in module._parameters.items():
                if held is parameter:
                    own = self._parameter_names.get(f"{path}.{name}" if path else name)
                    return own if own is not None and sharded(own) else parameter
        return parameter

    def is_shared(self, parameter: Tensor) -> bool:
        """Tell whether two places of a known module tree hold the same parameter (tied weights)."""
        for reference in self.roots:
            root = reference()
            if root is not None and sum(p is parameter for _, p in root.named_parameters(remove_duplicate=False)) > 1:
                return True
        return False

    def is_unregistered(self, parameter: Tensor) -> bool:
        """Tell whether the running module uses a parameter that `parameters()` of the outermost module leaves out.

        False for parameters of modules in evaluation mode (a frozen network kept out of sight on purpose), and for
        plain tensors that are no module's attribute or part of a list or dict of one.
        """
        if not self._stack:
            return False
        name = self.parameter_name(parameter)
        if name and name not in self._found_inside:
            return False
        if not name and not isinstance(parameter, nn.Parameter) and not _held_by_a_module(parameter):
            return False
        roots = (reference() for reference in self._outermost)
        return not any(known is parameter for root in roots if root is not None for known in root.parameters())

    def _enter(self, module: nn.Module, _args: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        known = self._known.get(id(module))
        if known is not None and known[0]() is module:
            seen = known[1]
            frame = Frame(seen.path, seen.kind, from_torch=seen.from_torch)
            frame.training = module.training
            self._stack.append(frame)
        else:
            self._guard(self._push, module)

    def _push(self, module: nn.Module) -> None:
        if module not in self._paths:
            if _passes_through(module):
                self._stack.append(self.current)
                return
            self._name_tree(self._owner(module))
        frame = Frame.of(self._paths[module], module)
        frame.training = module.training
        self._known[id(module)] = weakref.ref(module), frame
        self._stack.append(frame)

    def _owner(self, module: nn.Module) -> nn.Module:
        """Return the outermost module that holds `module` and in whose methods it is called; else itself.

        A training step that calls `self.decoder(self.encoder(x))` makes neither of them a tree of its own.
        """
        owner, frame = module, None if self._stack else sys._getframe()
        while frame is not None:
            holder = locals_of(frame).get("self")
            if isinstance(holder, nn.Module) and holder is not owner and any(m is owner for m in holder.modules()):
                owner = holder
            frame = frame.f_back
        return owner

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if self._stack and threading.get_ident() == self._thread:
            self._stack.pop()

    def _name_tree(self, root: nn.Module) -> None:
        """Name a module that was first seen as outermost (or was added later), and all below it."""
        inner = unwrapped(root)
        if inner in self._paths:
            self._paths[root] = self._paths[inner]
            return
        prefix = self._stack[-1].path if self._stack else ""
        if self._stack or self._plain_taken or next(inner.children(), None) is None:
            kind = own_class(inner).__name__
            self._class_counts[kind] += 1
            own = kind if self._class_counts[kind] == 1 else f"{kind}-{self._class_counts[kind]}"
            prefix = f"{prefix}.{own}" if prefix else own
        else:
            self._plain_taken = True
        self.roots.append(weakref.ref(root))
        if not self._stack:
            self._outermost.append(weakref.ref(root))
        for _, path, module in plain_modules(root):
            self._paths.setdefault(module, ".".join(part for part in (prefix, path) if part))
        for path, parameter in plain_parameters(root):
            name = f"{prefix}.{path}" if prefix else path
            if self._stack and inner.training and not self.parameter_name(parameter):
                self._found_inside.add(name)
            self._parameter_names[name] = parameter
            self._names_by_id[id(parameter)] = name
            self._any_sharded = self._any_sharded or sharded(parameter)


def _held_by_a_module(tensor: Tensor) -> bool:
    """Tell whether a method of a module is running that has `tensor` among its attributes, or in one of them."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        owner = locals_of(frame).get("self")
        for held in vars(owner).values() if isinstance(owner, nn.Module) else ():
            parts = held.values() if isinstance(held, dict) else held if isinstance(held, list | tuple) else (held,)
            if any(part is tensor for part in parts):
                return True
        frame = frame.f_back
    return False
