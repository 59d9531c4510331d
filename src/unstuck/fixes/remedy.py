"""What a remedy is, and what it may see and touch."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from unstuck.findings import Finding
from unstuck.fixes.fix import Applicability, Fix
from unstuck.trace import Site, Trace

HEADINGS = ("What it does", "When it must not be used", "References")
LOADED = "the network has loaded weights"
"""Why a remedy that changes the training is withheld from a network that was trained before."""


class Withheld(Exception):  # noqa: N818  (an answer, not an error)
    """A remedy that must not, or cannot, be applied; the message says why, for the user."""


class LiveNetwork(Protocol):
    """A watched network: its trace, and the tensors behind the trace's sites."""

    trace: Trace

    @property
    def models(self) -> Sequence[nn.Module]:
        """The outermost modules."""

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The optimizers that have stepped."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All parameters that took part."""

    def parameter(self, site: int) -> Tensor | None:
        """Return the parameter of a parameter site."""

    @property
    def next_pass(self) -> int:
        """The step whose forward pass is the next to begin, asked between two updates."""

    def watch_step(self, step: int) -> None:
        """Have a step watched that has not begun yet."""

    def begin_again(self) -> None:
        """Take the next pass for the start of training: the parameters were put back."""

    def running_mean(self, site: int) -> Tensor | None:
        """Return the running mean of a batch normalisation site."""

    def uses(self, parameter: Tensor) -> int:
        """Return in how many places a parameter is used."""

    def unit_dim(self, site: int) -> int:
        """Return the dimension of a parameter, by its site, whose entries are the layer's units."""

    def forget_parameter(self, parameter: Tensor) -> None:
        """Watch a parameter no more: the network has lost it."""

    def has_run(self, module: nn.Module) -> bool:
        """Tell whether a module was called itself, not only what it holds."""

    def while_watched(self, install: Callable[[], Callable[[], None]]) -> None:
        """Install something; what that returns undoes it when the watching ends."""


