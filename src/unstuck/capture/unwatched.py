"""Steps that nobody watches: counted, and nothing else, in a few microseconds.

Between two samples the events of a loop need neither the recorder nor the guard around our code: a step number, the
loss, the time. Whatever is more than that (a sampled step begins, an update belongs to several backward calls, the
step limit is reached) is left to `loop.py`. An error in here ends the watching like any other of ours.
"""

from __future__ import annotations

from threading import get_ident
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from unstuck.capture.compiled import uncompiled
from unstuck.capture.loop import TrainingLoop, scalar_value

_modes_are_on = torch._C._is_torch_function_mode_enabled


class UnwatchedSteps(TrainingLoop):
    """A training loop that counts the steps between samples; each `counts_…` tells whether counting was enough.

    `_quiet` says that it may be: neither the step under way nor the one before it is watched.
    """

    @uncompiled
    def counts_backward(self, objective: Any) -> bool:
        """Backward is called on a tensor."""
        if not self._quiet or get_ident() != self._thread:
            return False
        try:
            step, backwards = self._step, self._backwards
            if backwards >= self._backwards_per_update and not self._optimizer_loop:
                step, backwards = step + 1, 0
            if type(objective) is not Tensor or (self.max_steps is not None and step >= self.max_steps):
                return False
            objectives = self.trace.objective
            if step not in objectives:
                value = _read(objective)
                if value is not None:
                    objectives[step] = value / self._loss_scale
                    if value - value != 0.0:  # NaN or infinity
                        self._guard(self._look_into, objective, step)
            elif self._stepping is None:
                return False  # gradients may be accumulating
            self._step, self._backwards = step, backwards + 1
            self._stepped.clear()
            self.trace.facts.backward_calls += 1
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the user's training)
            self._fail(error)
        return True

    @uncompiled
    def counts_backward_end(self) -> bool:
        """Backward has returned."""
        if not self._quiet or get_ident() != self._thread:
            return False
        self._loss_scale = 1.0
        return self._optimizer_loop or self._counts_step()

    @uncompiled
    def counts_update(self, optimizer: Optimizer) -> bool:
        """An optimizer is about to step."""
        if not self._quiet or not self._optimizer_loop or get_ident() != self._thread:
            return False
        self._stepping = id(optimizer)
        return True

    @uncompiled
    def counts_update_end(self) -> bool:
        """An optimizer has stepped."""
        if not self._quiet or not self._optimizer_loop or get_ident() != self._thread:
            return False
        stepping = self._stepping
        if self._backwards:
            if (self.max_steps is not None and self._step + 1 >= self.max_steps) or not self._counts_step():
                return False
            self._step += 1
            self._backwards = 0
            if stepping is not None:
                self._stepped.add(stepping)
        self._stepping = None
        self.trace.facts.optimizer_steps += 1
        return True

    @uncompiled
    def _counts_step(self) -> bool:
        """Take the time of the steps since it was last taken; False when the next one is to be watched."""
        step = self._step + 1
        if step < self._idle_until:
            return True
        try:
            if step != self._timed and self._since is not None:
                now = perf_counter()
                own = self.seconds - self._own_before  # of events that needed more than counting
                self.schedule.ledger.plain(now - self._since, own, step - self._timed)
                self._since, self._own_before, self._timed = now, self.seconds, step
            self._quiet = not self.schedule.is_sampled(step)
            self._idle_until = self.schedule.idle_until
        except Exception as error:  # noqa: BLE001
            self._fail(error)
        return self._quiet


@uncompiled
def _read(tensor: Tensor) -> float | None:
    """Return the value of a scalar on the CPU, or None."""
    if _modes_are_on():
        with torch._C.DisableTorchFunction():
            return scalar_value((tensor,), always=False)
    if tensor.numel() != 1 or not tensor.is_cpu:
        return None
    value = tensor.item()
    return value if type(value) is float else None
