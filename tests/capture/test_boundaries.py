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
