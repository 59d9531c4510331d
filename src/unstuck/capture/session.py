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
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from unstuck import stats
from unstuck.capture import modes
from unstuck.capture.boundaries import Boundaries
from unstuck.capture.calls import Aftermath
from unstuck.capture.clipping import ClippingPatches
from unstuck.capture.compiled import Compiler
from unstuck.capture.evaluation import EvaluationPasses
from unstuck.capture.forward import CaptureMode
from unstuck.capture.intervention import Intervention
from unstuck.capture.loaders import Loaders
from unstuck.capture.loop import Others, StopTraining
from unstuck.capture.modules import ModuleTracker
from unstuck.capture.probes import looks
from unstuck.capture.recorder import Recorder
from unstuck.capture.sampled import SampledPatches
from unstuck.capture.schedule import Schedule
from unstuck.capture.unwatched import UnwatchedSteps
from unstuck.capture.wrappers import several_processes
from unstuck.trace import Trace


class SessionError(RuntimeError):
    """A session cannot start."""


__all__ = ["Session", "SessionError", "StopTraining"]

_active_lock = threading.Lock()
_active: Session | None = None


class Session(UnwatchedSteps):
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
        super().__init__()
        self.trace = Trace()
        self.schedule = schedule or Schedule()
        self.max_steps = max_steps
        self.seconds = 0.0
        self.loading_seconds = 0.0
        self._loaded_seconds = 0.0  # of them, those that `stats` tells of and are entered
        self._guarded_since: float | None = None  # when the code of ours that is running was begun
        self._modules = ModuleTracker(self._guard)
        self._recorder = Recorder(self.trace, self._modules, self._guard, intervention)
        self._aftermath = Aftermath(self._recorder)
        self._mode = CaptureMode(self._recorder, self._guard)
        self._patches = SampledPatches(self._recorder, self._mode, self._guard, self._step_aside)
        self._clipping = ClippingPatches(self.clipped, self.unscaled)
        self._compiler = Compiler(self._guard)
        self._boundaries = Boundaries(self, self._compiler)
        self._evaluations = EvaluationPasses(self, self._recorder, self._boundaries, self._compiler, self._guard)
        recorder = self._recorder
        self._loaders = Loaders(
            self.trace, recorder.sites, recorder.locator, self._guard, self._here, lambda: self.steps
        )
        self._thread = 0
        self._installed = False
        self._mode_is_away = False  # while an optimizer computes
        self._undo: list[Callable[[], None]] = []  # what a repairer has installed
        self.others: Others | None = None  # processes that train the network together with this one
        self.when_complete: Callable[[], object] | None = None  # called when all is known of the steps so far
        self.when_sampled: Callable[[], object] | None = None  # called when a sampled step's backward or update is over

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch; raises SessionError when another session is running in this process."""
        global _active
        with _active_lock:
            if _active is not None:
                raise SessionError("another unstuck session is running; end it first (sessions cannot be nested)")
            _active = self
        self._thread = threading.get_ident()
        self._installed = True
        try:
            self._load()
            self._boundaries.install()
            self._evaluations.install()
            self._loaders.install()
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
        self.note_cost()
        self._detach()
        with _active_lock:
            if _active is self:
                _active = None

    def _load(self) -> None:
        """Load what summaries need, so that its time, spent once however long the run, is not charged to step 0."""
        begun = time.perf_counter()
        self._guard(_load_kernels)
        self.loading_seconds, self.seconds = time.perf_counter() - begun, 0.0
        self._loaded_seconds = stats.loading_seconds()

    def _set_loading_apart(self) -> None:
        """Charge what was loaded or compiled just now, for another dtype say, to nobody's step either."""
        late = stats.loading_seconds() - self._loaded_seconds
        if late > 0.0:
            self._loaded_seconds += late
            self.set_apart(late)

    def set_apart(self, seconds: float) -> None:
        """Charge to loading, and to nobody's step, what our own code has just spent once, however long the run."""
        self.loading_seconds += seconds
        self.seconds -= seconds
        if self._since is not None:
            self._since += seconds

    def forget(self) -> None:
        """Watch nothing any more and undo nothing: this process is a fork of the watched one."""
        self._installed = self._quiet = self._mode.active = False
        self._evaluations.forget()
        self._thread = 0

    def _detach(self) -> None:
        self._installed = self._quiet = False
        self._thread = 0
        self._mode.active = False
        while self._undo:
            self._undo.pop()()
        self._evaluations.remove()
        self._boundaries.remove()
        self._loaders.remove()
        self._modules.remove()
        self._clipping.remove()
        self._patches.remove()
        self._remove_mode()
        self._compiler.remove()
        self._recorder.origins.clear()
        if self.others is not None:
            self.others.leave()

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def parameter(self, site: int) -> Tensor | None:
        """Return the live parameter of a parameter site, or None."""
        return self._recorder.parameters.live(site)

    def uses(self, parameter: Tensor) -> int:
        """Return in how many places a parameter was used."""
        return self._recorder.parameters.uses(parameter)

    def unit_dim(self, site: int) -> int:
        """Return the dimension of a parameter, by its site, whose entries are the layer's units."""
        return self._recorder.parameters.unit_dim(site)

    def forget_parameter(self, parameter: Tensor) -> None:
        """Watch a parameter no more: the network has lost it."""
        self._recorder.parameters.forget(parameter)

    def while_watched(self, install: Callable[[], Callable[[], None]]) -> None:
        """Install something; what that returns undoes it when the watching ends."""
        self._undo.append(install())

    def know(self, model: nn.Module) -> None:
        """Name what a model holds before it runs: some optimizers see its parameters first, and call it themselves."""
        self._guard(self._modules.know, model)

    def has_run(self, module: nn.Module) -> bool:
        """Tell whether a module was called itself, not only what it holds."""
        return self._modules.has_run(module)

    def trains(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a known parameter."""
        return self._recorder.parameters.knows(tensor)

    @property
    def models(self) -> list[nn.Module]:
        """The modules that no other module's code calls, as far as they still exist."""
        return [module for reference in self._modules.roots if (module := reference()) is not None]

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that have stepped in sampled steps, as far as they still exist."""
        return self._recorder.optimizers.live()

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters that took part or sit in an optimizer, as far as they still exist."""
        return self._recorder.parameters.all_live()

    @property
    def one_of_many(self) -> bool:
        """Whether several processes train this network together, or did."""
        return several_processes() or (self.others is not None and self.others.met)

    def running_mean(self, site: int) -> Tensor | None:
        """Return the live running mean, shape (units,), of a batch normalisation site, or None."""
        reference = self._recorder.running_means.get(site)
        return reference() if reference is not None else None

    # -- our own errors --------------------------------------------------------------------------------------------

    def _guard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run our code; should it fail, say so once, detach, and let the training go on."""
        if not self._installed:
            return None
        outer, begun = self._guarded_since, time.perf_counter()
        if outer is None:
            self._guarded_since = begun
        try:
            with torch._C.DisableTorchFunction():
                return function(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the user's training)
            self._fail(error)
            return None
        finally:
            if outer is None:
                self.seconds += time.perf_counter() - begun
                self._guarded_since = None
                self._set_loading_apart()

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
        if not self._installed:
            return False
        if threading.get_ident() != self._thread:
            self.trace.facts.other_threads = True
            return False
        return True

    def _here(self) -> bool:
        return self._installed and threading.get_ident() == self._thread

    # -- the mode --------------------------------------------------------------------------------------------------

    def _next_step(self) -> None:
        """Get ready for the forward pass of the next step, once no compiled function is running."""
        self._compiler.when_outside(
            lambda: self._prepare(self._step if self._optimizer_loop else self._step + min(self._backwards, 1))
        )

    def _prepare(self, step: int) -> None:
        """Get ready for the forward pass of `step`."""
        if not self._installed:
            return
        self._evaluations.end()
        self._take_time(step)
        measured = self._optimizer_loop or self._snapshot_of != self._step  # no update is left to be measured
        if measured and self._sampled:
            self._merge(step - 1)
        if measured and self.when_complete is not None:
            self.when_complete()
        if self._sampled and self.when_sampled is not None:
            self.when_sampled()
        self._sampled = self.schedule.is_sampled(step)
        self._idle_until = self.schedule.idle_until
        self._compiler.eager(self._sampled)
        if self._sampled or (self._was_sampled and not self._optimizer_loop):  # then gradients are still to be used
            self._clipping.install()
        else:
            self._clipping.remove()
        self._mode.active = self._sampled
        self._recorder.note_call = self._aftermath.begin(step, sampled=self._sampled)
        if self._sampled:
            self._recorder.begin(step)
            self._modules.install()
            self._patches.install()
            self._install_mode()
        else:
            self._recorder.origins.clear()  # it holds on to parameters
            self._modules.remove()
            self._patches.remove()
            self._remove_mode()
        self._quiet = measured and not (self._sampled or self._was_sampled)

    def _merge(self, step: int) -> None:
        """Bring what was seen of a sampled step together with what other processes saw."""
        if self.others is not None and self.schedule.is_common(step):
            begun = time.perf_counter()
            merged, spent = self.others.complete(step), time.perf_counter() - begun
            if merged:
                self.schedule.ledger.merging(spent)
            if self._since is not None:
                self._since, self._own_before = self._since + spent, self._own_before + spent

    def _take_time(self, step: int) -> None:
        """Close the account of the step before `step`, when training has begun and that was not done before."""
        if self._since is None or step == self._timed:
            return
        self._set_loading_apart()
        now = time.perf_counter()
        own = self.seconds if self._guarded_since is None else self.seconds + now - self._guarded_since
        seconds, beyond = now - self._since, own - self._own_before
        if self._sampled:
            self.schedule.sampled(seconds, beyond)
        else:
            self.schedule.ledger.plain(seconds, beyond, step - self._timed)
        self._since, self._own_before, self._timed = now, own, step

    def note_cost(self) -> None:
        """Write what watching has cost so far into the trace's facts."""
        ledger, steps = self.schedule.ledger, self.steps - self._timed
        if self._quiet and self._since is not None and steps > 0:  # when the last of these ended was not noted
            now, typical = time.perf_counter(), ledger.step_seconds
            likely = now - self._since if typical is None else steps * (typical + ledger.counting_seconds)
            ledger.plain(min(likely, now - self._since), steps=steps)
            self._since, self._timed = now, self.steps
        pending = max(0.0, self.seconds - self._own_before)
        self.trace.facts.watching = self.schedule.watching(self.loading_seconds, pending)

    def _step_aside(self, away: bool) -> None:
        """Take the mode and the module hooks away for a while within a sampled step, or put them back."""
        if not self._ours() or not self._sampled:
            return
        if away:
            self._modules.remove()
            self._remove_mode()
        else:
            self._modules.install()
            self._install_mode()

    def update_begins(self, optimizer: Optimizer, *, with_closure: bool = False) -> None:
        """Also take the mode away while the optimizer computes, unless that may mean forward passes (a closure)."""
        super().update_begins(optimizer, with_closure=with_closure)
        if self._sampled and not with_closure and self._ours():
            self._remove_mode()
            self._mode_is_away = True

    def update_ended(self) -> None:
        """Put the mode back."""
        if self._mode_is_away and self._ours():
            self._mode_is_away = False
            self._install_mode()
        super().update_ended()

    def _install_mode(self) -> None:
        """Put our mode below the user's own, so that leaving theirs never takes ours away."""
        modes.put_below(self._mode)

    def _remove_mode(self) -> None:
        modes.take_away(self._mode)


def _load_kernels() -> None:
    stats.load()
    looks()


def _forget_in_fork() -> None:
    """Let a forked process (a DataLoader's worker) go its own way."""
    if _active is not None:
        _active.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, where processes are never forked
    os.register_at_fork(after_in_child=_forget_in_fork)
