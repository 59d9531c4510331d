"""What the processes of tests/ranks do."""

import math
import os
import signal
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import unstuck
from unstuck.integrations.trainers import TrainerWatch
from unstuck.ranks import tree
from unstuck.ranks.part import Part
from unstuck.trace import Kind, Role
from unstuck.trace.packing import pack

STEPS = 14


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 8)
        self.outer = nn.Linear(8, 3)
        with torch.no_grad():
            self.inner.bias[:2] = -100.0  # unit 0 lives where the batch says so, unit 1 never
            self.inner.weight[1] = 0.0

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x)))


def make_net(seed=0):
    torch.manual_seed(seed)
    return Net().double()


def batch(rank, step, length=16):
    """A batch of a rank; on odd ranks, unit 0 of the network lives."""
    g = torch.Generator().manual_seed(1000 * rank + step)
    x = torch.randn(length, 6, generator=g, dtype=torch.float64)
    if rank % 2:
        x[0] = 1000 * torch.sign(make_net().inner.weight[0].detach())
    return x, torch.randint(0, 3, (length,), generator=g)


def averaged(net):
    """All-reduce gradients by hand."""
    for parameter in net.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def train(net, batches, update, optimizer=None):
    """Train on batches; `update(net)` may change gradients before the step."""
    optimizer = optimizer or torch.optim.SGD(net.parameters(), 0.01)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        update(net)
        optimizer.step()


def numbers(trace, step):
    """All summaries of a step as plain data, by label and role."""
    found = {}
    for site in trace.sites:
        for role in Role:
            if (summary := trace.summary(site, role, step)) is not None:
                found[f"{site.label} {role}"] = summary.to_json()
    return found


def told(run, *steps):
    """What a run knows."""
    trace = run.session.trace
    place = trace.of_kind(Kind.BACKWARD)[0]
    names = ("rank_loss", "rank_nonfinite_since", "rank_data", "rank_parameters", "rank_bad_rows")
    vectors = {name: [v.tolist() for _, v in trace.vectors(place, name)] for name in names}
    watching = run.report().trace.facts.watching
    return {
        "error": trace.facts.internal_error,
        "steps": run.session.steps,
        "sampled": trace.steps,
        "numbers": {str(step): numbers(trace, step) for step in steps},
        "objective": {str(step): value for step, value in trace.objective.items()},
        "calls": [[call.step, call.value, call.baseline] for call in trace.loss_calls],
        "vectors": vectors,
        "ranks": watching.ranks,
        "merges": watching.merges,
        "bytes": watching.merged_bytes,
        "alone_from": watching.alone_from,
        "codes": sorted(run.report().codes()),
        "differ": {s.label: trace.scalars(s, "ranks_differ") for s in trace.of_kind(Kind.PARAMETER)},
        "gradients_equal": trace.scalars(place, "gradients_equal"),
    }


def one_process(size, steps=STEPS, lengths=None):
    """The same training by one process on the concatenated batches."""
    net = make_net()
    parts = [[batch(rank, step, *_length(lengths, rank, step)) for rank in range(size)] for step in range(steps)]
    together = [tuple(torch.cat(column) for column in zip(*part, strict=True)) for part in parts]
    with unstuck.watch(every=1) as run:
        train(net, together, lambda net: None)
    return run


def _length(lengths, rank, step):
    return () if lengths is None else (lengths[rank] if step == STEPS - 1 else 16,)


def plain(rank, size, style="ddp", lengths=None):
    """Train together, sampling each step."""
    net = make_net()
    model = nn.parallel.DistributedDataParallel(net) if style == "ddp" else net
    update = averaged if style == "loop" else (lambda net: None)
    with unstuck.watch(every=1) as run:
        train(model, [batch(rank, step, *_length(lengths, rank, step)) for step in range(STEPS)], update)
    return told(run, 0, 5, STEPS - 1)


def pipeline(rank, size):
    """Two stages of a network; the second one has the loss."""
    net = make_net()
    stage = net.outer if rank else net.inner
    optimizer = torch.optim.SGD(stage.parameters(), 0.01)
    with unstuck.watch(every=1) as run:
        for step in range(STEPS):
            x, y = batch(0, step)
            optimizer.zero_grad()
            if rank:
                hidden = torch.zeros(16, 8, dtype=torch.float64)
                dist.recv(hidden, 0)
                F.cross_entropy(stage(torch.relu(hidden.requires_grad_())), y).backward()
                dist.send(hidden.grad, 0)
            else:
                hidden = stage(x)
                dist.send(hidden.detach(), 1)
                dist.recv(gradient := torch.zeros_like(hidden), 1)
                hidden.backward(gradient)
            optimizer.step()
    return told(run)


