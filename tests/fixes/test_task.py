"""What training on trial is given, what it says, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from unstuck.fixes.task import Task

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (32,), generator=torch.Generator().manual_seed(1))
BATCHES = [(X[:16], Y[:16]), (X[16:], Y[16:])]


class Net(nn.Module):
    """Dropout, batch normalisation and numbers of Python and NumPy in its forward pass; may raise at a call."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.calls, self.seen, self.raises, self.at = 0, [], None, 3

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        if self.raises is not None and self.calls == self.at:
            raise self.raises
        return self.body(x + random.random() + float(np.random.rand()))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def state(task: Task) -> list[object]:
    """Everything that has to be as it was."""
    net, optimizers = task.model, task.optimizers
    return [
        {name: value.tolist() for name, value in net.state_dict().items()},
        [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in net.parameters()],
        [module.training for module in net.modules()],
        [p.requires_grad for p in net.parameters()],
        (net.calls, list(net.seen)) if isinstance(net, Net) else None,
        [str(optimizer.state_dict()) for optimizer in optimizers],
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
    ]


class TestRefused:
    @pytest.mark.parametrize(
        ("batches", "found"),
        [
            (X, "Tensor"),
            ([], "nothing"),
            ([X, Y, X], "Tensor"),
            ([X], "Tensor"),
            (7, "int"),
            ((X, Y, X), "Tensor"),
            (iter(()), "nothing"),
            (DataLoader(TensorDataset(X), batch_size=8), "list"),
        ],
    )
    def test_batches_that_are_no_pairs(self, net, batches, found):
        with pytest.raises(ValueError, match=rf"^batch must be a pair \(inputs, targets\), or an .*, got {found}$"):
            Task(net, batches, F.cross_entropy)

    def test_losses_that_are_no_number(self, net):
        task = Task(net, (X, Y), lambda a, b: F.cross_entropy(a, b, reduction="none"))
        with pytest.raises(ValueError, match=r"^loss_fn must return a tensor with one element, got shape \(32,\)$"):
            task.train(1)
        with pytest.raises(ValueError, match=r"^loss_fn must return a tensor with one element, got float$"):
            Task(net, (X, Y), lambda a, b: 1.0).first_pass()

    @pytest.mark.parametrize("model", [nn.Linear(6, 3).requires_grad_(False), nn.Flatten()])
    @pytest.mark.parametrize("trial", [lambda task: task.train(2), lambda task: task.first_pass()])
    def test_models_with_nothing_to_train(self, model, trial):
        task = Task(model, (X, Y), F.cross_entropy)
        with pytest.raises(ValueError, match=r"^the loss does not depend on any parameter that requires grad; is the"):
            trial(task)

    def test_lazy_models(self):
        with pytest.raises(ValueError, match=r"^the model has lazy parameters without a shape yet"):
            Task(nn.LazyLinear(3), (X, Y), F.cross_entropy).train(1)


class TestBatches:
    def kept(self, batches: object, limit: int = 1) -> list[int]:
        return [len(targets) for _, targets in Task(nn.Flatten(), batches, F.cross_entropy, limit=limit).batches]

    def test_one_pair_as_a_tuple_or_a_list(self):
        assert self.kept((X, Y)) == self.kept([X, Y]) == [32]

    def test_two_pairs_in_a_list_are_two(self):
        assert self.kept(BATCHES, 5) == [16, 16]
        assert self.kept(BATCHES) == [16]

    def test_two_pairs_in_a_tuple_are_inputs_and_targets(self):
        task = Task(nn.Flatten(), ((X, X), (Y, Y)), F.cross_entropy, limit=5)
        assert len(task.batches) == 1
        assert task.batches[0][0][0] is X

    def test_a_loader_and_a_generator_are_read_up_to_the_limit(self):
        loader = DataLoader(TensorDataset(X, Y), batch_size=10)
        assert self.kept(loader, 100) == [10, 10, 10, 2]
        assert self.kept(loader, 2) == [10, 10]
        endless = ((X[:k], Y[:k]) for k in range(1, 10**9))
        assert self.kept(endless, 3) == [1, 2, 3]

    @pytest.mark.parametrize("raises", [False, True])
    def test_random_numbers_of_taking_them_are_given_back(self, net, raises):
        def drawn():
            yield from DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True)
            random.random(), np.random.rand()
            if raises:
                raise RuntimeError("mine")

        torch.manual_seed(3)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        if raises:
            with pytest.raises(RuntimeError, match="mine"):
                Task(net, drawn(), F.cross_entropy, limit=9)
        else:
            assert len(Task(net, drawn(), F.cross_entropy, limit=9).batches) == 4
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]

    @pytest.mark.parametrize("where", ["loader", "sampler", "batch sampler"])
    def test_a_generator_of_ones_own_is_given_back_too(self, net, where):
        g = torch.Generator().manual_seed(4)
        data = TensorDataset(X, Y)
        own = RandomSampler(data, generator=g)
        options = {
            "loader": {"batch_size": 8, "shuffle": True, "generator": g},
            "sampler": {"batch_size": 8, "sampler": own},
            "batch sampler": {"batch_sampler": BatchSampler(own, 8, drop_last=False)},
        }
        before = g.get_state()
        Task(net, DataLoader(data, **options[where]), F.cross_entropy, limit=9)
        assert torch.equal(g.get_state(), before)

    def test_inputs_that_are_several(self):
        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(6, 3)

            def forward(self, a: Tensor, b: Tensor) -> Tensor:
                return self.fc(a - b)

        torch.manual_seed(0)
        net = Two()
        expected = F.cross_entropy(net(X, 2 * X), Y)
        for inputs in ((X, 2 * X), [X, 2 * X], {"b": 2 * X, "a": X}):
            task = Task(net, (inputs, Y), F.cross_entropy)
            assert torch.equal(task.loss(task.batches[0]), expected)

    def test_batches_take_turns(self, net):
        seen: list[int] = []

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            seen.append(0 if torch.equal(targets, BATCHES[0][1]) else 1)
            return F.cross_entropy(outputs, targets)

        task = Task(net, BATCHES, loss, limit=9)
        assert not task.train(5).one_batch
        assert seen == [0, 1, 0, 1, 0]

    def test_data_that_requires_grad_keeps_its_gradient(self, net):
        x = X.clone().requires_grad_()
        Task(net, (x, Y), F.cross_entropy).train(2)
        assert x.grad is None
        assert x.requires_grad

    def test_data_and_calls_of_inference_mode(self, net):
        with torch.inference_mode():
            x = X.clone()
            training = Task(net, (x, Y), F.cross_entropy).train(2)
        assert len(training.losses) == 2
        with torch.no_grad():
            assert Task(net, (X, Y), F.cross_entropy).train(2).session.trace.facts.backward_calls == 2


