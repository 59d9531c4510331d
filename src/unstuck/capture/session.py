"""One watched run: start, stop, always undo."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

from unstuck.capture.boundaries import Boundaries
from unstuck.capture.compiled import Compiler
from unstuck.capture.forward import CaptureMode
from unstuck.capture.intervention import Intervention
from unstuck.capture.losses import note_objective
from unstuck.capture.modules import ModuleTracker
from unstuck.capture.recorder import Recorder
from unstuck.capture.sampled import SampledPatches
from unstuck.capture.schedule import Schedule
from unstuck.trace import Trace


class StopTraining(BaseException):
    """Raised inside the user's loop when the wanted number of steps is done."""


class SessionError(RuntimeError):
    """A session cannot start."""


_active_lock = threading.Lock()
_active: Session | None = None


class Session:
    """Watches all training done by the thread that starts it; fills `trace`.

    `max_steps` ends the user's loop by raising `StopTraining` when that many updates are done. An error inside the
    session is reported once on standard error, the session detaches itself, and the training goes on.
    """

    def __init__(
        self,
        schedule: Schedule | None = None,
        *,
        max_steps: int | None = None,
        intervention: Intervention | None = None,
    ) -> None:
        self.trace = Trace()
        self.schedule = schedule or Schedule()
        self.max_steps = max_steps
        self.seconds = 0.0
        self._modules = ModuleTracker(self._guard)
        self._recorder = Recorder(self.trace, self._modules, self._guard, intervention)
        self._mode = CaptureMode(self._recorder, self._guard)
        self._patches = SampledPatches(self._recorder, self._mode, self._guard)
        self._compiler = Compiler(self._guard)
        self._boundaries = Boundaries(self, self._compiler)
        self._thread = 0
        self._process = 0
        self._installed = False
        self._step = 0  # the update under way: the next one to be made, until it is measured
        self._sampled = False  # whether the forward pass under way is watched
        self._was_sampled = False  # whether the one before the last backward was
        self._backwards = 0  # backward calls since the last update
        self._backwards_per_update = 1  # in a loop without optimizer, as seen while sampled
        self._optimizer_loop = False
        self._snapshot_of = -1  # the step whose values before the update are kept, in such a loop
        self._stepping: int | None = None  # the optimizer (its id) whose step is under way
        self._stepped: set[int] = set()  # the optimizers that have stepped since the last backward
        self._loss_scale = 1.0

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch; raises SessionError when another session is running in this process."""
        global _active
        with _active_lock:
            if _active is not None:
                raise SessionError("another unstuck session is running; end it first (sessions cannot be nested)")
            _active = self
        self._thread, self._process = threading.get_ident(), os.getpid()
        self._installed = True
        try:
            self._boundaries.install()
            self._compiler.install()
            self._prepare(0)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End watching and undo every patch, hook and mode; harmless when called twice."""
        global _active
        if self._installed and self._snapshot_of == self._step and not self._optimizer_loop:
            self._guard(self._recorder.parameters.measure_updates, self._step)
        self._detach()
        with _active_lock:
            if _active is self:
                _active = None

    def _detach(self) -> None:
        self._installed = False
        self._mode.active = False
        self._boundaries.remove()
        self._modules.remove()
        self._patches.remove()
        self._remove_mode()
        self._compiler.remove()
        self._recorder.origins.clear()

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def steps(self) -> int:
        """Number of updates seen."""
        if self._optimizer_loop:
            return self._step
        return self._step + (1 if self._backwards else 0)

    def parameter(self, site: int) -> Tensor | None:
        """Return the live parameter of a parameter site, or None."""
        return self._recorder.parameters.live(site)

    def uses(self, parameter: Tensor) -> int:
        """Return in how many places a parameter was used."""
        return self._recorder.parameters.uses(parameter)

    def trains(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a known parameter."""
        return self._recorder.parameters.knows(tensor)

    def running_mean(self, site: int) -> Tensor | None:
        """Return the live running mean, shape (units,), of a batch normalisation site, or None."""
        reference = self._recorder.running_means.get(site)
        return reference() if reference is not None else None

    # -- our own errors --------------------------------------------------------------------------------------------

    def _guard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run our code; should it fail, say so once, detach, and let the training go on."""
        if not self._installed:
            return None
        begun = time.perf_counter()
        try:
            with torch._C.DisableTorchFunction():
                return function(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the user's training)
            self._fail(error)
            return None
        finally:
            self.seconds += time.perf_counter() - begun

    def _fail(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        self.trace.facts.internal_error = text
        print(  # noqa: T201
            f"unstuck: internal error, watching ends here and the training goes on: {text}. "
            "Please report it with the script that showed it.",
            file=sys.stderr,
        )
        self._detach()

    def _ours(self) -> bool:
        return self._installed and threading.get_ident() == self._thread and os.getpid() == self._process

    # -- the mode --------------------------------------------------------------------------------------------------

    def _next_step(self) -> None:
        """Get ready for the forward pass of the next step, once no compiled function is running."""
        self._compiler.when_outside(
            lambda: self._prepare(self._step if self._optimizer_loop else self._step + min(self._backwards, 1))
        )

    def _prepare(self, step: int) -> None:
        """Get ready for the forward pass of `step`."""
        self._sampled = self.schedule.is_sampled(step)
        self._compiler.eager(self._sampled)
        self._mode.active = self._sampled
        if self._sampled:
            self._recorder.begin(step)
            self._modules.install()
            self._patches.install()
            self._install_mode()
        else:
            self._modules.remove()
            self._patches.remove()
            self._remove_mode()

    def _install_mode(self) -> None:
        """Put our mode below the user's own, so that leaving theirs never takes ours away."""
        stack = _stack()
        if self._mode not in stack:
            self._restack([self._mode, *stack])

    def _remove_mode(self) -> None:
        stack = _stack()
        if self._mode in stack:
            self._restack([mode for mode in stack if mode is not self._mode])

    @staticmethod
    def _restack(modes: list[Any]) -> None:
        for _ in range(len(_stack())):
            _pop_mode()  # type: ignore[no-untyped-call]
        for mode in modes:
            _push_mode(mode)  # type: ignore[no-untyped-call]

    # -- what the boundaries tell ----------------------------------------------------------------------------------

    def backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        """A forward pass is over. In a loop without optimizer the update before it is over as well."""
        if self._ours():
            self._guard(self._on_backward_begins, objectives)
            self._stop_if_done()

    def _on_backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        recorder = self._recorder
        if self._backwards and not self._optimizer_loop and self._updated_by_hand():
            self._finish_by_hand()
        self._mode.active = False
        if self._done():
            return
        if self._optimizer_loop and self._stepping is None:
            recorder.parameters.forget_snapshots()
        self._stepped.clear()
        self._backwards += 1
        self.trace.facts.backward_calls += 1
        value = _value(objectives, always=self._sampled)
        if value is not None:
            self.trace.objective.setdefault(self._step, value / self._loss_scale)
        if self._sampled:
            self.trace.add_step(self._step)
            recorder.loss_scale = self._loss_scale
            if value is not None:
                note_objective(recorder, objectives[0], value / self._loss_scale)
            recorder.backward_begins(self._step)

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

    def update_begins(self, optimizer: Optimizer) -> None:
        """An optimizer is about to change its parameters: gradients are final (or a closure will compute them)."""
        if self._ours():
            self._guard(self._on_update_begins, optimizer)

    def _on_update_begins(self, optimizer: Optimizer) -> None:
        if not self._optimizer_loop:
            self._optimizer_loop = True
            self._sampled = self._was_sampled if self._backwards else self._sampled
        self._stepping = id(optimizer)
        another = not self._backwards and bool(self._stepped) and self._stepping not in self._stepped
        if not self._sampled or another:
            return
        parameters = self._recorder.parameters
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameters.add_unused(parameter)
        if self._backwards:
            scale = getattr(optimizer, "grad_scale", None)  # set by GradScaler for fused optimizers, which unscale
            parameters.measure_gradients(self._step, scale=1.0 if scale is None else float(scale))
        parameters.snapshot(self._step)

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

    def weights_loaded(self) -> None:
        """The network does not start from its initialisation."""
        if self._ours():
            self.trace.facts.weights_loaded = True

    def _stop_if_done(self) -> None:
        if self._installed and self._done():
            raise StopTraining

    def _done(self) -> bool:
        return self.max_steps is not None and self._step >= self.max_steps


def _value(objectives: tuple[Tensor, ...], *, always: bool) -> float | None:
    """Return the scalar that backward is called on; None for several, non-scalars, or (unless `always`) on devices."""
    if len(objectives) != 1 or objectives[0].numel() != 1:
        return None
    tensor = objectives[0].detach()
    return float(tensor) if always or tensor.device.type == "cpu" else None


def _stack() -> list[Any]:
    """Return this thread's function modes, outermost first."""
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]
