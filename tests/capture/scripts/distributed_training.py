"""One of two processes training a network together: once unwatched, once watched; writes what it saw as JSON.

Run by tests/capture/test_distributed.py as `distributed_training.py ddp|fsdp RANK PORT`.
"""

import json
import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.trace import Kind, Role

STEPS = 14
LAST = STEPS - 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.outer = nn.Linear(8, 3)

    def forward(self, x):
        return self.outer(torch.tanh(self.norm(self.inner(x))))


def make_net():
    torch.manual_seed(0)
    return Net()


def wrap(kind, net):
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    from torch.distributed.fsdp import fully_shard

    fully_shard(net.inner)
    fully_shard(net.outer)
    return fully_shard(net)


def batches(rank):
    generator = torch.Generator().manual_seed(10 + rank)
    for _ in range(STEPS):
        yield torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def train(kind, rank):
    """Return the losses, the gradients of the last step and the parameters, as this process holds them."""
    net = make_net()
    model = wrap(kind, net)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses, gradients = [], {}
    for x, y in batches(rank):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        gradients = {name: local(p.grad).clone() for name, p in net.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return losses, gradients, [local(p).detach().clone() for p in net.parameters()]


def averaged_gradients():
    """Gradients of the first step worked out by one process alone: those of the mean of both losses."""
    net = make_net().double()
    losses = [F.cross_entropy(net(x.double()), y) for x, y in (next(batches(rank)) for rank in (0, 1))]
    (sum(losses) / 2).backward()
    return {name: p.grad.norm().item() for name, p in net.named_parameters()}


def describe(trace):
    parameters = trace.of_kind(Kind.PARAMETER)
    outputs = [(s, trace.summary(s, Role.OUTPUT, LAST)) for s in trace.sites]
    gradients = [(s.path, trace.summary(s, Role.GRADIENT, LAST)) for s in parameters]
    return {
        "sites": [[s.path, s.op] for s in trace.sites if s.kind is not Kind.PARAMETER],
        "classes": sorted({s.module for s in trace.sites} - {""}),
        "outputs": {f"{s.path} {s.op}": found.count for s, found in outputs if found},
        "output_gradients": [s.op for s in trace.sites if trace.summary(s, Role.OUTPUT_GRADIENT, LAST)],
        "gradients": {path: [found.count, found.norm] for path, found in gradients if found},
        "first_gradients": {s.path: trace.summary(s, Role.GRADIENT, 0).norm for s in parameters},
        "updates": {s.path: trace.summary(s, Role.UPDATE, LAST).norm for s in parameters},
        "missing": [s.path for s in parameters if trace.scalar(s, "gradient_missing", LAST)],
    }


def main(kind, rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    bare, gradients, expected = train(kind, rank)
    with unstuck.watch(every=1) as run:
        run.session.others = None  # what each process sees by itself; tests/ranks has what they merge
        watched, _, got = train(kind, rank)
    result = {
        "internal_error": run.session.trace.facts.internal_error,
        "steps": run.session.steps,
        "losses_equal": watched == bare,
        "parameters_equal": all(torch.equal(a, b) for a, b in zip(expected, got, strict=True)),
        "expected_gradients": {name: [g.numel(), g.double().norm().item()] for name, g in gradients.items()},
        "averaged_gradients": averaged_gradients(),
        **describe(run.session.trace),
    }
    sys.stdout.write(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
