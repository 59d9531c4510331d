"""Training loops of every build: how many steps, and whose numbers; against values worked out apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.schedule import Schedule
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


class TestClosures:
    def test_lbfgs_is_one_step_a_call(self):
        w = weights(4, 3).requires_grad_()
        before, evaluations = [], []
        optimizer = torch.optim.LBFGS([w], lr=0.5, max_iter=4)

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(X @ w, Y)
            loss.backward()
            evaluations.append(loss.item())
            return loss

        def loop():
            for _ in range(6):
                before.append(w.detach().clone())
                optimizer.step(closure)
            before.append(w.detach().clone())

        session = watched(loop)
        assert session.steps == 6
        assert session.trace.facts.backward_calls == len(evaluations) > 6
        site = parameter(session.trace, "w")
        for step in range(6):
            update = session.trace.summary(site, Role.UPDATE, step)
            assert update.norm == pytest.approx((before[step + 1] - before[step]).norm().item(), rel=1e-6)
            value = session.trace.summary(site, Role.VALUE, step)
            assert value.norm == pytest.approx(before[step].norm().item(), rel=1e-6)
        assert session.trace.objective[0] == pytest.approx(evaluations[0])

    def test_the_first_gradient_of_a_closure_counts(self):
        w = weights(4, 3).requires_grad_()
        optimizer = torch.optim.LBFGS([w], max_iter=3)
        (expected,) = torch.autograd.grad(F.cross_entropy(X @ w, Y), w)

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(X @ w, Y)
            loss.backward()
            return loss

        trace = watched(lambda: optimizer.step(closure)).trace
        assert trace.summary(parameter(trace, "w"), Role.GRADIENT).norm == pytest.approx(expected.norm().item())


class TestManualUpdates:
    def test_no_grad_in_place(self):
        w = weights(4, 3).requires_grad_()

        def loop():
            for _ in range(12):
                F.cross_entropy(X @ w, Y).backward()
                with torch.no_grad():
                    w.sub_(0.1 * w.grad)
                    w.grad.zero_()

        session = watched(loop)
        assert session.steps == 12
        site = parameter(session.trace, "w")
        for step in range(10):
            gradient, update = (session.trace.summary(site, role, step) for role in (Role.GRADIENT, Role.UPDATE))
            assert update.norm == pytest.approx(0.1 * gradient.norm, rel=1e-6)

    def test_new_leaves_each_step_are_one_parameter(self):
        values = []

        def loop():
            w = weights(4, 3).requires_grad_()
            for _ in range(15):
                values.append(w.detach().clone())
                F.cross_entropy(X @ w, Y).backward()
                w = (w - 0.1 * w.grad).detach().requires_grad_()

        session = watched(loop)
        assert session.steps == 15
        (site,) = session.trace.of_kind(Kind.PARAMETER)
        for step in range(10):
            update = session.trace.summary(site, Role.UPDATE, step)
            assert update.norm == pytest.approx((values[step + 1] - values[step]).norm().item(), rel=1e-6)

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_accumulation_by_hand(self, times):
        w = weights(4, 3).requires_grad_()

        def loop():
            for _ in range(40):
                for _ in range(times):
                    (F.cross_entropy(X @ w, Y) / times).backward()
                w.data -= 0.1 * w.grad
                w.grad = None

        session = watched(loop)
        assert session.steps == 40
        assert session.trace.facts.backward_calls == 40 * times

    def test_autograd_grad_instead_of_backward(self):
        w, b = weights(4, 3).requires_grad_(), weights(3).requires_grad_()
        norms = []

        def loop():
            for _ in range(12):
                loss = F.cross_entropy(X @ w + b, Y)
                gradients = torch.autograd.grad(loss, [w, b])
                norms.append([g.norm().item() for g in gradients])
                with torch.no_grad():
                    for p, g in zip((w, b), gradients, strict=True):
                        p -= 0.1 * g

        session = watched(loop)
        assert session.steps == 12
        assert len(session.trace.objective) == 12
        for k, name in enumerate("wb"):
            site = parameter(session.trace, name)
            for step in range(10):
                assert session.trace.summary(site, Role.GRADIENT, step).norm == pytest.approx(norms[step][k], rel=1e-6)
                update = session.trace.summary(site, Role.UPDATE, step)
                assert update.norm == pytest.approx(0.1 * norms[step][k], rel=1e-6)
                assert session.trace.scalar(site, "gradient_missing", step) == 0.0

    @pytest.mark.parametrize("every", [None, 7])
    def test_autograd_grad_with_new_leaves(self, every):
        def loop():
            w = weights(4, 3).requires_grad_()
            for _ in range(300):
                (g,) = torch.autograd.grad(F.cross_entropy(X @ w, Y), [w])
                w = (w - 0.1 * g).detach().requires_grad_()

        with Session(Schedule(every)) as session:
            loop()
        assert session.steps == 300
        assert len(session.trace.objective) == 300
        assert session.trace.steps[-1] > 250


class TestObjective:
    def train(self, step):
        w = weights(4, 3).requires_grad_()
        optimizer = torch.optim.SGD([w], 0.1)

        def loop():
            for _ in range(4):
                optimizer.zero_grad()
                step(w, optimizer)
                optimizer.step()

        return watched(loop).trace.objective, w

    def test_accumulated_losses_add_up(self):
        losses = []

        def step(w, _optimizer):
            for rows in (slice(0, 8), slice(8, 16)):
                loss = F.cross_entropy(X[rows] @ w, Y[rows]) / 2
                loss.backward()
                losses.append(loss.item())

        objective, _ = self.train(step)
        assert list(objective.values()) == pytest.approx(
            [a + b for a, b in zip(losses[::2], losses[1::2], strict=True)]
        )

    def test_a_pass_whose_gradients_are_thrown_away_does_not_count(self):
        losses = []

        def step(w, optimizer):
            x = X.clone().requires_grad_()
            F.cross_entropy(x @ w, Y).backward()
            optimizer.zero_grad()
            loss = F.cross_entropy((X + 0.1 * x.grad.sign()) @ w, Y)
            loss.backward()
            losses.append(loss.item())

        objective, _ = self.train(step)
        assert list(objective.values()) == pytest.approx(losses)


class TestDoubleBackward:
    def test_gradient_penalty_is_forward_work(self):
        w1, w2 = weights(4, 6).requires_grad_(), weights(6, 1).requires_grad_()
        optimizer = torch.optim.SGD([w1, w2], 0.01)
        norms = []

        def loop():
            for _ in range(5):
                x = X.clone().requires_grad_()
                out = torch.tanh(x @ w1) @ w2
                (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
                loss = out.square().mean() + (slope.norm(dim=1) - 1).square().mean()
                optimizer.zero_grad()
                loss.backward()
                norms.append(w1.grad.norm().item())
                optimizer.step()

        session = watched(loop)
        assert session.steps == 5
        assert session.trace.facts.backward_calls == 5
        site = parameter(session.trace, "w1")
        for step in range(5):
            assert session.trace.summary(site, Role.GRADIENT, step).norm == pytest.approx(norms[step], rel=1e-6)

    def test_gradients_by_an_input_alone_are_no_step(self):
        w = weights(4, 3).requires_grad_()

        def loop():
            for _ in range(3):
                x = X.clone().requires_grad_()
                torch.autograd.grad(F.cross_entropy(x @ w, Y), x)
                F.cross_entropy(X @ w, Y).backward()
                w.data -= 0.1 * w.grad
                w.grad = None

        assert watched(loop).steps == 3

    def test_second_derivatives(self):
        w = weights(4, 3).requires_grad_()

        def loop():
            F.cross_entropy(X @ w, Y).backward(create_graph=True)
            w.grad.square().sum().backward()

        with pytest.warns(UserWarning, match="create_graph"):
            session = watched(loop)
        assert session.steps == 1
        assert session.trace.facts.backward_calls == 2
        w.grad = None


class TestSeveralNetworks:
    def test_gan(self):
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4)).double()
        critic = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
        g_opt, c_opt = torch.optim.Adam(generator.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)

        def loop():
            for _ in range(12):
                noise = torch.randn(16, 2, dtype=torch.float64)
                c_opt.zero_grad()
                loss = F.softplus(-critic(X)).mean() + F.softplus(critic(generator(noise).detach())).mean()
                loss.backward()
                c_opt.step()
                g_opt.zero_grad()
                F.softplus(-critic(generator(noise))).mean().backward()
                g_opt.step()

        session = watched(loop)
        assert session.steps == 24
        layers = session.trace.of_kind(Kind.WEIGHT_LAYER)
        assert sorted(site.path for site in layers) == ["0", "2", "Sequential.0", "Sequential.2"]
        first_of = {"critic": "0.weight", "generator": "Sequential.0.weight"}
        for k, name in enumerate(("critic", "generator")):
            site = parameter(session.trace, first_of[name])
            steps, values = session.trace.series(site, Role.UPDATE, "rms")
            sampled = [step for step in session.trace.steps if step >= 2]
            assert [step for step in steps if step >= 2] == [step for step in sampled if step % 2 == k]
            assert (values[steps >= 2] > 0).all()

    def test_the_second_optimizers_update_is_measured(self):
        a, b = weights(4, 4).requires_grad_(), weights(4, 3).requires_grad_()
        optimizers = [torch.optim.SGD([a], 0.1), torch.optim.SGD([b], 0.2)]

        def loop():
            for _ in range(4):
                a.grad = b.grad = None
                F.cross_entropy(X @ a @ b, Y).backward()
                for optimizer in optimizers:
                    optimizer.step()

        session = watched(loop)
        assert session.steps == 4
        for name, lr in (("a", 0.1), ("b", 0.2)):
            site = parameter(session.trace, name)
            for step in range(4):
                gradient, update = (session.trace.summary(site, role, step) for role in (Role.GRADIENT, Role.UPDATE))
                assert update.norm == pytest.approx(lr * gradient.norm, rel=1e-6)
