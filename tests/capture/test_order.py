"""The order of a loop's calls and the gradients it leaves, told by real loops of every build."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))
STEPS = 6


def watched(loop, **options):
    with Session(**options) as session:
        loop()
    assert session.trace.facts.internal_error is None
    return session.trace


def scalars(trace, kind, name):
    """Return {step: value} of a scalar over all sites of a kind; the sites must not share a step."""
    pairs = [pair for site in trace.of_kind(kind) for pair in trace.scalars(site, name)]
    assert len({step for step, _ in pairs}) == len(pairs)
    return dict(pairs)


def network():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of(model):
    return F.cross_entropy(model(X), Y)


class TestGradientsLeftOver:
    @pytest.mark.parametrize("to_none", [True, False])
    @pytest.mark.parametrize("after", [True, False], ids=["after the update", "before backward"])
    def test_cleared_gradients_are_not_added_to(self, after, to_none):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                if not after:
                    optimizer.zero_grad(set_to_none=to_none)
                loss_of(model).backward()
                optimizer.step()
                if after:
                    optimizer.zero_grad(set_to_none=to_none)

        trace = watched(loop)
        assert scalars(trace, Kind.BACKWARD, "accumulates") == {}
        assert scalars(trace, Kind.OPTIMIZER, "had_gradients") == dict.fromkeys(range(1, STEPS), 1.0)
        assert scalars(trace, Kind.OPTIMIZER, "has_gradients") == dict.fromkeys(range(1, STEPS), 1.0)

    @pytest.mark.parametrize("batches", [1, 3])
    def test_a_loop_that_never_clears_them(self, batches):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                for _ in range(batches):
                    loss_of(model).backward()
                optimizer.step()

        assert scalars(watched(loop), Kind.BACKWARD, "accumulates") == dict.fromkeys(range(1, STEPS), 1.0)

    def test_accumulation_within_an_update(self):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                optimizer.zero_grad()
                for _ in range(3):
                    (loss_of(model) / 3).backward()
                optimizer.step()

        assert scalars(watched(loop), Kind.BACKWARD, "accumulates") == dict.fromkeys(range(1, STEPS), 0.0)

    def test_a_discriminator_gets_gradients_of_the_generator_and_clears_them(self):
        torch.manual_seed(3)
        generator, critic = nn.Linear(4, 2), nn.Linear(2, 1)
        by_turns = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (critic, generator)]

        def loop():
            for _ in range(STEPS):
                fake = generator(X)
                by_turns[0].zero_grad()
                critic(fake.detach()).mean().backward()
                by_turns[0].step()
                by_turns[1].zero_grad()
                (-critic(fake).mean()).backward()
                by_turns[1].step()

        trace = watched(loop)
        told = scalars(trace, Kind.BACKWARD, "accumulates")
        assert told
        assert not any(told.values())

    def test_closures_are_left_out(self):
        model, _ = network()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        trace = watched(lambda: [optimizer.step(closure) for _ in range(STEPS)])
        assert scalars(trace, Kind.BACKWARD, "accumulates") == {}
        assert scalars(trace, Kind.OPTIMIZER, "had_gradients") == {}

    def test_samples_far_apart(self):
        model, optimizer = network()

        def loop():
            for _ in range(40):
                loss_of(model).backward()
                optimizer.step()

        told = scalars(watched(loop, schedule=Schedule(every=13)), Kind.BACKWARD, "accumulates")
        assert told == dict.fromkeys([*range(1, 10), 13, 26, 39], 1.0)


class TestClearedBeforeTheUpdate:
    @pytest.mark.parametrize("to_none", [True, False])
    def test_gradients_that_are_gone(self, to_none):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                loss_of(model).backward()
                optimizer.zero_grad(set_to_none=to_none)
                optimizer.step()

        trace = watched(loop)
        assert scalars(trace, Kind.OPTIMIZER, "had_gradients") == dict.fromkeys(range(1, STEPS), 1.0)
        assert scalars(trace, Kind.OPTIMIZER, "has_gradients") == dict.fromkeys(range(1, STEPS), 0.0)


class TestOrder:
    def test_update_between_forward_and_backward(self):
        model = nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def loop():
            for _ in range(STEPS):
                loss = loss_of(model)
                optimizer.step()
                optimizer.zero_grad()
                loss.backward()

        told = scalars(watched(loop), Kind.OPTIMIZER, "precedes_backward")
        assert told == dict.fromkeys(range(STEPS - 1), 1.0)

    def test_a_loop_that_begins_with_the_update(self):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                optimizer.step()
                optimizer.zero_grad()
                loss_of(model).backward()

        told = scalars(watched(loop), Kind.OPTIMIZER, "precedes_backward")
        assert told
        assert not any(told.values())

    def test_an_evaluation_with_gradients_before_the_update(self):
        model, optimizer = network()

        def loop():
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss_of(model).backward()
                loss_of(model)
                optimizer.step()

        told = scalars(watched(loop), Kind.OPTIMIZER, "precedes_backward")
        assert len(told) == STEPS - 1
        assert not any(told.values())

    def test_two_networks_whose_passes_overlap(self):
        torch.manual_seed(4)
        first, second = nn.Linear(4, 3), nn.Linear(4, 3)
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (first, second)]

        def loop():
            for _ in range(STEPS):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss_of(first).backward()
                waiting = loss_of(second)
                optimizers[0].step()
                waiting.backward()
                optimizers[1].step()

        told = scalars(watched(loop), Kind.OPTIMIZER, "precedes_backward")
        assert told
        assert not any(told.values())


class TestAlike:
    def shares(self, loop):
        return [v for _, v in sorted(scalars(watched(loop), Kind.BACKWARD, "alike").items())]

    def test_the_same_pass_over_and_over(self):
        model, optimizer = network()

        def loop():
            for _ in range(2):
                for _ in range(3):
                    loss_of(model).backward()
                optimizer.step()

        assert self.shares(loop) == [1.0, 1.0]

    def test_another_head_each_time(self):
        torch.manual_seed(5)
        heads = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))
        optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)

        def loop():
            for _ in range(2):
                for head in (heads[0], heads[1], heads[1]):
                    loss_of(head).backward()
                optimizer.step()

        assert self.shares(loop) == [0.0, 0.0]