def destroyed(rank, size):
    """The process group ends before the watching does."""
    with unstuck.watch(every=1, fix=True) as run:
        train(make_net(), [batch(rank, step) for step in range(STEPS)], averaged)
        dist.barrier()
        dist.destroy_process_group()
        train(make_net(), [batch(rank, 99)], lambda net: None)
    return {**told(run), "withheld": list(run.report().withheld)}


def stopped(rank, size):
    """A callback stops the training: a loss that breaks on one rank is an error that rank 0 alone knows of."""
    callback = TrainerWatch(stop_on_error=True, print_report=False, first=rank == 0, every=1, select=["R002"])
    net, steps = make_net(), 0
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    callback.begin(model)
    while steps < 60 and not callback.should_stop:
        x, y = batch(rank, steps)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        (loss * math.nan if rank and steps == 3 else loss).backward()
        optimizer.step()
        steps += 1
    return [steps, [cause.root.code for cause in callback.end().causes]]


def recorded(rank, size, folder):
    """Train together; each rank has a recording asked for."""
    with unstuck.watch(every=1, record=f"{folder}/{rank}.sqlite"):
        train(make_net(), [batch(rank, step) for step in range(STEPS)], averaged)


def scheduled(rank, size, steps=400):
    """Train as the budget of rank 0 wants it; the others have steps of another length."""
    net = make_net()
    with unstuck.watch(overhead=1.0) as run:
        session = run.session
        if rank:
            session.schedule.ledger.budget = 1e-6
            session.schedule.ledger._rate = 1e-6
        train(net, (batch(rank, step) for step in range(steps)), averaged)
    return told(run)


def lost(rank, size, how, at=30):
    """The last rank dies, hangs, leaves, skips or is of another release; the others go on, without collectives."""
    tree.LIMIT = 1.0
    net = make_net()
    begun = time.monotonic()
    with unstuck.watch(every=1) as run:
        for step in range(60):
            if rank == size - 1 and step == at:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "hanging":
                    time.sleep(6)
                    return None
                if how == "leaving":
                    break
                if how == "skipping":
                    continue
                if how == "unreadable":
                    Part.to_bytes = lambda self: pack({"step": np.array([self.step])})
            train(net, [batch(rank, step)], lambda net: None)
    return {**told(run), "seconds": time.monotonic() - begun}


def uneven(rank, size):
    """Rank 1 has fewer batches."""
    tree.LIMIT = 1.0
    model = nn.parallel.DistributedDataParallel(make_net())
    with unstuck.watch(every=1) as run, Join([model]):
        train(model, [batch(rank, step) for step in range(8 if rank else STEPS)], lambda net: None)
    return told(run)


def half_watched(rank, size):
    """Only rank 0 is watched."""
    tree.MEETING = 1.0
    model = nn.parallel.DistributedDataParallel(make_net())
    batches = [batch(rank, step) for step in range(STEPS)]
    if rank:
        train(model, batches, lambda net: None)
        return None
    with unstuck.watch(every=1) as run:
        train(model, batches, lambda net: None)
    return told(run)


def accumulated(rank, size):
    """Three backward calls an update, none of them divided by three."""
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with unstuck.watch(every=1) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            for part in range(3):
                x, y = batch(rank, 100 * step + part)
                F.cross_entropy(net(x), y).backward()
            averaged(net)
            optimizer.step()
    trace = run.session.trace
    return {**told(run), "objectives": trace.vector(trace.of_kind(Kind.BACKWARD)[0], "objectives", 5).tolist()}


def sharded(rank, size, style):
    """FSDP2, or a layer that the ranks compute together (which must be given the same batch)."""
    net = make_net()
    if style == "fsdp":
        for module in (net.inner, net.outer, net):
            fully_shard(module)
    else:
        mesh = init_device_mesh("cpu", (size,))
        parallelize_module(net, mesh, {"inner": ColwiseParallel(), "outer": RowwiseParallel()})
    batches = [batch(rank if style == "fsdp" else 0, step) for step in range(STEPS)]
    with unstuck.watch(every=1) as run:
        train(net, batches, lambda net: None)
    return told(run, 0, 5)
