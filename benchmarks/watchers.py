"""The tools that `benchmarks.overhead` compares: a context manager each, used at every step as its documentation says.

Each takes the training it is to watch and a folder to write to, and gives what it wants called in the loop. What a tool
does after training (reports, uploads) comes after the block's last step and is in no number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.workloads import Observer, Training


class Nothing:
    """Nothing to call in the loop."""

    def after_backward(self, loss: Tensor) -> None:
        """Do nothing."""

    def after_step(self, loss: Tensor) -> None:
        """Do nothing."""


@contextmanager
def bare(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """The loop as it is."""
    yield Nothing()


@contextmanager
def unstuck_every_step(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """Full vitals at every step."""
    with _unstuck(every=1) as observer:
        yield observer


@contextmanager
def unstuck_default(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """The built-in schedule."""
    with _unstuck() as observer:
        yield observer


class Watched(Nothing):
    """Knows which steps unstuck sampled."""

    def __init__(self, run: Any) -> None:
        self.trace = run.session.trace

    def sampled(self, first: int) -> int:
        """How many of the steps from `first` on were sampled."""
        return sum(step >= first for step in self.trace.steps)


@contextmanager
def _unstuck(**arguments: Any) -> Iterator[Observer]:
    import unstuck

    with unstuck.watch(**arguments) as run:
        observer = Watched(run)
        yield observer
    if observer.trace.facts.internal_error:  # it stepped aside, so the times are not those of watching
        raise RuntimeError(f"unstuck stopped watching: {observer.trace.facts.internal_error}")


class WandbRow(Nothing):
    """Commits one row a step; the histograms of `wandb.watch` go with it."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def after_step(self, loss: Tensor) -> None:
        """Log the loss."""
        self.run.log({"loss": loss.item()})


@contextmanager
def wandb_watch(training: Training, folder: Path) -> Iterator[Observer]:
    """`wandb.watch(model, log="all", log_freq=1)`, offline: https://docs.wandb.ai/ref/python/sdk/functions/watch."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    import wandb

    with wandb.init(project="overhead", dir=folder, mode="offline") as run:
        run.watch(training.model, log="all", log_freq=1)
        yield WandbRow(run)


class Histograms(Nothing):
    """Writes the loss and a histogram of every parameter and every gradient."""

    def __init__(self, model: nn.Module, writer: Any) -> None:
        self.model, self.writer, self.step = model, writer, 0

    def after_step(self, loss: Tensor) -> None:
        """Write them all; gradients are kept until the next step clears them."""
        self.writer.add_scalar("loss", loss.item(), self.step)
        for name, parameter in self.model.named_parameters():
            self.writer.add_histogram(name, parameter, self.step)
            self.writer.add_histogram(f"{name}.grad", parameter.grad, self.step)
        self.step += 1


@contextmanager
def tensorboard(training: Training, folder: Path) -> Iterator[Observer]:
    """`SummaryWriter.add_histogram`: https://pytorch.org/docs/stable/tensorboard.html."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        yield Histograms(training.model, writer)


class OrmasStep(Nothing):
    """`Monitor.step` stands between backward and the optimizer."""

    def __init__(self, monitor: Any) -> None:
        self.monitor = monitor

    def after_backward(self, loss: Tensor) -> None:
        """Check the gradients."""
        self.monitor.step(loss)


@contextmanager
def ormas(training: Training, folder: Path) -> Iterator[Observer]:
    """`Monitor(model, optimizer, check_every=1)`: https://pypi.org/project/ormas-monitor/."""
    from ormas_monitor import Monitor

    monitor = Monitor(training.model, training.optimizer, check_every=1, out=folder / "run", verbose=False)
    yield OrmasStep(monitor)
    monitor.close(report=False)


@contextmanager
def torch_audit(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """`autopatch(model, optimizer=optimizer, every_n_steps=1)`: https://pypi.org/project/torch-audit/."""
    from torch_audit import autopatch

    auditor = autopatch(training.model, optimizer=training.optimizer, every_n_steps=1)
    yield Nothing()
    failed = [finding.message for finding in auditor.findings if finding.rule_id == "TA000"]  # its internal errors
    auditor.unpatch()
    if failed:
        raise RuntimeError(failed[0])


class AutopsyStep(Nothing):
    """`Autopsy.step` stands after the optimizer."""

    def __init__(self, autopsy: Any) -> None:
        self.autopsy = autopsy

    def after_step(self, loss: Tensor) -> None:
        """Collect what the hooks saw."""
        self.autopsy.step(loss=loss.item())


@contextmanager
def torchmortem(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """`Autopsy(model, optimizer=optimizer, sampling="thorough")`: https://pypi.org/project/torchmortem/."""
    from torchmortem import Autopsy

    autopsy = Autopsy(training.model, optimizer=training.optimizer, sampling="thorough")
    autopsy.attach()
    yield AutopsyStep(autopsy)
    autopsy.detach()


class Lists(Nothing):
    """Layer outputs with their gradients, and log10 of the update:data ratio of every parameter at every step."""

    def __init__(self, training: Training) -> None:
        self.optimizer = training.optimizer
        self.parameters = list(training.model.parameters())
        self.outputs: dict[nn.Module, Tensor] = {}
        self.losses: list[float] = []
        self.ratios: list[list[float]] = []

    def keep(self, layer: nn.Module, _: object, output: Tensor) -> None:
        """Forward hook: keep the output, and its gradient once there is one."""
        output.retain_grad()
        self.outputs[layer] = output

    def after_step(self, loss: Tensor) -> None:
        """Append to the lists; an embedding of one column or a single weight has no spread, hence no ratio."""
        rate = self.optimizer.param_groups[0]["lr"]
        self.losses.append(loss.log10().item())
        with torch.no_grad():
            self.ratios.append(
                [((rate * p.grad).std() / p.data.std()).log10().item() for p in self.parameters if p.numel() > 1]
            )


@contextmanager
def lecture(training: Training, folder: Path) -> Iterator[Observer]:  # noqa: ARG001
    """The lists of https://github.com/karpathy/nn-zero-to-hero, makemore part 3, for a model of modules."""
    lists = Lists(training)
    layers = [module for module in training.model.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(lists.keep) for layer in layers]
    yield lists
    for hook in hooks:
        hook.remove()


Watch = Callable[[Training, Path], AbstractContextManager[Observer]]


@dataclass(frozen=True)
class Tool:
    """A row of the table: what it is called there, how it watches, and what `import` it begins with."""

    label: str
    watch: Watch
    module: str | None = None
    all_steps: bool = False  # make all the workload's steps, also when they take longer than the time given


TOOLS = {
    "bare": Tool("bare", bare, all_steps=True),
    "unstuck-every": Tool("unstuck, every step", unstuck_every_step, "unstuck"),
    "unstuck-default": Tool("unstuck, default", unstuck_default, "unstuck", all_steps=True),
    "ormas-monitor": Tool("ormas-monitor", ormas, "ormas_monitor"),
    "torch-audit": Tool("torch-audit", torch_audit, "torch_audit"),
    "lecture": Tool("the lecture's lists", lecture),
    "torchmortem": Tool("torchmortem", torchmortem, "torchmortem"),
    "tensorboard": Tool("TensorBoard histograms", tensorboard, "torch.utils.tensorboard"),
    "wandb": Tool("wandb.watch(all)", wandb_watch, "wandb"),
}
