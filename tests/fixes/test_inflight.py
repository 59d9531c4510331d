"""Repairs during the first forward pass of an unchanged loop."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.fixes.fix import Applicability
from unstuck.trace import Kind, Role

CLASSES = 10
BASELINE = math.log(CLASSES)
Forward = Callable[[Tensor], Tensor]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    return torch.randn(64, 100, generator=g), torch.randint(CLASSES, (64,), generator=g)


def raw_weights() -> list[Tensor]:
    """Two layers, everything drawn from N(0, 1)."""
    g = torch.Generator().manual_seed(0)
    shapes = [(100, 100), (100,), (100, CLASSES), (CLASSES,)]
    return [torch.randn(shape, generator=g).requires_grad_() for shape in shapes]


def raw_forward(weights: list[Tensor]) -> Forward:
    w1, b1, w2, b2 = weights
    return lambda x: torch.tanh(x @ w1 + b1) @ w2 + b2


class Net(nn.Module):
    """Two hidden layers, all weights and biases drawn from N(0, 1)."""

    def __init__(self, activation: type[nn.Module] = nn.Tanh) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(100, 50), activation(), nn.Linear(50, 50), activation())
        self.head = nn.Linear(50, CLASSES)
        g = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=g)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def train(forward: Forward, parameters: list[Tensor], batch: tuple[Tensor, Tensor], steps: int = 1) -> list[float]:
    """Plain gradient descent; the losses."""
    losses = []
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = None
        loss = F.cross_entropy(forward(batch[0]), batch[1])
        loss.backward()
        losses.append(loss.item())
        for parameter in parameters:
            parameter.data -= 0.1 * parameter.grad
    return losses


def first_pass(forward: Forward, batch: tuple[Tensor, Tensor]) -> tuple[unstuck.Run, float]:
    """One forward and backward pass under repair."""
    with unstuck.watch(unsafe_fixes=True) as run:
        loss = F.cross_entropy(forward(batch[0]), batch[1])
        loss.backward()
    assert run.session.trace.facts.internal_error is None
    return run, loss.item()


def state(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.state_dict().values()]


def withheld(run: unstuck.Run) -> tuple[str, ...]:
    return run.report().withheld


class TestSilent:
    def test_nothing_is_touched_without_fix(self, batch):
        net = Net()
        before = state(net)
        with unstuck.watch() as run:
            F.cross_entropy(net(batch[0]), batch[1]).backward()
        assert run.fixes == ()
        assert all(torch.equal(a, b) for a, b in zip(before, state(net), strict=True))

    @pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
    def test_torchs_own_initialisation_is_kept(self, batch, activation):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(100, 50), activation(), nn.Linear(50, CLASSES))
        before = state(net)
        run, _ = first_pass(net, batch)
        assert run.fixes == ()
        assert withheld(run) == ()
        assert all(torch.equal(a, b) for a, b in zip(before, state(net), strict=True))

    def test_an_output_layer_of_zeros_is_meant_so(self, batch):
        net = Net()
        nn.init.zeros_(net.head.weight)
        nn.init.zeros_(net.head.bias)
        run, loss = first_pass(net, batch)
        assert loss == pytest.approx(BASELINE)
        assert not net.head.weight.any()
        assert "L001" not in [fix.code for fix in run.fixes]

    @pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
    def test_a_layer_followed_by_a_norm_keeps_its_weight(self, batch, norm):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(100, 50), norm(50), nn.Tanh(), nn.Linear(50, CLASSES))
        nn.init.normal_(net[0].weight)
        before = net[0].weight.detach().clone()
        run, _ = first_pass(net, batch)
        assert torch.equal(net[0].weight, before)
        assert "I002" not in [fix.code for fix in run.fixes]

    def test_only_the_first_step_is_mended(self, batch):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(100, 50), nn.Tanh(), nn.Linear(50, CLASSES))
        with unstuck.watch(unsafe_fixes=True, every=1) as run:
            train(net, list(net.parameters()), batch)
            net[0].weight.data.normal_()
            spoiled = net[0].weight.detach().clone()
            F.cross_entropy(net(batch[0]), batch[1]).backward()
        assert run.fixes == ()
        assert torch.equal(net[0].weight, spoiled)


class TestMends:
    def test_raw_tensors(self, batch):
        weights = raw_weights()
        w1, b1, *_ = weights
        assert F.cross_entropy(raw_forward(weights)(batch[0]), batch[1]).item() > 3 * BASELINE
        run, loss = first_pass(raw_forward(weights), batch)
        assert (batch[0] @ w1 + b1).std(correction=0).item() == pytest.approx(1, abs=1e-4)
        assert loss == pytest.approx(BASELINE, abs=0.05)
        assert [(fix.code, fix.site) for fix in run.fixes] == [("I002", "w1, b1"), ("L001", "w2, b2")]

    @pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
    def test_modules_layer_by_layer_on_mended_inputs(self, batch, activation):
        net = Net(activation)
        run, loss = first_pass(net, batch)
        first, second = net.body[0](batch[0]), net.body[:3](batch[0])
        assert first.std(correction=0).item() == pytest.approx(1, abs=1e-4)
        assert second.std(correction=0).item() == pytest.approx(1, abs=1e-4)
        assert loss == pytest.approx(BASELINE, abs=0.05)
        assert [fix.site for fix in run.fixes] == [f"{n}.weight, {n}.bias" for n in ("body.0", "body.2", "head")]

    def test_the_loss_the_script_sees_is_that_of_the_mended_weights(self, batch):
        weights = raw_weights()
        _, loss = first_pass(raw_forward(weights), batch)
        assert loss == F.cross_entropy(raw_forward(weights)(batch[0]), batch[1]).item()

    def test_an_in_place_activation(self, batch):
        net = Net(lambda: nn.ReLU(inplace=True))
        _, loss = first_pass(net, batch)
        assert loss == pytest.approx(BASELINE, abs=0.05)
        assert net.body[0](batch[0]).std(correction=0).item() == pytest.approx(1, abs=1e-4)

    def test_a_loss_of_log_probabilities(self, batch):
        weights = raw_weights()
        forward = raw_forward(weights)
        with unstuck.watch(unsafe_fixes=True) as run:
            loss = F.nll_loss(F.log_softmax(forward(batch[0]), dim=-1), batch[1])
            loss.backward()
        assert loss.item() == pytest.approx(BASELINE, abs=0.05)
        assert [fix.code for fix in run.fixes] == ["I002", "L001"]

    def test_a_bias_before_batch_normalisation_is_folded(self, batch):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(100, 50), nn.BatchNorm1d(50), nn.Tanh(), nn.Linear(50, CLASSES))
        before = copy.deepcopy(net)
        run, loss = first_pass(net, batch)
        assert [(fix.code, fix.applicability) for fix in run.fixes] == [("N001", Applicability.SAFE)]
        assert not net[0].bias.any()
        assert loss == pytest.approx(F.cross_entropy(before(batch[0]), batch[1]).item(), abs=1e-5)
        torch.testing.assert_close(net.eval()(batch[0]), before.eval()(batch[0]), atol=1e-5, rtol=0)

    def test_a_bias_that_was_folded_is_not_found_again_but_others_are(self, batch):
        torch.manual_seed(0)
        first, second, third = nn.Linear(100, 50), nn.Linear(50, 50), nn.Linear(50, CLASSES)
        norms = [nn.BatchNorm1d(50), nn.BatchNorm1d(50, track_running_stats=False)]  # the second has no running mean

        def forward(x: Tensor) -> Tensor:
            return third(norms[1](second(norms[0](first(x)).tanh())).tanh())

        run, _ = first_pass(forward, batch)
        assert [fix.code for fix in run.fixes] == ["N001"]
        assert not first.bias.any()
        (left,) = (finding for finding in run.report().findings if finding.code == "N001")
        assert left.site_index is not None
        site = run.session.trace.sites[left.site_index]
        assert [p.shape for p in run.session.trace.parameters_of(site) if p.slot == "weight"] == [(50, 50)]

    def test_it_is_reported_with_numbers(self, batch):
        weights = raw_weights()
        forward = raw_forward(weights)
        spread = (batch[0] @ weights[0] + weights[1]).std(correction=0).item()
        run, loss = first_pass(forward, batch)
        rescaled, shrunk = run.fixes
        assert rescaled.applicability is shrunk.applicability is Applicability.UNSAFE
        assert (rescaled.statistic, rescaled.unit) == ("pre-activation std", "1")
        assert rescaled.before == pytest.approx(spread)
        assert rescaled.after == pytest.approx(1)
        assert rescaled.snippet.splitlines()[0] == f"w1.data *= {1 / spread:.6g}"
        assert shrunk.statistic == f"starting loss (baseline {BASELINE:.4f})"
        assert shrunk.after == pytest.approx(loss)
        assert shrunk.before > shrunk.after
        assert shrunk.snippet.splitlines()[1] == "b2.data.zero_()"
        assert "raw_forward" in rescaled.location.function
        assert run.report().fixes == run.fixes

    def test_the_report_afterwards_finds_it_mended(self, batch):
        run, _ = first_pass(Net(), batch)
        assert {"I002", "L001"} & set(run.report().codes()) == set()

    def test_what_the_layers_made_is_what_the_mended_ones_make(self, batch):
        net = Net()
        run, _ = first_pass(net, batch)
        trace = run.session.trace
        layers = [site for site in trace.sites if site.kind is Kind.WEIGHT_LAYER]
        with torch.no_grad():
            h1 = net.body[0](batch[0])
            h2 = net.body[2](h1.tanh())
            made = [h1, h2, net.head(h2.tanh())]
        stds = [trace.summary(site, Role.OUTPUT, 0).std for site in layers]
        assert stds == pytest.approx([float(out.std(correction=0)) for out in made], rel=1e-5)

    def test_the_snippets_do_the_same_by_hand(self, batch):
        weights, by_hand = raw_weights(), raw_weights()
        run, _ = first_pass(raw_forward(weights), batch)
        names = dict(zip(("w1", "b1", "w2", "b2"), by_hand, strict=True))
        exec("\n".join(fix.snippet for fix in run.fixes), names)  # what a user would paste
        for mended, pasted in zip(weights, by_hand, strict=True):
            torch.testing.assert_close(pasted, mended, rtol=1e-5, atol=0)


class TestSameAsBuiltSo:
    """A net mended in flight trains as one that was built with the mended weights."""

    def test_raw_tensors_gradients_and_training(self, batch):
        weights = raw_weights()
        with unstuck.watch(unsafe_fixes=True):
            loss = F.cross_entropy(raw_forward(weights)(batch[0]), batch[1])
            loss.backward()
        built = [w.detach().clone().requires_grad_() for w in weights]
        F.cross_entropy(raw_forward(built)(batch[0]), batch[1]).backward()
        for mended, other in zip(weights, built, strict=True):
            assert torch.equal(mended.grad, other.grad)

    @pytest.mark.parametrize("activation", [nn.Tanh, lambda: nn.ReLU(inplace=True)])
    def test_modules_gradients(self, batch, activation):
        net = Net(activation)
        first_pass(net, batch)
        built = copy.deepcopy(net)
        built.zero_grad()
        F.cross_entropy(built(batch[0]), batch[1]).backward()
        for mended, other in zip(net.parameters(), built.parameters(), strict=True):
            assert torch.equal(mended.grad, other.grad)

    def test_losses_of_many_steps(self, batch):
        weights, built = raw_weights(), raw_weights()
        first_pass(raw_forward(built), batch)
        expected = train(raw_forward(built), built, batch, steps=15)
        with unstuck.watch(unsafe_fixes=True):
            losses = train(raw_forward(weights), weights, batch, steps=15)
        assert losses == expected
        assert losses[-1] < losses[0]

    def test_it_trains_better_than_before(self, batch):
        mended, as_it_was = raw_weights(), raw_weights()
        with unstuck.watch(unsafe_fixes=True):
            losses = train(raw_forward(mended), mended, batch, steps=5)
        assert max(losses) < train(raw_forward(as_it_was), as_it_was, batch, steps=1)[0]


class TestRefuses:
    def test_after_weights_were_loaded(self, batch):
        net = Net()
        with unstuck.watch(unsafe_fixes=True) as run:
            net.load_state_dict(Net().state_dict())
            before = state(net)
            F.cross_entropy(net(batch[0]), batch[1]).backward()
        assert run.fixes == ()
        assert all(torch.equal(a, b) for a, b in zip(before, state(net), strict=True))
        assert len(withheld(run)) == 3
        assert [text.split(" at ")[0] for text in withheld(run)] == [
            "rescale-weights",
            "rescale-weights",
            "shrink-output-layer",
        ]
        assert all(text.endswith(": the network has loaded weights") for text in withheld(run))
        assert "not mended: rescale-weights at " in run.report().render()

    def test_an_output_layer_tied_to_the_embedding(self, batch):
        table = torch.randn(CLASSES, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
        before = table.detach().clone()
        with unstuck.watch(unsafe_fixes=True) as run:
            F.cross_entropy(table[batch[1]] @ table.T, batch[1].flip(0)).backward()
        assert run.fixes == ()
        assert torch.equal(table, before)
        (text,) = withheld(run)
        assert re.fullmatch(
            r"shrink-output-layer at test_inflight\.py:\d+: its parameters are used in another place as well", text
        )


class TestHardCases:
    X = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    Y = torch.randint(0, 10, (64,), generator=torch.Generator().manual_seed(1))

    def naive(self, *sizes):
        torch.manual_seed(0)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
        return layers

    def test_under_autocast_the_mended_weights_are_used_at_once(self):
        first, last = self.naive(100, 100, 10)
        with unstuck.watch(unsafe_fixes=True) as run, torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(last(torch.tanh(first(self.X))).float(), self.Y)
            loss.backward()
        rescaled, shrunk = run.fixes
        assert rescaled.before > 9
        assert rescaled.after == pytest.approx(1.0, rel=0.02)
        assert shrunk.after == pytest.approx(loss.item(), rel=1e-3)
        assert loss.item() == pytest.approx(2.303, abs=0.05)

    def test_tied_modules_are_left_alone_at_their_first_use(self):
        a, b = self.naive(100, 100, 100)
        b.weight = a.weight
        model = nn.Sequential(a, nn.Tanh(), b, nn.Tanh())
        before = a.weight.detach().clone()
        with unstuck.watch(unsafe_fixes=True) as run:
            model(self.X).sum().backward()
        assert torch.equal(a.weight, before)
        assert any("used in another place" in text for text in run.report().withheld)

    def test_raw_tied_weights_are_reported_when_the_second_use_comes(self):
        w = torch.randn(100, 100, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with unstuck.watch(unsafe_fixes=True) as run:
            torch.tanh(torch.tanh(self.X @ w) @ w).sum().backward()
        assert [fix.code for fix in run.fixes] == ["I002"]
        assert run.report().withheld == ("w is used in another place too, which the repair has changed as well",)

    def test_frozen_weights_are_left_alone(self):
        first, last = self.naive(100, 100, 10)
        first.requires_grad_(False)
        before = first.weight.clone()
        with unstuck.watch(unsafe_fixes=True) as run:
            nn.functional.cross_entropy(last(torch.tanh(first(self.X))), self.Y).backward()
        assert torch.equal(first.weight, before)
        assert any(text.endswith("its weights are frozen") for text in run.report().withheld)

    def test_pretrained_may_be_said(self):
        first, last = self.naive(100, 100, 10)
        with unstuck.watch(unsafe_fixes=True, pretrained=True) as run:
            nn.functional.cross_entropy(last(torch.tanh(first(self.X))), self.Y).backward()
        assert run.fixes == ()
        assert len(run.report().withheld) == 2
