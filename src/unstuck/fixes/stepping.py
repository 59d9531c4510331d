"""What is done to an optimizer's step from outside: learning rates scaled, gradients clipped, while it runs.

Both are optimizer hooks (https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.register_step_pre_hook.html).
The groups hold the user's own learning rates before and after each step, so that a scheduler, which computes the next
rate from the last one or writes it anew, goes on as if nothing had happened, and a saved state holds no scaled rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

Hook = TypeVar("Hook", "RateScale", "GradientBound")


class RateScale:
    """Multiplies the learning rates of parameter groups, by their number, while an optimizer steps.

    An optimizer has at most one: another one takes over the factors of the one before, times its own.
    """

    def __init__(self, optimizer: Optimizer, factors: Mapping[int, float]) -> None:
        earlier = _hook_of(optimizer, RateScale)
        self.factors: dict[int, float] = dict(earlier.factors) if earlier else {}
        for number, factor in factors.items():
            self.factors[number] = self.factors.get(number, 1.0) * factor
        self._scaled: list[tuple[dict[str, Any], Any, Any]] = []  # group, own rate, scaled rate
        if earlier:
            _unhook(optimizer, earlier)
        optimizer.register_step_pre_hook(self)
        optimizer.register_step_post_hook(self.put_back)

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Scale, before a step; rates left by a step that raised are put back first."""
        self.put_back(optimizer, args, kwargs)
        for number, group in enumerate(optimizer.param_groups):
            if number in self.factors:
                own = group["lr"]
                group["lr"] = scaled = own * self.factors[number]
                self._scaled.append((group, own, scaled))

    def put_back(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Put the user's rates back, after a step; one that was set within the step stays."""
        for group, own, scaled in self._scaled:
            if group["lr"] is scaled:
                group["lr"] = own
        self._scaled.clear()


class GradientBound:
    """Scales an optimizer's gradients before each step so that their global norm is at most `bound`.

    Gradients that carry a `GradScaler`'s factor, as those of fused optimizers do, are measured without it. Norms that
    are not finite are left alone. An optimizer has at most one; another one replaces it.
    """

    def __init__(self, optimizer: Optimizer, bound: float) -> None:
        self.bound = bound
        if earlier := _hook_of(optimizer, GradientBound):
            _unhook(optimizer, earlier)
        optimizer.register_step_pre_hook(self)

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Clip."""
        held = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [gradient.detach() for gradient in held if gradient.layout is torch.strided]
        if not gradients:
            return
        norm = torch.stack([_norm(gradient).to(gradients[0].device) for gradient in gradients]).norm()
        scale = getattr(optimizer, "grad_scale", None)
        bound = self.bound if scale is None else self.bound * scale.to(norm.device)
        factor = torch.where(norm.isfinite() & (norm > bound), bound / norm, torch.ones_like(norm))
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device, gradient.dtype))


def _norm(gradient: Tensor) -> Tensor:
    wide = torch.promote_types(gradient.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(gradient, dtype=wide)
    return norm


def _hook_of(optimizer: Optimizer, kind: type[Hook]) -> Hook | None:
    return next((hook for hook in optimizer._optimizer_step_pre_hooks.values() if isinstance(hook, kind)), None)


def factor_of(optimizer: Optimizer, group: int) -> float:
    """Return by what the learning rate of a parameter group is multiplied in each step."""
    scale = _hook_of(optimizer, RateScale)
    return scale.factors.get(group, 1.0) if scale else 1.0


def _unhook(optimizer: Optimizer, hook: RateScale | GradientBound) -> None:
    """Take a hook of ours off an optimizer."""
    for hooks in (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks):
        for key in [key for key, held in hooks.items() if held is hook or getattr(held, "__self__", None) is hook]:
            del hooks[key]
