"""Evaluation passes between training steps, and mixed precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))


def weights(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def watched(loop):
    with Session() as session:
        loop()
    assert session.trace.facts.internal_error is None
    return session


def parameter(trace, name):
    return next(site for site in trace.of_kind(Kind.PARAMETER) if site.label == name)


class TestEvaluation:
    @pytest.mark.parametrize("no_grad", [True, False])
    def test_evaluation_between_steps_is_kept_apart(self, no_grad):
        w1, w2 = weights(4, 6).requires_grad_(), weights(6, 3).requires_grad_()

        def forward(x):
            return torch.tanh(x @ w1) @ w2

        def loop():
            for _ in range(5):
                with torch.set_grad_enabled(not no_grad):
                    F.cross_entropy(forward(100 * X), Y)
                F.cross_entropy(forward(X), Y).backward()
                for w in (w1, w2):
                    w.data -= 0.1 * w.grad
                    w.grad = None

        def forward_from_one_line(x):
            return forward(x)

        trace = watched(loop).trace
        tanhs = trace.of_kind(Kind.ACTIVATION)
        counted = [trace.summary(site, Role.INPUT, 2) for site in tanhs]
        assert sum(summary.count for summary in counted if summary) == 16 * 6 * (1 if no_grad else len(tanhs))

    def test_a_module_evaluated_with_gradients_keeps_its_training_numbers(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        expected = model[0](X).std(correction=0).item()

        def loop():
            for _ in range(3):
                F.cross_entropy(model(100 * X), Y)
                optimizer.zero_grad()
                F.cross_entropy(model(X), Y).backward()
                optimizer.step()

        trace = watched(loop).trace
        (tanh,) = trace.of_kind(Kind.ACTIVATION)
        assert trace.summary(tanh, Role.INPUT).count == 16 * 6
        assert trace.summary(tanh, Role.INPUT).std == pytest.approx(expected)
        assert len(trace.loss_at_start()) == 1

    def test_a_loop_that_stops_in_mid_step(self):
        w = weights(4, 3).requires_grad_()

        def loop():
            F.cross_entropy(X @ w, Y).backward()
            w.data -= 0.1 * w.grad
            F.cross_entropy(X @ w, Y)

        session = watched(loop)
        assert session.steps == 1
        assert session.trace.steps == [0]


class TestAmp:
    def train(self, overflow_at=()):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
        losses, norms = [], []
        for step in range(12):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(X.float()).float(), Y)
            losses.append(loss.item())
            scaled = scaler.scale(loss)
            scaled.backward()
            if step in overflow_at:
                model[0].weight.grad.fill_(torch.inf)
            norms.append(model[2].weight.grad.norm().item() / scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
        return losses, norms

    def test_losses_and_gradients_are_unscaled(self):
        with Session() as session:
            losses, norms = self.train()
        trace = session.trace
        assert (trace.facts.internal_error, session.steps, trace.facts.skipped_updates) == (None, 12, 0)
        assert [trace.objective[step] for step in range(12)] == pytest.approx(losses, rel=1e-6)
        site = parameter(trace, "2.weight")
        assert [trace.summary(site, Role.GRADIENT, k).norm for k in range(10)] == pytest.approx(norms[:10], rel=1e-3)
        last = trace.of_kind(Kind.WEIGHT_LAYER)[-1]
        assert trace.summary(last, Role.OUTPUT_GRADIENT).rms < 1.0

    def test_skipped_steps_are_counted(self):
        with Session() as session:
            self.train(overflow_at=(3, 7))
        assert session.trace.facts.skipped_updates == 2
        assert session.steps == 12

    def test_bit_identical(self):
        bare = self.train(overflow_at=(3,))
        with Session():
            assert self.train(overflow_at=(3,)) == bare

    def test_bf16_parameters(self):
        w = weights(4, 3).to(torch.bfloat16).requires_grad_()

        def loop():
            for _ in range(3):
                F.cross_entropy(X.to(torch.bfloat16) @ w, Y).backward()
                w.data -= 0.1 * w.grad
                w.grad = None

        trace = watched(loop).trace
        (site,) = trace.of_kind(Kind.PARAMETER)
        assert site.dtype == "bfloat16"
        assert trace.summary(site, Role.UPDATE, 1).count == 12