OPTIMIZERS = {
    "none": lambda net: None,
    "momentum": lambda net: torch.optim.SGD(net.parameters(), 0.1, momentum=0.9),
    "amsgrad": lambda net: torch.optim.AdamW(net.parameters(), 0.01, amsgrad=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
class TestAsItWas:
    def task(self, net: Net, optimizer: str, steps: int = 2) -> Task:
        """A task whose training has begun already, so that there is something to lose."""
        made = OPTIMIZERS[optimizer](net)
        for _ in range(steps if made is not None else 0):
            made.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            made.step()
        net.calls = 0
        return Task(net, BATCHES, F.cross_entropy, made, limit=2)

    @pytest.mark.parametrize("training", [True, False])
    def test_after_training(self, net, optimizer, training):
        task = self.task(net, optimizer)
        net.train(training)
        before = state(task)
        assert task.train(7).losses
        assert state(task) == before

    def test_after_a_first_pass(self, net, optimizer):
        task = self.task(net, optimizer)
        before = state(task)
        task.first_pass()
        assert state(task) == before

    @pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
    def test_when_the_model_raises(self, net, optimizer, error):
        task = self.task(net, optimizer)
        net.raises = error
        before = state(task)
        with pytest.raises(type(error)) as caught:
            task.train(7)
        assert caught.value is error
        assert state(task) == before
        net.at = 1
        with pytest.raises(type(error)):
            task.first_pass()
        net.at = 3
        assert state(task) == before
        net.raises = None
        assert len(task.train(4).losses) == 4

    def test_the_same_trial_twice(self, net, optimizer):
        task = self.task(net, optimizer)
        one, other = task.train(9), task.train(9)
        assert one.losses == other.losses
        assert len(set(one.losses)) == 9

    def test_it_is_the_training_that_would_follow(self, net, optimizer):
        task = self.task(net, optimizer)
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        tried = task.train(4).losses
        made = task.optimizer or torch.optim.Adam(net.parameters())
        for step in range(4):
            made.zero_grad()
            x, y = BATCHES[step % 2]
            loss = F.cross_entropy(net(x), y)
            assert loss.item() == tried[step]
            loss.backward()
            made.step()


class TestTraining:
    def test_the_loss_is_the_mean_over_the_last_tenth(self, net):
        training = Task(net, (X, Y), F.cross_entropy).train(20)
        assert training.loss == pytest.approx(sum(training.losses[-2:]) / 2)
        short = Task(net, (X, Y), F.cross_entropy).train(3)
        assert short.loss == short.losses[-1]
        assert short.one_batch

    def test_it_ends_where_the_loss_is_no_number(self, net):
        task = Task(net, (X, Y), lambda a, b: F.cross_entropy(a, b) / (net.calls != 3), limit=1)
        training = task.train(9)
        assert training.broken
        assert len(training.losses) == 3
        assert training.loss == math.inf

    def test_what_it_watched(self, net):
        training = Task(net, (X, Y), F.cross_entropy, pretrained=True).train(4)
        assert training.session.trace.facts.weights_loaded
        assert training.session.steps == 4
        assert list(training.session.trace.objective.values()) == pytest.approx(list(training.losses))

    def test_a_loss_with_parameters_of_its_own_is_trained_and_put_back(self, net):
        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(()))

            def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
                return F.cross_entropy(outputs * self.scale, targets)

        loss = Scaled()
        task = Task(net, (X, Y), loss)
        assert task.modules == [net, loss]
        task.train(5)
        assert loss.scale.item() == 1.0
        assert loss.scale.grad is None

    def test_the_model_is_the_users_own(self, net):
        twin = copy.deepcopy(net)
        task = Task(net, (X, Y), F.cross_entropy)
        assert task.model is net
        assert task.optimizers == ()
        assert task.train(1).losses == Task(twin, (X, Y), F.cross_entropy).train(1).losses
