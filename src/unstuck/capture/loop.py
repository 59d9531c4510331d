"""What a session hears of the training loop, and what step it is.

A step is one update of the parameters: an optimizer's step (another optimizer right after it belongs to the same one),
or, in a loop without optimizer, the change found at the next backward call.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from torch import Tensor
from torch.optim.optimizer import Optimizer

from unstuck.capture.calls import Aftermath
from unstuck.capture.clipping import note_clip
from unstuck.capture.forward import CaptureMode
from unstuck.capture.ledger import WITH_OPTIMIZER_SECONDS
from unstuck.capture.losses import note_objective
from unstuck.capture.recorder import Recorder
from unstuck.capture.schedule import Schedule
from unstuck.trace import Trace


class StopTraining(BaseException):
    """Raised inside the user's loop when the wanted number of steps is done."""


class Others(Protocol):
    """The other processes that train the network together with this one, as far as they are watched as well."""

    @property
    def first(self) -> bool: ...  # noqa: D102  (whether this process is the one that reports)
    @property
    def met(self) -> bool: ...  # noqa: D102  (whether there were any, even if they are gone)
    def complete(self, step: int) -> bool: ...  # noqa: D102  (merge a sampled step; whether that was done)
    def ending(self, wanted: bool) -> bool: ...  # noqa: D102  (whether all are to end now, as the first has wanted)
    def leave(self) -> None: ...  # noqa: D102  (merge no more)


