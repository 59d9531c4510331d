"""Many networks of the ladder at once in plain torch: stacked parameters, batched products, autograd.

The readable form of `compiled.py`, which it checks; in float64 it is the truth for tests. 40 networks take about twice
as long here as compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unstuck.lm.stages import MOMENTUM, FloatArray, IntArray, Network

TRAINED = ("embedding", "hidden_weight", "hidden_bias", "output_weight", "output_bias", "gain", "shift")


def advance(
    networks: Sequence[Network],
    contexts: IntArray,
    targets: IntArray,
    draws: Sequence[IntArray],
    rates: FloatArray,
    threads: int = 1,  # noqa: ARG001  (torch has its own)
    dtype: torch.dtype = torch.float32,
) -> list[FloatArray]:
    """As `compiled.advance`; computes in `dtype` and rounds to float32 at the end."""
    losses: dict[int, FloatArray] = {}
    for norm in (False, True):
        places = [k for k, network in enumerate(networks) if network.norm is norm]
        if places:
            stack = _Stack([networks[k] for k in places], dtype)
            found = stack.train(contexts, targets, np.stack([draws[k] for k in places], axis=1), rates)
            losses.update(zip(places, found.numpy(), strict=True))
    return [losses[k] for k in range(len(networks))]


class _Stack:
    """Networks of one kind; every array has an axis K in front, one place a network."""

    def __init__(self, networks: Sequence[Network], dtype: torch.dtype) -> None:
        self.networks = networks
        self.norm = networks[0].norm
        names = [name for name, _ in networks[0].arrays()]
        self.held = {
            name: torch.from_numpy(np.stack([getattr(network, name) for network in networks])).to(dtype)
            for name in names
        }
        unused = {"hidden_bias"} if self.norm else {"gain", "shift"}
        self.trained = [self.held[name].requires_grad_() for name in TRAINED if name not in unused]

    def train(self, contexts: IntArray, targets: IntArray, draws: IntArray, rates: FloatArray) -> Tensor:
        """Train for len(rates) steps with `draws` (>= S, K, B); the losses (K, S), float32."""
        x, y = torch.from_numpy(contexts).long(), torch.from_numpy(targets).long()
        losses = []
        for drawn, rate in zip(torch.from_numpy(draws).long(), rates.tolist(), strict=False):
            loss = self._loss(x[drawn], y[drawn])  # (K,)
            gradients = torch.autograd.grad(loss.sum(), self.trained)
            with torch.no_grad():
                torch._foreach_add_(self.trained, gradients, alpha=-rate)
            losses.append(loss.detach().float())
        for k, network in enumerate(self.networks):
            for name, array in network.arrays():
                array[:] = self.held[name][k].detach().float().numpy()
        return torch.stack(losses, 1)

    def _loss(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy (K,) of the batches (K, B, T) and (K, B)."""
        held = self.held
        network = torch.arange(len(contexts)).view(-1, 1, 1)
        x = held["embedding"][network, contexts].flatten(2)  # (K, B, F)
        pre = torch.baddbmm(held["hidden_bias"].unsqueeze(1), x, held["hidden_weight"])  # (K, B, H)
        if self.norm:
            mean, std = pre.mean(1, keepdim=True), pre.std(1, keepdim=True)
            for name, batch in (("running_mean", mean), ("running_std", std)):
                held[name].mul_(1 - MOMENTUM).add_(batch.detach().squeeze(1), alpha=MOMENTUM)
            pre = held["gain"].unsqueeze(1) * (pre - mean) / std + held["shift"].unsqueeze(1)
        logits = torch.baddbmm(held["output_bias"].unsqueeze(1), pre.tanh(), held["output_weight"])  # (K, B, V)
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)
