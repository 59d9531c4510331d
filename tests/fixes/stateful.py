"""A network with state of every kind, and all of it as something that can be compared."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (16,), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Everything that a module may hold: buffers of both sorts, tied weights, tensors, counters, lists."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)
        self.body[3].weight = self.body[0].weight
        self.wide = nn.Parameter(torch.randn(6, 4).t())
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.mask = torch.ones(4)
        self.calls, self.name, self.history, self.last = 0, "net", [1.0], deque([1], maxlen=3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(float(self.calls))
        self.last.append(self.calls)
        self.seen += len(x)
        self.mask = self.mask * 0.5
        h = self.body(x) + (x @ self.wide).sum(1, keepdim=True)
        return self.head(h)


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def written(value: Any) -> Any:
    """Return a value as something that == compares bit for bit."""
    if isinstance(value, Tensor):
        return bits(value), value.shape, value.stride(), value.dtype
    if isinstance(value, dict):
        return {key if isinstance(key, str) else id(key): written(held) for key, held in value.items()}
    return [written(held) for held in value] if isinstance(value, list | tuple | deque | set) else value


def everything(net: nn.Module, *optimizers: torch.optim.Optimizer) -> dict[str, Any]:
    """Write down all that a snapshot of `net` and `optimizers` promises to keep."""
    modules = dict(net.named_modules())
    plain = (int, float, bool, str, list, deque, type(None), Tensor)
    return {
        "modules": [(name, id(module), list(module._modules)) for name, module in modules.items()],
        "modes": [module.training for module in modules.values()],
        "parameters": [(name, id(p), written(p), p.requires_grad) for name, p in net.named_parameters()],
        "tied": [list(module._parameters) for module in modules.values()],
        "buffers": [(name, id(b), written(b)) for name, b in net.named_buffers()],
        "state_dict": [*net.state_dict()],
        "gradients": [(None if p.grad is None else (id(p.grad), written(p.grad))) for p in net.parameters()],
        "attributes": [
            (name, key, written(value))
            for name, module in modules.items()
            for key, value in sorted(vars(module).items())
            if isinstance(value, plain)
        ],
        "optimizers": [written(dict(o.state)) for o in optimizers],
        "groups": [
            [{k: [id(p) for p in v] if k == "params" else written(v) for k, v in g.items()} for g in o.param_groups]
            for o in optimizers
        ],
        "generators": (random.getstate(), written(np.random.get_state()[1].tolist()), bits(torch.get_rng_state())),
    }


def zeros_like(value: Tensor) -> Tensor:
    zeros = torch.zeros(value.shape).to(value.dtype)
    return zeros.to_sparse() if value.is_sparse else zeros


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(net(X), Y).backward()
    optimizer.step()
