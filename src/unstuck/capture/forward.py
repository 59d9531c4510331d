"""The function mode: turns the torch calls of a forward pass into sites, edges and summaries.

Rests on `torch.overrides.TorchFunctionMode` (https://docs.pytorch.org/docs/stable/torch.overrides.html), which sees
every call of torch's Python API: module forms, functional forms and operators on raw tensors.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unstuck.capture import functions
from unstuck.capture.graph import NOWHERE, Call, Origin, Origins, tensors_in
from unstuck.capture.intervention import Handover, Intervention, input_of, with_input
from unstuck.capture.modules import ModuleTracker
from unstuck.capture.parameters import Parameters
from unstuck.capture.site import Locator, SiteRegistry, location_of
from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.trace import Edge, Kind, LossCall, Role, Site, Trace

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
INERT = frozenset(
    """
    __get__ __set__ dim size numel item stride is_contiguous storage data_ptr __len__ __repr__ __format__
    __bool__ __hash__ __eq__ tolist numpy cpu is_floating_point is_complex backward register_hook element_size
    __iter__ detach detach_ zero_ fill_ normal_ uniform_ copy_ _set_grad_enabled set_grad_enabled shape dtype
    device grad data requires_grad is_leaf grad_fn layout ndim is_cuda is_cpu is_sparse is_quantized
    """.split()
)


def op_name(func: Callable[..., Any]) -> str:
    """Return a call's operation: "tanh", "__getitem__"; for a property the property's name ("T")."""
    name: str = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", name)
    return name


def plain_op(name: str) -> str:
    """Strip the underscore of an in-place operation."""
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


class Recorder:
    """Fills the trace from the calls of one thread while a step is sampled."""

    def __init__(
        self,
        trace: Trace,
        modules: ModuleTracker,
        guard: Callable[..., Any],
        intervention: Intervention | None,
    ) -> None:
        self.trace = trace
        self.sites = SiteRegistry(trace)
        self.modules = modules
        self.guard = guard
        self.locator = Locator()
        self.origins = Origins()
        self.parameters = Parameters(trace, self.sites, modules, self.locator)
        self.intervention = intervention
        self.step = 0
        self.in_backward = False
        self.running_means: dict[int, weakref.ref[Tensor]] = {}
        self._pending: list[Callable[[int], None]] = []

    # -- steps -----------------------------------------------------------------------------------------------------

    def begin(self, step: int) -> None:
        """Start recording the forward pass of a step; whatever a pass without a backward left is dropped."""
        self.step = step
        self.parameters.used.clear()
        self.new_pass()

    def new_pass(self) -> None:
        """Start recording another forward pass of the same step (accumulated gradients)."""
        self._pending.clear()
        self.origins.clear()
        self.modules.new_step()
        self.in_backward = False

    def commit(self, step: int) -> None:
        """Enter what the forward pass gave into the trace: its backward pass has begun."""
        self.step = step
        for write in self._pending:
            write(step)
        self._pending.clear()
        self.in_backward = True

    @property
    def repairing(self) -> bool:
        """Whether calls must be kept repeatable: only at step 0, for a repairer."""
        return self.intervention is not None and self.step == 0

    # -- before and after a call -----------------------------------------------------------------------------------

    def before(
        self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        """Look at a call before it runs (in-place operations destroy their input); return changed arguments or None."""
        value = input_of(args, kwargs)
        if not isinstance(value, Tensor):
            return None
        activation = functions.activation(op, args, kwargs)
        if activation is not None:
            return self._before_activation(op, activation, value, args, kwargs)
        if op in functions.LOSSES:
            return self._before_loss(op, func, value, args, kwargs)
        if op == "batch_norm" and self.repairing:
            return self._before_norm(op, value, args, kwargs)
        return None

    def after(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Note what a call made."""
        if op in functions.WEIGHT_OPS or op in functions.MATMUL_OPS:
            made = self._weight_layer(op, func, args, kwargs, out)
        elif op in functions.NORM_OPS:
            made = self._norm(op, args, kwargs, out)
        elif op == "embedding" or op == "__getitem__":
            made = self._embedding(op, args, kwargs, out)
        elif op in functions.TRANSPARENT_OPS:
            made = self._transparent(op, func, args, kwargs, out)
        elif op in functions.ADDITIONS:
            made = self._addition(func, args, kwargs, out)
        elif op in functions.DROPOUT_OPS or op in functions.SOFTMAX_OPS:
            made = self._passing(op, func, args, kwargs, out)
        elif op in functions.LOSSES:
            made = self._loss(op, func, args, kwargs, out)
        else:
            made = functions.activation(op, args, kwargs) is not None and self._activation(op, args, kwargs, out)
        if not made:
            self._other(args, kwargs, out)

    # -- sites -----------------------------------------------------------------------------------------------------

    def _site(self, kind: Kind, op: str) -> Site:
        """Return the site of the call that is running; it passes its place once more."""
        user = self.locator.frame(sys._getframe())
        here = self.modules.current
        line: Hashable = None if here.from_torch or user is None else (user.f_code.co_filename, user.f_lineno)
        ordinal = here.ordinals.next((op, line))
        key = (here.path, op, line, ordinal)
        site = self.sites.get(key)
        if site is None:
            site = self.sites.create(key, kind, op, here.path, location_of(user), ordinal, here.kind)
        return site

    def _connect(self, site: Site, *inputs: Any) -> None:
        for tensor in tensors_in(inputs):
            origin = self.origins.of(tensor)
            if origin is not None:
                self.trace.edges.update(Edge(p, site.index, origin.direct) for p in origin.sites if p != site.index)

    def _record(self, site: Site, role: Role, summary: TensorSummary) -> None:
        self._pending.append(lambda step: self.trace.add(step, site.index, role, summary))

    def _watch_output(self, site: Site, out: Tensor, unit_dim: int) -> None:
        """Record an output, and its gradient when backward brings one."""
        if not out.is_floating_point():
            return
        self._record(site, Role.OUTPUT, summarise(out))
        if out.requires_grad:
            out.register_hook(lambda grad: self.guard(self._output_gradient, site, grad))

    def _output_gradient(self, site: Site, grad: Tensor) -> None:
        if self.in_backward:
            self.trace.add(self.step, site.index, Role.OUTPUT_GRADIENT, summarise(grad))

    # -- weight layers ---------------------------------------------------------------------------------------------

    def _weight_layer(
        self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> bool:
        found = self._operands(op, args, kwargs)
        if found is None or not isinstance(out, Tensor):
            return False
        x, weight, bias, on_right = found
        leaf, transposed = self.parameters.leaf_of(weight, self.origins)
        if leaf is None and op in functions.MATMUL_OPS:
            return False
        site = self._site(Kind.WEIGHT_LAYER, op)
        site.fan_in = _fan_in(op, weight, on_right)
        self._connect(site, x)
        units = _weight_unit_dim(op, weight, on_right, transposed)
        if leaf is not None:
            self.parameters.use(leaf, site, "weight", units)
        if isinstance(bias, Tensor):
            self.parameters.use(bias, site, "bias", 0)
        dims = functions.CONVOLUTIONS.get(op)
        unit_dim = -1 if dims is None else out.dim() - dims - 1
        self._watch_output(site, out, unit_dim)
        call = Call(func, args, kwargs) if self.repairing else None
        self.origins.set(out, Origin((site.index,), unit_dim=unit_dim, call=call))
        return True

    def _operands(
        self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Any, bool] | None:
        """Return (input, weight, bias, weight on the right) of a weight layer's call, or None."""
        if op in functions.WEIGHT_OPS:
            names = ("mat1", "mat2", "input") if op == "addmm" else ("input", "weight", "bias")
            x, weight, bias = (_at(args, kwargs, p, n) for p, n in zip(functions.WEIGHT_OPS[op], names, strict=True))
            return (x, weight, bias, op == "addmm") if isinstance(x, Tensor) and isinstance(weight, Tensor) else None
        left, right = _at(args, kwargs, 0, "input"), _at(args, kwargs, 1, "other")
        if op == "__rmatmul__":
            left, right = right, left
        if not isinstance(left, Tensor) or not isinstance(right, Tensor):
            return None
        if self.parameters.leaf_of(right, self.origins)[0] is not None:
            return left, right, None, True
        return right, left, None, False

    def _addition(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        """A parameter added to a weight layer's output is that layer's bias."""
        if len(args) < 2 or kwargs or not isinstance(out, Tensor):
            return False
        for position in (0, 1):
            origin, bias = self.origins.of(args[position]), args[1 - position]
            if origin is None or not origin.direct or not origin.sites or not isinstance(bias, Tensor):
                continue
            leaf, _ = self.parameters.leaf_of(bias, self.origins)
            site = self.trace.sites[origin.sites[0]]
            if (
                leaf is None
                or site.kind is not Kind.WEIGHT_LAYER
                or bias.dim() > 2
                or out.shape != args[position].shape
            ):
                continue
            self.parameters.use(leaf, site, "bias", -1)
            self.origins.set(out, self._extended(origin, func, args, kwargs, position))
            return True
        return False

    def _extended(
        self, origin: Origin, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], position: int
    ) -> Origin:
        """Return `origin` with one more repeatable call at its end."""
        call = Call(func, args, kwargs, position, origin.call) if self.repairing and origin.call else None
        return Origin(origin.sites, origin.direct, None, origin.transposed, origin.unit_dim, call)

    # -- the rest --------------------------------------------------------------------------------------------------

    def _transparent(
        self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> bool:
        value = args[0] if args else None
        if not isinstance(value, Tensor) or not isinstance(out, Tensor):
            return False
        leaf, transposed = self.parameters.leaf_of(value, self.origins)
        if leaf is not None:
            flips = op in ("t", "T", "mT", "H", "mH", "transpose", "permute", "swapaxes", "swapdims")
            self.origins.set(out, Origin(leaf=leaf, transposed=transposed != flips))
            return True
        origin = self.origins.of(value)
        if origin is None:
            return False
        made = self._extended(origin, func, args, kwargs, 0)
        unit_dim = origin.unit_dim if op in functions.KEEPS_UNIT_DIM else -1
        self.origins.set(out, Origin(made.sites, made.direct, None, False, unit_dim, made.call))
        return True

    def _other(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Any other operation: what it makes comes, indirectly, from all that its inputs came from."""
        sites = self.origins.union(tensors_in((args, kwargs)))
        if sites:
            for tensor in tensors_in((out,)):
                self.origins.set(tensor, Origin(sites, direct=False))

    def _embedding(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        index, table = (_at(args, kwargs, p, n) for p, n in ((0, "input"), (1, "weight")))
        if op == "__getitem__":
            index, table = table, index
        leaf, _ = self.parameters.leaf_of(table, self.origins)
        if leaf is None or not isinstance(index, Tensor) or index.is_floating_point() or not isinstance(out, Tensor):
            return False
        site = self._site(Kind.EMBEDDING, "embedding")
        self.parameters.use(leaf, site, "weight", 0)
        self._watch_output(site, out, -1)
        self.origins.set(out, Origin((site.index,)))
        return True

    def _norm(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        x = input_of(args, kwargs)
        if not isinstance(x, Tensor) or not isinstance(out, Tensor):
            return False
        site = self._site(Kind.NORM, op)
        self._connect(site, x)
        for position, slot in zip(functions.NORM_OPS[op], ("weight", "bias"), strict=True):
            parameter = _at(args, kwargs, position, slot)
            if isinstance(parameter, Tensor):
                self.parameters.use(parameter, site, slot, 0)
        running_mean = _at(args, kwargs, 1, "running_mean") if op == "batch_norm" else None
        if isinstance(running_mean, Tensor):
            self.running_means[site.index] = weakref.ref(running_mean)
        unit_dim = -1 if op in ("layer_norm", "rms_norm") or x.dim() < 2 else 1 - x.dim()
        self._watch_output(site, out, unit_dim)
        self.origins.set(out, Origin((site.index,), unit_dim=unit_dim))
        return True

    def _passing(
        self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> bool:
        """Dropout and softmax: sites that what follows may look through (dropout) or not (softmax)."""
        x = input_of(args, kwargs)
        origin = self.origins.of(x)
        if origin is None or not isinstance(out, Tensor):
            return False
        dropout = op in functions.DROPOUT_OPS
        site = self._site(Kind.DROPOUT if dropout else Kind.SOFTMAX, op)
        self._connect(site, x)
        if dropout:
            self.origins.set(out, Origin((*origin.sites, site.index), origin.direct, unit_dim=origin.unit_dim))
            return True
        dim = _at(args, kwargs, 1, "dim")
        classes = x.shape[dim] if isinstance(dim, int) and x.dim() else x.numel()
        self._pending.append(lambda step: self.trace.add_scalar(step, site.index, "classes", classes))
        self.origins.set(out, Origin((site.index,), call=self._extended(origin, func, args, kwargs, 0).call))
        return True

    # -- activations -----------------------------------------------------------------------------------------------

    def _before_activation(
        self, op: str, activation: functions.Activation, value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        origin = self.origins.of(value)
        if (origin is None and not value.requires_grad) or not value.is_floating_point():
            return None
        site = self._site(Kind.ACTIVATION, op)
        site.interval, site.gain, site.bounded = activation.interval, activation.gain, activation.bounded
        self._connect(site, value)
        self._running = site
        changed = None
        handover = self._handover(site, value, origin)
        if handover is not None and self.intervention is not None:
            changed = self.intervention.before_activation(self.trace, handover, activation)
        seen = value if changed is None else changed
        unit_dim = (origin or NOWHERE).unit_dim
        self._record(site, Role.INPUT, summarise(seen, unit_dim=unit_dim, interval=activation.interval))
        return None if changed is None else with_input(args, kwargs, changed)

    def _activation(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        site, self._running = self._running, None
        if site is None or not isinstance(out, Tensor):
            return False
        origin = self.origins.of(input_of(args, kwargs)) or NOWHERE
        self._watch_output(site, out, origin.unit_dim)
        self.origins.set(out, Origin((site.index,), unit_dim=origin.unit_dim))
        return True

    _running: Site | None = None

    # -- losses ----------------------------------------------------------------------------------------------------

    def _before_loss(
        self, op: str, func: Callable[..., Any], value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        origin = self.origins.of(value)
        if origin is None and not value.requires_grad:
            return None
        site = self._running = self._site(Kind.LOSS, op)
        self._connect(site, value)
        handover = self._handover(site, value, origin) if op in functions.LOGIT_LOSSES else None
        if handover is None or self.intervention is None:
            return None
        baseline = functions.baseline(op, func, args, kwargs)

        def loss(predictions: Tensor) -> Tensor:
            new_args, new_kwargs = with_input(args, kwargs, predictions)
            return torch.as_tensor(func(*new_args, **new_kwargs))

        changed = self.intervention.before_loss(self.trace, handover, loss, baseline)
        return None if changed is None else with_input(args, kwargs, changed)

    def _loss(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        site, self._running = self._running, None
        if site is None or not isinstance(out, Tensor):
            return False
        value = float(out.detach().double().mean())
        baseline = functions.baseline(op, func, args, kwargs)
        self._pending.append(lambda step: self.trace.loss_calls.append(LossCall(step, site.index, value, baseline)))
        self.origins.set(out, Origin((site.index,)))
        return True

    def objective(self, tensor: Tensor, value: float) -> None:
        """Note a loss written by hand: the tensor `backward` is called on when no known loss made it.

        Its baseline is ln(classes) when a log-softmax, and nothing else, feeds it.
        """
        origin = self.origins.of(tensor)
        if origin is None or any(self.trace.sites[i].kind is Kind.LOSS for i in origin.sites):
            return
        site = self._site(Kind.LOSS, "objective")
        self._connect(site, tensor)
        sources = [self.trace.sites[i] for i in origin.sites]
        baseline = None
        if len(sources) == 1 and sources[0].op == "log_softmax":
            classes = self.trace.scalar(sources[0], "classes", self.step)
            baseline = math.log(classes) if classes else None
        self.trace.loss_calls.append(LossCall(self.step, site.index, value, baseline))

    # -- repairs ---------------------------------------------------------------------------------------------------

    def _handover(self, consumer: Site, value: Tensor, origin: Origin | None) -> Handover | None:
        """Describe the weight layer that made `value`, when a repair may change it and make `value` again."""
        if not self.repairing or origin is None or origin.call is None or not origin.sites:
            return None
        layer = self._layer_behind(self.trace.sites[origin.sites[0]])
        if layer is None:
            return None
        live = [(self.trace.sites[i].slot, self.parameters.live(i)) for i in layer.parameters]
        weights = [p for slot, p in live if slot == "weight" and p is not None]
        if len(weights) != 1:
            return None
        biases = tuple(p for slot, p in live if slot == "bias" and p is not None)
        sole = all(self.parameters.uses(p) == 1 for p in (*weights, *biases))
        return Handover(layer, consumer, value, weights[0], biases, sole, origin.call)

    def _layer_behind(self, site: Site) -> Site | None:
        """Return the weight layer at `site`, or right before it when `site` is a softmax."""
        if site.kind is Kind.SOFTMAX:
            producers = self.trace.producers(site)
            site = producers[0] if len(producers) == 1 else site
        return site if site.kind is Kind.WEIGHT_LAYER else None

    def _before_norm(self, op: str, value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        handover = self._handover(Site(-1, Kind.NORM, op, "", None, -1), value, self.origins.of(value))
        if handover is None or self.intervention is None:
            return None
        running_mean = _at(args, kwargs, 1, "running_mean")
        changed = self.intervention.before_norm(
            self.trace, handover, running_mean if isinstance(running_mean, Tensor) else None
        )
        return None if changed is None else with_input(args, kwargs, changed)


class CaptureMode(TorchFunctionMode):
    """Shows each torch call of this thread to the recorder; `guard` runs our code so that its errors stay ours."""

    def __init__(self, recorder: Recorder, guard: Callable[..., Any]) -> None:
        super().__init__()
        self.recorder = recorder
        self.guard = guard
        self.active = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call, looking at it before and after."""
        kwargs = kwargs or {}
        name = op_name(func)
        if not self.active or name in INERT or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        op = plain_op(name)
        changed = self.guard(self.recorder.before, op, func, args, kwargs)
        if changed is not None:
            args, kwargs = changed
        out = func(*args, **kwargs)
        self.guard(self.recorder.after, op, func, args, kwargs, out)
        return out


def _at(args: tuple[Any, ...], kwargs: dict[str, Any], position: int | None, name: str) -> Any:
    if position is not None and len(args) > position:
        return args[position]
    return kwargs.get(name)


def _fan_in(op: str, weight: Tensor, on_right: bool) -> int:
    """Number of inputs of one unit."""
    if op in functions.MATMUL_OPS or op == "addmm":
        if weight.dim() == 1:
            return weight.shape[0]
        return weight.shape[-2] if on_right else weight.shape[-1]
    if op.startswith("conv_transpose"):
        return int(weight.numel() // max(1, weight.shape[1]))
    return int(weight.numel() // max(1, weight.shape[0]))


def _weight_unit_dim(op: str, weight: Tensor, on_right: bool, transposed: bool) -> int:
    """The dimension of the parameter whose entries are the layer's units."""
    if weight.dim() < 2:
        return 0
    if op in functions.MATMUL_OPS or op == "addmm":
        last = on_right != transposed
        return weight.dim() - 1 if last else weight.dim() - 2
    return 1 if op.startswith("conv_transpose") else 0