@dataclass(frozen=True)
class Patient:
    """What a remedy works on.

    `models` are the outermost modules (none in a script of raw tensors) and `optimizers` those that are stepping. With
    `batches` (inputs, targets) and `forward`, which makes the model's output of inputs, a remedy may look at data; both
    are missing in flight, while a script trains. `repeat` makes one first pass in which the remedies named act;
    `rescale` one in which layers are brought to their `targets.Target`, by site (in flight the script's next pass);
    `rewind` puts a script's training back to where it began and raises Withheld when that is not kept any more.
    """

    network: LiveNetwork
    models: Sequence[nn.Module] = ()
    optimizers: Sequence[Optimizer] = ()
    batches: Sequence[tuple[Any, Any]] = ()
    forward: Callable[[Any], Any] | None = None
    repeat: Callable[[Sequence[str]], list[Fix]] | None = None
    rescale: Callable[[Mapping[int, Any]], list[Fix]] | None = None
    rewind: Callable[[], None] = lambda: None
    step: int = 0
    pretrained: bool = False
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    @property
    def trace(self) -> Trace:
        """The record of the run so far."""
        return self.network.trace

    @property
    def in_flight(self) -> bool:
        """Whether a script is training just now."""
        return self.forward is None

    def while_watched(self, install: Callable[[], Callable[[], None]]) -> None:
        """Install something for as long as the script is watched; what `install` returns undoes it."""
        self.network.while_watched(install)

    @property
    def batch_size(self) -> int:
        """The number of samples in a batch: the size of the first dimension of the data; 1 when none was seen."""
        if self.batches:
            tensors = [x for x in _leaves(self.batches[0][0]) if x.dim()]
            return len(tensors[0]) if tensors else 1
        seen = [n for site in self.trace.sites for _, n in self.trace.scalars(site, "data_samples")]
        return int(sorted(seen)[len(seen) // 2]) if seen else 1

    def layer(self, finding: Finding) -> Layer:
        """Return the layer a finding points at; raises Withheld when it has no parameters of its own to change."""
        if finding.site_index is None:
            raise Withheld("the finding names no layer")
        return self.layer_at(self.trace.sites[finding.site_index])

    def layer_at(self, site: Site) -> Layer:
        """Return the live parameters of a weight layer's site; raises Withheld when they cannot be changed alone."""
        weights: list[tuple[str, Tensor]] = []
        biases: list[tuple[str, Tensor]] = []
        for index in site.parameters:
            parameter, own = self.network.parameter(index), self.trace.sites[index]
            if parameter is None:
                raise Withheld(f"the parameters of {site.label} are gone")
            if self.network.uses(parameter) != 1:
                raise Withheld(f"{own.label} is used in another place as well")
            (weights if own.slot == "weight" else biases).append((own.label, parameter))
        if len(weights) != 1:
            raise Withheld(f"{site.label} has {len(weights) or 'no'} weights")
        if not weights[0][1].requires_grad:
            raise Withheld(f"{weights[0][0]} is frozen")
        return Layer(site, weights[0], tuple(biases))

    def holders(self, tensor: Tensor) -> Iterator[tuple[nn.Module, str, str]]:
        """Yield (module, name in it, dotted name) of every place in the models that holds a parameter or buffer."""
        for model in self.models:
            for path, module in model.named_modules():
                for name, held in (*module._parameters.items(), *module._buffers.items()):
                    if held is tensor:
                        yield module, name, f"{path}.{name}" if path else name

    def forget_moments(self, parameter: Tensor, mask: Tensor | None = None) -> None:
        """Zero what optimizers have gathered about a parameter, or about its elements where `mask` is true."""
        for optimizer in self.optimizers:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(torch.ones_like(value, dtype=torch.bool) if mask is None else mask, 0)


def _leaves(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


@dataclass(frozen=True)
class Layer:
    """A weight layer's site with its live parameters, each with the name to print."""

    site: Site
    named_weight: tuple[str, Tensor]
    named_biases: tuple[tuple[str, Tensor], ...] = ()

    @property
    def weight(self) -> Tensor:
        """The weight."""
        return self.named_weight[1]

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """The biases."""
        return tuple(bias for _, bias in self.named_biases)

    @property
    def names(self) -> str:
        """The names of all parameters, for printing."""
        return ", ".join(name for name, _ in (self.named_weight, *self.named_biases))


class Remedy(ABC):
    """Repairs the findings of some rules, deterministically.

    Subclasses set the class variables and write `apply`; their docstring is the remedy's page and has the headings of
    `HEADINGS`. `in_flight` says whether it can be applied between two steps of a script that trains, `rewinds` whether
    it may then put the training back to where it began (`Patient.rewind`), since what was learned is spoilt. One that
    `repeats` acts on the run as a whole: once at a check, and again at a later one when its finding is still made.
    """

    name: ClassVar[str]
    applicability: ClassVar[Applicability] = Applicability.UNSAFE
    in_flight: ClassVar[bool] = False
    rewinds: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    initialises: ClassVar[bool] = False  # whether it changes how the network starts

    @abstractmethod
    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Change the patient so that the finding should go; return what was done.

        Raises Withheld, having changed nothing, when it must not or cannot be done.
        """

    def fix(
        self,
        finding: Finding,
        *,
        site: str | None = None,
        statistic: str = "",
        before: float | None = None,
        after: float | None = None,
        unit: str | None = None,
        snippet: str = "",
        step: int = 0,
    ) -> Fix:
        """Build the record of a change; what is not given is taken from the finding."""
        return Fix(
            self.name,
            finding.code,
            self.applicability,
            finding.site if site is None else site,
            finding.location,
            statistic or finding.name.replace("-", " "),
            finding.unit if unit is None else unit,
            finding.measured if before is None else before,
            after,
            snippet,
            step,
        )

    @classmethod
    def documentation(cls) -> str:
        """Return the docstring, de-indented."""
        return inspect.cleandoc(cls.__doc__ or "")
