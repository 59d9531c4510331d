"""Wrapped models: layers are seen once, under their own names, and every gradient is there."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.capture.session import Session
from unstuck.capture.wrappers import local, own_class, plain_modules, plain_parameters, sharded, unwrapped
from unstuck.trace import Kind, Role

SCRIPT = Path(__file__).parent / "scripts" / "distributed_training.py"
PARAMETERS = {"inner.weight", "inner.bias", "norm.weight", "norm.bias", "outer.weight", "outer.bias"}

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.relu(self.fc(x)))


def train(wrap, steps=3, watch=True):
    torch.manual_seed(0)
    net = Net()
    model = wrap(net)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    session, losses = Session(), []
    if watch:
        session.start()
    try:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        session.stop()
    assert session.trace.facts.internal_error is None
    return session.trace, losses, net


class TestDataParallel:
    def test_sites_and_numbers_are_those_of_the_model_itself(self):
        plain, _, _ = train(lambda net: net)
        trace, losses, net = train(nn.DataParallel)
        assert [(s.path, s.op, s.module) for s in trace.sites] == [(s.path, s.op, s.module) for s in plain.sites]
        for site in trace.sites:
            for role in Role:
                ours, theirs = trace.summary(site, role, 2), plain.summary(site, role, 2)
                assert (ours is None) == (theirs is None)
                assert ours is None or (ours.count, ours.norm) == (theirs.count, theirs.norm)
        _, bare, expected = train(nn.DataParallel, watch=False)
        assert losses == bare
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), expected.parameters(), strict=True))

    def test_modules_called_by_other_threads_do_not_mix_with_ours(self):
        """As DataParallel on several devices calls its replicas."""
        other = nn.Sequential(nn.Linear(4, 4))
        inside, go_on = threading.Event(), threading.Event()

        def wait(*_):
            inside.set()
            go_on.wait(10)

        other.register_forward_pre_hook(wait)
        thread = threading.Thread(target=other, args=(X,))
        with Session() as session:
            thread.start()
            inside.wait(10)
            F.cross_entropy(Net()(X), Y).backward()
            go_on.set()
            thread.join()
        assert [s.path for s in session.trace.of_kind(Kind.WEIGHT_LAYER)] == ["fc", "out"]


class TestNames:
    def test_a_wrapper_adds_nothing(self):
        net = Net()
        wrapped = nn.DataParallel(net)
        assert unwrapped(nn.DataParallel(wrapped)) is net
        assert [plain for _, plain, _ in plain_modules(wrapped)] == ["", "", "fc", "out"]
        assert dict(plain_parameters(wrapped)) == dict(net.named_parameters())

    def test_a_wrapper_within_a_model(self):
        model = nn.Sequential(nn.DataParallel(Net()), nn.Linear(3, 3))
        assert [plain for _, plain, _ in plain_modules(model)] == ["", "0", "0", "0.fc", "0.out", "1"]
        assert "0.fc.weight" in dict(plain_parameters(model))

    def test_an_attribute_called_module_is_a_name_like_any_other(self):
        model = nn.Module()
        model.module = nn.Linear(2, 2)
        assert [plain for _, plain, _ in plain_modules(model)] == ["", "module"]
        assert unwrapped(model) is model

    def test_tied_weights_come_once(self):
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        net[1].weight = net[0].weight
        assert [name for name, _ in plain_parameters(net)] == ["0.weight", "0.bias", "1.bias"]

    def test_a_class_that_only_looks_sharded(self):
        class FSDPLike(nn.Linear):
            pass

        assert own_class(FSDPLike(2, 2)) is FSDPLike

    def test_plain_tensors_are_local_already(self):
        parameter = nn.Linear(2, 2).weight
        assert local(parameter) is parameter
        assert not sharded(parameter)


@pytest.mark.parametrize(("processes", "repairs"), [(1, 1), (2, 0)])
def test_no_repair_in_flight_among_several_processes(processes, repairs, monkeypatch):
    """Each would repair by its own batch, and replicas would part."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    torch.manual_seed(0)
    net = Net()
    net.out.weight.data *= 200
    with unstuck.watch(unsafe_fixes=True) as run:
        F.cross_entropy(net(X), Y).backward()
    assert len(run.fixes) == repairs


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def ranks(request):
    """What each of two processes saw; they share a machine over gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), request.param, str(rank), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]
    try:
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, stderr) in zip(processes, results, strict=True):
        assert process.returncode == 0, stderr
        assert "unstuck" not in stderr
    return request.param, [json.loads(stdout) for stdout, _ in results]


@pytest.mark.slow
class TestTwoProcesses:
    def test_nothing_is_disturbed(self, ranks):
        for seen in ranks[1]:
            assert seen["internal_error"] is None
            assert seen["steps"] == 14
            assert seen["losses_equal"]
            assert seen["parameters_equal"]

    def test_each_layer_and_activation_is_seen_once(self, ranks):
        for seen in ranks[1]:
            assert [site for site in seen["sites"] if site[1] not in ("backward", "SGD")] == [
                ["inner", "linear"],
                ["norm", "layer_norm"],
                ["", "tanh"],
                ["outer", "linear"],
                ["", "cross_entropy"],
            ]
            assert seen["classes"] == ["LayerNorm", "Linear", "Net"]
            assert seen["outputs"] == {
                "inner linear": 16 * 8,
                "norm layer_norm": 16 * 8,
                "outer linear": 16 * 3,
            }
            assert seen["output_gradients"] == ["linear", "layer_norm", "tanh", "linear"]

    def test_gradients_are_those_the_process_holds(self, ranks):
        for seen in ranks[1]:
            assert set(seen["gradients"]) == PARAMETERS
            assert seen["missing"] == []
            for name, (count, norm) in seen["expected_gradients"].items():
                assert seen["gradients"][name] == [count, pytest.approx(norm)]

    def test_gradients_are_averaged_over_the_processes(self, ranks):
        kind, (one, two) = ranks
        for name, expected in one["averaged_gradients"].items():
            norms = one["first_gradients"][name], two["first_gradients"][name]
            if kind == "ddp":
                assert norms == (pytest.approx(expected, rel=1e-4), pytest.approx(expected, rel=1e-4))
            else:  # each process holds one part of them
                assert math.hypot(*norms) == pytest.approx(expected, rel=1e-4)

    def test_updates_are_minus_lr_times_gradient(self, ranks):
        for seen in ranks[1]:
            for name, (_, norm) in seen["gradients"].items():
                assert seen["updates"][name] == pytest.approx(0.1 * norm, rel=1e-3)

    def test_shards_add_up_to_the_whole(self, ranks):
        kind, (one, two) = ranks
        if kind == "ddp":
            pytest.skip("each process holds whole parameters")
        sizes = {"inner.weight": 48, "inner.bias": 8, "norm.weight": 8, "norm.bias": 8, "outer.weight": 24}
        for name, size in sizes.items():
            assert one["gradients"][name][0] + two["gradients"][name][0] == size
