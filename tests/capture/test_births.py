"""The first non-finite value of a step that nobody watched: which line made it, without a mark left on the training."""

import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from unstuck.capture import calls
from unstuck.capture.births import find_birth
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind

BAD, STEPS = 15, 20  # the first bad step is not sampled: the schedule below samples 0 ... 9 alone


class Net(nn.Module):
    def __init__(self, operation):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)
        self.operation = operation

    def forward(self, x, switch):
        return self.last(self.operation(self.first(x), switch))


def divided(h, switch):
    return h / (h * switch).square().sum(1, keepdim=True)  # 0 / 0 where the switch is off


def train(operation, *, bad=BAD, steps=STEPS, data=None, loss_of=None, net=None):
    net = net or Net(operation)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        x = torch.randn(8, 3, generator=generator)
        if data is not None and step == bad:
            x = data(x)
        out = net(x, 0.0 if step == bad else 1.0)
        loss = F.mse_loss(out, x[:, :1]) if loss_of is None else loss_of(out, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def watched(run):
    with Session(Schedule(10**6)) as session:
        run()
    assert session.trace.facts.internal_error is None
    return session.trace


def told(trace, name="born"):
    """What was found out: (operation, line of this file, step, number) of each place."""
    return [
        (site.op, site.location.line, step, int(number))
        for site in trace.sites
        for step, number in trace.scalars(site, name)
    ]


def line_of(function, offset=1):
    return function.__code__.co_firstlineno + offset


class TestSilent:
    def test_no_look_while_the_loss_is_finite(self):
        with mock.patch.object(calls.Aftermath, "look") as look:
            trace = watched(lambda: train(divided, bad=None))
        look.assert_not_called()
        assert trace.steps == list(range(10))

    def test_no_look_at_an_overflow_that_a_scaler_answers(self):
        net = Net(lambda h, _: h)

        def amp():
            scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD(net.parameters(), lr=1e-3)
            for step in range(STEPS):
                loss = net(torch.ones(8, 3), 1.0).square().mean()
                scaler.scale(loss).backward()
                if step == BAD:
                    net.first.weight.grad[0, 0] = math.inf
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

        with mock.patch.object(calls.Aftermath, "look") as look:
            trace = watched(amp)
        look.assert_not_called()
        assert trace.facts.skipped_updates == 1

    def test_no_look_at_sampled_steps(self):
        with mock.patch.object(calls.Aftermath, "look") as look:
            watched(lambda: train(divided, bad=3, steps=9))
        look.assert_not_called()

    def test_what_is_hidden_on_purpose_is_not_blamed(self):
        def masked(h, switch):
            safe = torch.where(h > 0, h.log(), 0.0)  # NaN in the branch that is not taken
            return safe + (math.inf if switch == 0.0 else 0.0)

        assert told(watched(lambda: train(masked))) == []

    def test_a_mask_of_minus_infinity_is_not_blamed(self):
        def attend(h, switch):
            scores = h.masked_fill(torch.eye(8, 4, dtype=torch.bool), -math.inf) + h
            logs = scores.log_softmax(1).exp()
            return logs / (logs * switch).sum(1, keepdim=True)  # 0 / 0

        assert told(watched(lambda: train(attend))) == [("div", line_of(attend, 3), BAD, 32)]

    def test_a_graph_of_another_shape_names_no_line(self):
        def changing(h, switch):
            changing.calls += 1
            return divided(h, switch) if changing.calls <= BAD + 1 else h.exp()

        changing.calls = 0
        assert told(watched(lambda: train(changing))) == []

    def test_a_run_that_ends_there_names_no_line(self):
        trace = watched(lambda: train(divided, steps=BAD + 1))
        assert told(trace) == []
        assert math.isnan(trace.objective[BAD])

    def test_infinite_constants_are_nobodys(self):
        trace = watched(lambda: train(lambda h, _: h, loss_of=lambda out, step: out.sum() + (step == BAD) * 1e39))
        assert told(trace) == []

    def test_losses_that_are_infinite_by_intent_cost_few_samples(self):
        def by_turns(out, step):
            return out.square().mean() + (math.inf if step % 2 else 0.0)

        trace = watched(lambda: train(lambda h, _: h, loss_of=by_turns, steps=60))
        assert len(trace.steps) <= 10 + calls.MAX_LOOKS
        assert told(trace) == []


class TestLeavesNoMark:
    def test_on_the_training(self):
        assert same(train(divided), (lambda found=[]: (watched(lambda: found.append(train(divided))), found[0])[1])())

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_on_checkpoints_which_run_again_only_once(self, reentrant):
        def checkpointed(h, switch):
            return checkpoint(divided, h, switch, use_reentrant=reentrant)

        found = []
        trace = watched(lambda: found.append(train(checkpointed)))
        assert same(found[0], train(checkpointed))
        assert told(trace) == []  # what it holds is not there to be read

    def test_on_tensors_that_a_hook_stores_away(self):
        counts = []

        def run():
            seen = []

            def unpack(x):
                seen.append(x)
                return x

            with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
                train(divided)
            counts.append(len(seen))

        run()
        assert told(watched(run)) == []
        assert counts[0] == counts[1] > 0

    def test_on_tensors_changed_in_place(self):
        def changed(h, switch):
            kept = torch.exp(h * switch)
            with torch.no_grad():
                kept.add_(0.0)  # autograd will not have it; nor do we read it
            return kept

        out = Net(changed)(torch.ones(2, 3), 1.0).sum() * math.inf
        assert find_birth(out, 0) is None


def same(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


OPERATIONS = {
    "div": lambda h, s: h / (h * s).norm(dim=1, keepdim=True),
    "log": lambda h, s: (h.square() * s).log(),
    "sqrt": lambda h, s: (h.square() + 4.0 * (s - 0.5)).sqrt(),
    "pow": lambda h, s: (h.square() * s + 0.0) ** -0.5,
    "exp": lambda h, s: (h + 100.0 * (1.0 - s)).exp(),
    "rsqrt": lambda h, s: (h.square() * s).rsqrt(),
    "reciprocal": lambda h, s: (h.square() * s).reciprocal(),
    "softmax": lambda h, s: h.masked_fill(torch.full((8, 4), s == 0.0), -math.inf).softmax(1),
    "acos": lambda h, s: (h.tanh() * 0.5 + 2.0 * (1.0 - s)).acos(),
    "mean": lambda h, s: h + h[: 0 if s == 0.0 else 8].mean(),
}


class TestFires:
    @pytest.mark.parametrize("op", OPERATIONS)
    def test_at_the_operation(self, op):
        trace = watched(lambda: train(OPERATIONS[op]))
        ((found, line, step, number),) = told(trace)
        assert (found, line, step) == (op, line_of(OPERATIONS[op], 0), BAD)
        assert number > 0
        assert math.isnan(trace.objective[BAD]) or math.isinf(trace.objective[BAD])

    def test_number_and_size(self):
        trace = watched(lambda: train(divided))
        assert told(trace) == [("div", line_of(divided), BAD, 32)]
        assert told(trace, "born_of") == [("div", line_of(divided), BAD, 32)]

    def test_the_next_step_is_sampled_for_it_and_no_other(self):
        assert watched(lambda: train(divided)).steps == [*range(10), BAD + 1]

    def test_edges_to_what_comes_after_and_before(self):
        trace = watched(lambda: train(divided))
        (site,) = trace.of_kind(Kind.OPERATION)
        first, last = trace.of_kind(Kind.WEIGHT_LAYER)
        assert first in trace.producers(site, direct=False)
        assert last in trace.consumers(site, direct=False)
        assert first not in trace.consumers(site, direct=False)

    def test_the_first_of_several(self):
        def twice(h, switch):
            h = divided(h, switch)
            return h * h / h.sum()

        assert told(watched(lambda: train(twice))) == [("div", line_of(divided), BAD, 32)]

    def test_in_a_loop_without_optimizer(self):
        def by_hand():
            w = torch.ones(2, requires_grad=True)
            for step in range(STEPS):
                w.grad = None
                (w * (step != BAD)).log().square().sum().backward()
                w.data -= 0.01 * w.grad

        assert told(watched(by_hand)) == [("log", line_of(by_hand, 4), BAD, 2)]

    def test_with_accumulated_gradients(self):
        def accumulating():
            net = Net(divided)
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
            for step in range(STEPS):
                for part in range(2):
                    net(torch.ones(8, 3), float((step, part) != (BAD, 1))).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

        assert told(watched(accumulating)) == [("div", line_of(divided), BAD, 32)]

    def test_of_a_tensor_that_two_operations_use(self):
        def shared(h, switch):
            inverse = (h.square() * switch).reciprocal()
            return inverse * h + inverse

        assert told(watched(lambda: train(shared))) == [("reciprocal", line_of(shared), BAD, 32)]

    def test_an_infinite_loss_of_a_finite_network_names_what_made_it(self):
        def loss_of(out, step):
            return (out.square() * (step != BAD)).log().mean()  # the target is hit

        trace = watched(lambda: train(lambda h, _: h, loss_of=loss_of))
        assert told(trace) == [("log", line_of(loss_of), BAD, 8)]

    def test_data_that_enters_a_layer(self):
        trace = watched(lambda: train(divided, data=lambda x: x.index_fill(0, torch.tensor([2]), math.nan)))
        ((op, _, step, number),) = told(trace, "born_in_input")
        assert (op, step, number) == ("linear", BAD, 3)
        assert told(trace) == []

    def test_parameters_that_an_update_spoiled(self):
        def spoiling():
            net = Net(lambda h, _: h)
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
            for step in range(STEPS):
                optimizer.zero_grad()
                net(torch.ones(8, 3), 1.0).sum().backward()
                if step == BAD - 1:
                    net.last.weight.grad[0, 0] = math.nan
                optimizer.step()

        trace = watched(spoiling)
        spoiled = [(s.path, step, n) for s in trace.sites for step, n in trace.scalars(s, "spoiled")]
        assert spoiled == [("last.weight", BAD, 1)]
        assert told(trace) == []
        assert trace.steps == list(range(10))  # no other step could tell more

    def test_the_size_of_the_parameters_is_kept(self):
        trace = watched(lambda: train(divided))
        weight = next(site for site in trace.sites if site.path == "first.weight")
        assert trace.scalar(weight, "rms_then", BAD) == pytest.approx(
            float(train(divided, steps=BAD, bad=None).first.weight.detach().square().mean().sqrt()), rel=1e-5
        )
