"""The public functions on networks built for the purpose."""

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.config import ConfigError
from unstuck.rules.catalogue import UnknownRuleError, get_rule

X = torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 5, (64,), generator=torch.Generator().manual_seed(1))


def healthy(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 32), nn.Tanh(), nn.Linear(32, 5))


def naive(seed=0):
    """All weights and biases N(0, 1)."""
    model = healthy(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 5))


def state(model):
    """Everything `check` promises to leave alone."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [id(p.grad) for p in model.parameters()],
        [m.training for m in model.modules()],
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


def same(a, b):
    return (
        a[0].keys() == b[0].keys()
        and all(torch.equal(a[0][k], b[0][k]) for k in a[0])
        and all(x is y is None or torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))
        and a[2:4] == b[2:4]
        and torch.equal(a[4], b[4])
        and a[5:] == b[5:]
    )


class TestCheck:
    def test_a_healthy_network(self):
        report = unstuck.check(healthy(), (X, Y), F.cross_entropy)
        assert report.ok
        assert report.findings == ()
        assert {"A002", "U001"} <= {rule.code for rule in report.not_checked}

    def test_a_naive_network(self):
        report = unstuck.check(naive(), (X, Y), F.cross_entropy)
        assert not report.ok
        assert "L001" in report.codes()
        (call,) = report.trace.loss_at_start()
        assert call.value == pytest.approx(F.cross_entropy(naive()(X), Y).item())
        assert call.baseline == pytest.approx(math.log(5))

    def test_pretrained_networks_are_not_judged_by_their_start(self):
        assert "L001" not in unstuck.check(naive(), (X, Y), F.cross_entropy, pretrained=True).codes()

    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_everything_as_it_was(self, training):
        model = normed().train(training)
        F.cross_entropy(model(X), Y).backward()
        model[0].weight.grad = None
        before = state(model)

        def loss_fn(logits, targets):
            random.random()
            np.random.rand()
            return F.cross_entropy(logits, targets)

        unstuck.check(model, (X, Y), loss_fn)
        assert same(before, state(model))

    def test_leaves_everything_as_it_was_when_the_model_raises(self):
        class Broken(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = normed()

            def forward(self, x):
                self.inner(x)
                raise ZeroDivisionError

        model = Broken()
        before = state(model)
        with pytest.raises(ZeroDivisionError):
            unstuck.check(model, (X, Y), F.cross_entropy)
        assert same(before, state(model))

    def test_inside_no_grad(self):
        with torch.no_grad():
            assert unstuck.check(healthy(), (X, Y), F.cross_entropy).trace.facts.backward_calls == 1

    def test_inputs_as_tuple_and_dict(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = healthy()

            def forward(self, a, b):
                return self.net(a + b)

        for inputs in ((X, X), {"a": X, "b": X}):
            assert unstuck.check(Two(), (inputs, Y), F.cross_entropy).trace.facts.backward_calls == 1

    def test_bad_batches_and_losses(self):
        with pytest.raises(ValueError, match=r"batch must be a pair .*, got Tensor"):
            unstuck.check(healthy(), X, F.cross_entropy)
        with pytest.raises(ValueError, match=r"loss_fn must return a tensor with one element, got shape \(64,\)"):
            unstuck.check(healthy(), (X, Y), lambda a, b: F.cross_entropy(a, b, reduction="none"))

    def test_select_and_ignore(self):
        assert unstuck.check(naive(), (X, Y), F.cross_entropy, select=["L"]).codes() == ["L001"]
        assert "L001" not in unstuck.check(naive(), (X, Y), F.cross_entropy, ignore=["L001"]).codes()


class TestFix:
    def test_a_healthy_network_is_left_alone(self):
        model = healthy()
        before = copy.deepcopy(model.state_dict())
        report = unstuck.fix(model, (X, Y), F.cross_entropy, unsafe=True)
        assert report.fixes == ()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_safe_alone_keeps_an_initialisation(self):
        model = naive()
        before = copy.deepcopy(model.state_dict())
        assert "L001" in unstuck.fix(model, (X, Y), F.cross_entropy).codes()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_unsafe_mends_a_naive_network(self):
        model = naive()
        report = unstuck.fix(model, (X, Y), F.cross_entropy, unsafe=True)
        assert [fix.code for fix in report.fixes] == ["I002", "L001"]
        assert report.ok
        assert F.cross_entropy(model(X), Y).item() == pytest.approx(math.log(5), abs=0.05)
        assert model[0](X).std().item() == pytest.approx(1.0, rel=0.02)

    def test_pretrained_is_never_changed_unsafely(self):
        model = naive()
        report = unstuck.fix(model, (X, Y), F.cross_entropy, unsafe=True, pretrained=True)
        assert report.fixes == ()
        assert any("loaded weights" in reason for reason in report.withheld)

    @pytest.mark.parametrize("training", [True, False])
    def test_folding_a_bias_keeps_the_function(self, training):
        model = nn.Sequential(nn.Linear(40, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
        with torch.no_grad():
            model[1].running_mean.normal_()
        twin = copy.deepcopy(model)
        report = unstuck.fix(model, (X, Y), F.cross_entropy)
        assert [(fix.code, fix.site) for fix in report.fixes] == [("N001", "0.bias")]
        assert model[0].bias is None
        assert "N001" not in report.codes()
        model.train(training)
        twin.train(training)
        assert torch.allclose(model(X), twin(X), atol=1e-5)


class TestWatch:
    def test_report_during_and_after(self):
        model = healthy()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with unstuck.watch() as run:
            for step in range(30):
                optimizer.zero_grad()
                F.cross_entropy(model(X), Y).backward()
                optimizer.step()
                if step == 4:
                    early = run.report()
        late = run.report()
        assert (early.run.steps, late.run.steps) == (5, 30)
        assert early.trace.steps == [0, 1, 2, 3, 4]
        assert late.ok
        assert "no fault found in 30 steps" in str(late)

    def test_unknown_rules_and_settings_are_said_before_training(self):
        with pytest.raises(UnknownRuleError, match="did you mean L001"):
            unstuck.watch(select=["L0001"])
        with pytest.raises(ConfigError, match="every must be a whole number of at least 1, got 0"):
            unstuck.watch(every=0)

    def test_ends_when_the_block_raises(self):
        with pytest.raises(ZeroDivisionError), unstuck.watch():
            raise ZeroDivisionError
        with unstuck.watch() as run:
            pass
        assert "no backward pass was seen" in str(run.report())


class TestAssertTrainable:
    def test_silent_on_a_healthy_network(self):
        unstuck.assert_trainable(healthy(), (X, Y), F.cross_entropy)

    def test_raises_with_the_report(self):
        with pytest.raises(
            AssertionError, match=r"(?s)not ready to train.*L001 overconfident-start.*test_api.py|Linear"
        ):
            unstuck.assert_trainable(naive(), (X, Y), F.cross_entropy)


def test_explain():
    text = unstuck.explain("l001")
    assert text.startswith("L001 overconfident-start\n\n")
    assert "## Why is this bad" in text
    assert unstuck.explain("overconfident-start") == text


class TestCheckLeavesOddModelsAlone:
    """Networks whose forward pass changes more than running statistics."""

    def left(self, model, batch=None, loss_fn=F.cross_entropy):
        before, objects = state(model), [dict(m._buffers) for m in model.modules()]
        unstuck.check(model, batch or (X, Y), loss_fn)
        assert same(before, state(model))
        for module, held in zip(model.modules(), objects, strict=True):
            assert module._buffers.keys() == held.keys()
            assert all(module._buffers[name] is held[name] for name in held)

    def test_a_buffer_that_is_replaced_and_one_that_is_filled(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = healthy()
                self.register_buffer("mean", torch.zeros(40))
                self.register_buffer("late", None)

            def forward(self, x):
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                self.late = x.mean(0)
                return self.net(x)

        self.left(Net())

    def test_a_parameter_that_is_normalised_in_place(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = healthy()

            def forward(self, x):
                with torch.no_grad():
                    self.net[0].weight.div_(self.net[0].weight.norm())
                return self.net(x)

        self.left(Net())

    def test_inputs_and_a_loss_with_state(self):
        class Loss(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(()))
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, logits, targets):
                self.calls += 1
                return self.scale * F.cross_entropy(logits, targets)

        loss_fn, x = Loss(), X.clone().requires_grad_()
        self.left(healthy(), (x, Y), loss_fn)
        assert (x.grad, loss_fn.scale.grad, loss_fn.calls.item()) == (None, None, 0)

    def test_inside_inference_mode(self):
        model = healthy()
        with torch.inference_mode():
            assert unstuck.check(model, (X.clone(), Y), F.cross_entropy).trace.facts.backward_calls in (0, 1)

    def test_what_cannot_be_checked_is_said(self):
        frozen = healthy().requires_grad_(False)
        with pytest.raises(ValueError, match="is the whole model frozen"):
            unstuck.check(frozen, (X, Y), F.cross_entropy)
        with pytest.raises(ValueError, match="lazy parameters without a shape yet; run it once on a batch"):
            unstuck.check(nn.LazyLinear(5), (X, Y), F.cross_entropy)

    def test_printing_a_report_leaves_random_numbers_alone(self):
        report = unstuck.check(healthy(), (X, Y), F.cross_entropy)
        before = random.getstate()
        assert str(report)
        assert report.render("json")
        assert random.getstate() == before


def test_saturation_is_mended_where_the_weights_alone_look_fair():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 100), nn.Tanh(), nn.Linear(100, 5))
    nn.init.normal_(model[0].weight)
    x = torch.randn(64, 20)
    report = unstuck.fix(model, (x, Y), F.cross_entropy, unsafe=True)
    assert [fix.code for fix in report.fixes] == ["A001"]
    assert report.ok


def test_a_rule_that_fails_costs_nobody_the_other_findings(monkeypatch):
    rule = get_rule("A001")
    monkeypatch.setattr(rule, "detect", lambda self, trace: 1 / 0)
    model = naive()
    report = unstuck.check(model, (X, Y), F.cross_entropy)
    assert "I002" in report.codes()
    (failed,) = [entry for entry in report.not_checked if entry.code == "A001"]
    assert failed.lacking.startswith("mending: it failed inside; please report this")
    assert "ZeroDivisionError: division by zero, test_api.py:" in failed.lacking