class TrainingLoop(ABC):
    """Follows a training loop by its boundaries and has the recorder write down each sampled step.

    Subclasses bring the recorder, the mode and the schedule, and say how to run code of ours (`_guard`), what to do
    when it fails (`_fail`), whether an event concerns this session (`_ours`), and how to get ready for the next forward
    pass (`_next_step`).
    """

    trace: Trace
    schedule: Schedule
    max_steps: int | None
    seconds: float  # spent in our own code
    _recorder: Recorder
    _aftermath: Aftermath
    _mode: CaptureMode
    _installed: bool
    _thread: int  # the watched one; 0 while nobody watches

    def __init__(self) -> None:
        self._step = 0  # the update under way: the next one to be made, until it is measured
        self._sampled = False  # whether the forward pass under way is watched
        self._was_sampled = False  # whether the one before the last backward was
        self._backwards = 0  # backward calls since the last update
        self._backwards_per_update = 1  # in a loop without optimizer, as seen while sampled
        self._optimizer_loop = False
        self._snapshot_of = -1  # the step whose values before the update are kept, in such a loop
        self._stepping: int | None = None  # the optimizer (its id) whose step is under way
        self._stepped: set[int] = set()  # the optimizers that have stepped since the last backward
        self._adds: dict[int, bool] = {}  # whether the n-th backward call of an update adds to the gradients
        self._loss_scale = 1.0
        self._gradient_scale = 1.0  # what of it is still in the gradients
        self._quiet = False  # whether events need only be counted; see `unwatched.py`
        self._since: float | None = None  # when the step under way began; None until the first backward call
        self._timed = 0  # which step that is
        self._idle_until = 0  # until that step the schedule need not be asked, nor the time be taken
        self._own_before = 0.0  # `seconds` at that time

    @abstractmethod
    def _guard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run our code so that its errors stay ours."""

    @abstractmethod
    def _fail(self, error: Exception) -> None:
        """Say what failed and end the watching."""

    @abstractmethod
    def _ours(self) -> bool:
        """Whether an event comes from the watched thread of the watched process."""

    @abstractmethod
    def _next_step(self) -> None:
        """Get ready for the next forward pass."""

    @abstractmethod
    def _merge(self, step: int) -> None:
        """Bring what was seen of a sampled step together with what other processes saw."""

    @property
    def steps(self) -> int:
        """Number of updates seen."""
        if self._optimizer_loop:
            return self._step
        return self._step + (1 if self._backwards else 0)

    def hears(self) -> bool:
        """Whether an event that happens now concerns this session."""
        return self._ours()

    def backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        """A forward pass is over. In a loop without optimizer the update before it is over as well."""
        if self._ours():
            self._guard(self._on_backward_begins, objectives)
            self._stop_if_done()

    def _on_backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        recorder = self._recorder
        if self._since is None:
            self._since = perf_counter()  # what was before (imports, reading data) is not training
        if self._backwards and not self._optimizer_loop and self._updated_by_hand():
            self._finish_by_hand()
        self._mode.active = False
        if self._done():
            return
        if self._optimizer_loop and self._stepping is None:
            recorder.parameters.forget_snapshots()
        self._stepped.clear()
        self._gradient_scale = self._loss_scale
        self._backwards += 1
        self.trace.facts.backward_calls += 1
        value = scalar_value(objectives, always=self._sampled)
        if value is not None:
            self._add_objective(value / self._loss_scale)
            if not (self._sampled or math.isfinite(value)):
                self._look_into(objectives[0], self._step)
        if self._sampled:
            self.trace.add_step(self._step)
            recorder.loss_scale = self._loss_scale
            passed = recorder.passed
            if value is not None:
                note_objective(recorder, objectives[0], value / self._loss_scale)
            self._aftermath.resolve(objectives)
            recorder.backward_begins(self._step)
            place = recorder.note_backward(None if value is None else value / self._loss_scale)
            if self._stepping is None:
                recorder.order.backward_begins(self._step, place, passed)

    def _look_into(self, objective: Tensor, step: int) -> None:
        """Find out what made the loss of an unwatched step NaN or infinite; the next step is watched for that."""
        if self._aftermath.look(objective, step):
            self.watch_step(step + 1)

    def watch_step(self, step: int) -> None:
        """Have a step watched that has not begun yet."""
        self.schedule.want(step)
        self._idle_until = min(self._idle_until, step)
        self._quiet = False

    @property
    def next_pass(self) -> int:
        """The step whose forward pass is the next to begin, asked between two updates."""
        return self._step + (1 if self._optimizer_loop else 2)

    def begin_again(self) -> None:
        """Take the next pass for the start of training: a repairer has put the parameters back."""
        self._recorder.parameters.start = self.next_pass
        self.schedule.begin_again(self.next_pass)
        self._idle_until = min(self._idle_until, self.next_pass)
        self._quiet = False

    def _add_objective(self, value: float) -> None:
        """Note a step's objective: the sum of the backward calls whose gradients add up; of a closure, the first."""
        earlier = self.trace.objective.get(self._step)
        if earlier is not None and self._stepping is not None:
            return
        adds = earlier is not None and self._accumulating()
        self.trace.objective[self._step] = value + (earlier or 0.0) if adds else value

    def _accumulating(self) -> bool:
        """Whether this backward call adds to gradients, which takes a look at them all: off samples, as on the last."""
        known = self._adds.get(self._backwards)
        if known is None or self._sampled:
            known = self._adds[self._backwards] = self._recorder.parameters.accumulating()
        return known

    def _updated_by_hand(self) -> bool:
        """Whether, in a loop without optimizer, an update followed the last backward call (else it accumulates)."""
        changed = self._recorder.parameters.changed_since_snapshot()
        if changed is None:
            return self._backwards >= self._backwards_per_update
        if changed:
            self._backwards_per_update = self._backwards
        return changed

    def _finish_by_hand(self) -> None:
        """Close a step whose update was made without an optimizer."""
        if self._snapshot_of == self._step:
            self._recorder.parameters.measure_updates(self._step)
            self._recorder.repair_after_update(self, self._step)
            self._merge(self._step)
        self._recorder.parameters.forget_snapshots()
        self._step += 1
        self._backwards = 0

    def backward_ended(self, gradients: dict[int, Tensor] | None = None) -> None:
        """Gradients are complete: in `.grad`, or returned, by the parameter's id, when `gradients` is given."""
        if self._ours():
            self._guard(self._on_backward_ended, gradients)

    def _on_backward_ended(self, gradients: dict[int, Tensor] | None) -> None:
        parameters = self._recorder.parameters
        self._was_sampled = self._sampled
        if self._sampled:
            self._recorder.commit(self._step)
            if self._stepping is None:
                self._recorder.order.backward_ended(self._recorder.passed)
            if self._recorder.repairing and self.trace.facts.backward_calls == 1:
                self._recorder.repair_after_pass(self)
            if gradients is not None or not self._optimizer_loop or (self._stepping and self._backwards == 1):
                parameters.measure_gradients(self._step, scale=self._loss_scale, given=gradients)
        self._loss_scale = 1.0
        if self._optimizer_loop:
            self._mode.active = self._sampled
            if self._sampled:
                self._recorder.new_pass()
            return
        if self._sampled:
            parameters.snapshot(self._step)
            self._snapshot_of = self._step
        self._next_step()

    def update_begins(self, optimizer: Optimizer, *, with_closure: bool = False) -> None:  # noqa: ARG002
        """An optimizer is about to change its parameters: gradients are final (or a closure will compute them)."""
        if self._ours():
            self._guard(self._on_update_begins, optimizer)

    def _on_update_begins(self, optimizer: Optimizer) -> None:
        if not self._optimizer_loop:
            self._optimizer_loop = True
            self.schedule.ledger.counting_seconds = WITH_OPTIMIZER_SECONDS
            self._sampled = self._was_sampled if self._backwards else self._sampled
        self._stepping = id(optimizer)
        another = not self._backwards and bool(self._stepped) and self._stepping not in self._stepped
        if not (self._was_sampled if another else self._sampled):
            return
        parameters, step = self._recorder.parameters, self._step - 1 if another else self._step
        recorder = self._recorder
        if groups := recorder.optimizers.note(optimizer, step):
            recorder.order.update_begins(optimizer, step, groups, recorder.passed, recorder.passing)
        if self._backwards or another:
            scale = getattr(optimizer, "grad_scale", None)  # set by GradScaler for fused optimizers, which unscale
            factor = 1.0 if scale is None else float(scale)
            parameters.measure_gradients(step, optimizer=self._stepping, scale=factor, with_snapshot=True)
        parameters.snapshot(step, self._stepping)

    def update_ended(self) -> None:
        """An optimizer has stepped: the step is over (another optimizer right after belongs to the same step)."""
        if self._ours():
            self._guard(self._on_update_ended)
            self._stop_if_done()

    def _on_update_ended(self) -> None:
        self.trace.facts.optimizer_steps += 1
        stepping, self._stepping = self._stepping, None
        if stepping is not None and self._stepped and not self._backwards:
            if self._was_sampled:
                self._recorder.parameters.measure_updates(self._step - 1)
            return
        if not self._backwards:
            return
        if self._sampled:
            self._recorder.parameters.measure_updates(self._step)
            self._recorder.repair_after_update(self, self._step)
        self._end_step()
        if stepping is not None:
            self._stepped.add(stepping)

    def _end_step(self) -> None:
        self._was_sampled = self._sampled
        self._step += 1
        self._backwards = 0
        self._next_step()

    def loss_scaled(self, scale: float) -> None:
        """AMP has multiplied the loss by `scale`; the next backward brings gradients multiplied by it."""
        if self._ours():
            self._loss_scale = scale

    def update_skipped(self) -> None:
        """AMP has found non-finite gradients and skipped the optimizer's step: the step is over without an update."""
        if self._ours():
            self._guard(self._on_update_skipped)
            self._stop_if_done()

    def _on_update_skipped(self) -> None:
        self.trace.facts.skipped_updates += 1
        self._optimizer_loop = True
        if self._backwards:
            self._end_step()

    def clipped(self, max_norm: float, total_norm: Tensor) -> None:
        """Gradients are about to be multiplied so that their norm is at most `max_norm`."""
        watched = self._sampled if self._optimizer_loop else self._was_sampled
        if self._ours() and watched and self._backwards:
            self._guard(note_clip, self._recorder, self._step, max_norm, total_norm, self._gradient_scale)

    def unscaled(self) -> None:
        """AMP has divided gradients by its scale."""
        if self._ours():
            self._gradient_scale = 1.0

    def weights_loaded(self) -> None:
        """The network does not start from its initialisation."""
        if self._ours():
            self.trace.facts.weights_loaded = True

    def _stop_if_done(self) -> None:
        if self._installed and self._done():
            raise StopTraining

    def _done(self) -> bool:
        return self.max_steps is not None and self._step >= self.max_steps


def scalar_value(objectives: tuple[Tensor, ...], *, always: bool) -> float | None:
    """Return the scalar that backward is called on; None for several, non-scalars, or (unless `always`) on devices."""
    if len(objectives) != 1 or objectives[0].numel() != 1:
        return None
    tensor = objectives[0].detach()
    return float(tensor) if (always or tensor.device.type == "cpu") and not tensor.is_complex() else None
