"""Changes of a model's structure: which module stands where, and putting another in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from unstuck.fixes.remedy import Patient, Withheld


@dataclass(frozen=True)
class Seat:
    """A module, the module that holds it, under which name, and its path from the outermost module."""

    parent: nn.Module
    name: str
    module: nn.Module
    path: str

    def put(self, module: nn.Module) -> None:
        """Let another module take the place; raises Withheld when the parent does not keep modules that way."""
        if self.parent._modules.get(self.name) is not self.module:
            raise Withheld(f"{self.path} is not where it was")
        self.parent._modules[self.name] = module

    def insert_after(self, module: nn.Module, *, entry: bool = True) -> None:
        """Let another module take the output from here on.

        In an `nn.Sequential` it becomes the next `entry`, if that is wanted; elsewhere both become one `nn.Sequential`
        in the old place.
        """
        module.train(self.module.training)
        if entry and type(self.parent) is nn.Sequential and self.name.isdigit():
            self.parent.insert(list(self.parent._modules).index(self.name) + 1, module)
        else:
            self.put(nn.Sequential(self.module, module).train(self.module.training))


def seat_of(patient: Patient, parameter: Tensor) -> Seat:
    """Return the module that holds a parameter, and its place; raises Withheld when it has none or several."""
    owners = {id(module): module for module, _, _ in patient.holders(parameter)}
    if len(owners) != 1:
        raise Withheld("its parameters belong to no module" if not owners else "its parameters belong to two modules")
    own = next(iter(owners.values()))
    seats = [
        Seat(parent, name, own, f"{path}.{name}" if path else name)
        for model in patient.models
        for path, parent in model.named_modules()
        for name, child in parent._modules.items()
        if child is own
    ]
    if len(seats) != 1:
        raise Withheld("it is the model itself" if not seats else f"it stands in {len(seats)} places of the model")
    return seats[0]


def join_optimizer(patient: Patient, module: nn.Module, beside: Tensor) -> None:
    """Add a new module's parameters to the group of the optimizer that updates `beside`."""
    for optimizer in patient.optimizers:
        for group in optimizer.param_groups:
            if any(held is beside for held in group["params"]):
                group["params"].extend(module.parameters())
                return


def leave(patient: Patient, parameters: Iterable[Tensor]) -> None:
    """Take parameters that the model has lost out of the optimizers, and out of what is watched."""
    parameters = list(parameters)
    for parameter in parameters:
        patient.network.forget_parameter(parameter)
    gone = {id(parameter) for parameter in parameters}
    for optimizer in patient.optimizers:
        for group in optimizer.param_groups:
            group["params"][:] = [held for held in group["params"] if id(held) not in gone]
        for parameter in parameters:
            optimizer.state.pop(parameter, None)
