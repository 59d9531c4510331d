"""fold-bias-into-norm is safe: the same outputs in training and evaluation mode."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.fixes.fix import Applicability
from unstuck.fixes.fold_bias import drop, fold


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def linear() -> tuple[nn.Sequential, Tensor]:
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4))
    return net, torch.randn(64, 6)


def conv() -> tuple[nn.Sequential, Tensor]:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    return net, torch.randn(16, 3, 6, 6)


def trained(make) -> tuple[nn.Sequential, tuple[Tensor, Tensor]]:
    """A network with running statistics of its own and a large bias before the norm."""
    net, x = make()
    with torch.no_grad():
        net[0].bias.normal_(0, 3)
        for _ in range(20):
            net(x)
    return net, (x, torch.randint(4, (len(x),)))


@pytest.mark.parametrize("make", [linear, conv])
class TestSafe:
    def test_outputs_stay_equal_in_both_modes(self, make):
        net, batch = trained(make)
        before = copy.deepcopy(net)
        report = unstuck.fix(net, batch, F.cross_entropy)
        assert [fix.name for fix in report.fixes] == ["fold-bias-into-norm"]
        assert net[0].bias is None
        for training in (False, True):
            expected, got = (n.train(training)(batch[0]) for n in (before, net))
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)

    def test_later_training_and_evaluation_agree_too(self, make):
        net, batch = trained(make)
        pair = [copy.deepcopy(net), net]
        unstuck.fix(net, batch, F.cross_entropy)
        for n in pair:
            optimizer = torch.optim.SGD(n.parameters(), lr=0.05)
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(n(batch[0]), batch[1]).backward()
                optimizer.step()
        one, other = (n.eval()(batch[0]) for n in pair)
        torch.testing.assert_close(other, one, atol=1e-4, rtol=0)

    def test_what_was_done_is_said(self, make):
        net, batch = trained(make)
        rms = net[0].bias.pow(2).mean().sqrt().item()
        (fix,) = unstuck.fix(net, batch, F.cross_entropy).fixes
        assert (fix.code, fix.applicability, fix.site) == ("N001", Applicability.SAFE, "0.bias")
        assert (fix.statistic, fix.before, fix.after) == ("rms of the bias", pytest.approx(rms), 0.0)
        assert fix.snippet == 'model.get_submodule("0").bias = None  # or build the layer with bias=False'

    def test_a_second_time_there_is_nothing_to_do(self, make):
        net, batch = trained(make)
        unstuck.fix(net, batch, F.cross_entropy)
        assert unstuck.fix(net, batch, F.cross_entropy).fixes == ()


ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}  # of outputs near 1
LAYERS = {
    "linear": (lambda: nn.Linear(6, 8), nn.BatchNorm1d, (32, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, groups=2), nn.BatchNorm1d, (16, 4, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d, (8, 3, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 8, 2), nn.BatchNorm3d, (4, 2, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3, groups=2), nn.BatchNorm2d, (8, 4, 5, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_and_norm_keeps_its_outputs_in_both_modes(kind, momentum, affine, dtype):
    make, norm, shape = LAYERS[kind]
    head = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()) if len(shape) > 2 else nn.Identity()
    net = nn.Sequential(make(), norm(8, affine=affine, momentum=momentum), nn.Tanh(), head, nn.Linear(8, 3)).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        net[0].bias.normal_(0, 3)
        for _ in range(5):
            net(x + torch.randn(shape, dtype=dtype))
    before = copy.deepcopy(net)
    report = unstuck.fix(net, (x, torch.randint(3, (len(x),))), F.cross_entropy, steps=3)
    assert [fix.name for fix in report.fixes if fix.kept] == ["fold-bias-into-norm"]
    assert net[0].bias is None
    for training in (False, True, False):  # the passes in training mode move the running statistics of both
        expected, got = (n.train(training)(x) for n in (before, net))
        torch.testing.assert_close(got, expected, atol=ROUNDING[dtype], rtol=0)


@pytest.mark.parametrize("make", [linear, conv])
def test_the_bias_leaves_its_optimizer(make):
    net, batch = trained(make)
    bias = net[0].bias
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    F.cross_entropy(net(batch[0]), batch[1]).backward()
    optimizer.step()
    unstuck.fix(net, batch, F.cross_entropy, optimizer)
    assert not any(held is bias for group in optimizer.param_groups for held in group["params"])
    assert bias not in optimizer.state
    assert len(optimizer.state_dict()["state"]) == len(list(net.parameters()))


class TestLeftAlone:
    def untouched(self, net: nn.Module, x: Tensor) -> None:
        before = copy.deepcopy(net.state_dict())
        report = unstuck.fix(net, (x, torch.randint(4, (len(x),))), F.cross_entropy)
        assert report.fixes == ()
        after = net.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_a_bias_before_an_activation(self):
        self.untouched(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), torch.randn(32, 6))

    def test_a_bias_before_a_layer_norm(self):
        self.untouched(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4)), torch.randn(32, 6))

    def test_a_layer_without_bias(self):
        net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 4))
        self.untouched(net, torch.randn(32, 6))

    def test_an_activation_between_layer_and_norm(self):
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4))
        self.untouched(net, torch.randn(32, 6))

    def test_a_norm_without_running_statistics(self):
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 4))
        self.untouched(net, torch.randn(32, 6))

    def test_an_output_that_something_else_uses_as_well(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

            def forward(self, x):
                h = self.a(x)
                return self.b(self.norm(h) + h.tanh())

        self.untouched(Net(), torch.randn(32, 6))


class TestFold:
    def test_the_bias_moves_into_the_running_mean(self):
        bias, mean = torch.tensor([3.0, -4.0]), torch.tensor([1.0, 1.0])
        assert fold(bias, mean) == pytest.approx(math.sqrt(12.5))
        assert bias.tolist() == [0, 0]
        assert mean.tolist() == [-2, 5]

    def test_without_running_mean_the_bias_is_zeroed(self):
        bias = torch.ones(2)
        assert fold(bias, None) == 1.0
        assert not bias.any()

    def test_half_precision_folds_into_a_float_mean(self):
        bias, mean = torch.tensor([0.5], dtype=torch.float16), torch.zeros(1)
        fold(bias, mean)
        assert mean.tolist() == [-0.5]

    def test_autograd_does_not_notice(self):
        bias = torch.ones(2, requires_grad=True)
        loss = (bias * bias).sum()
        fold(bias, torch.zeros(2))
        assert bias._version == 0
        loss.backward()

    def test_different_shapes(self):
        bias = torch.ones(2)
        with pytest.raises(ValueError, match=r"^bias of shape \(2,\) does not fit running_mean of \(3,\)$"):
            fold(bias, torch.zeros(3))
        assert bias.tolist() == [1, 1]


class TestDrop:
    def test_by_identity_wherever_it_sits(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
        assert drop(net, net[1][0].bias) == "1.0.bias"
        assert net[1][0].bias is None
        assert net[0].bias is not None

    def test_on_the_model_itself(self):
        net = nn.Linear(2, 2)
        assert drop(net, net.bias) == "bias"
        assert [name for name, _ in net.named_parameters()] == ["weight"]

    def test_a_tensor_that_is_not_there(self):
        net = nn.Linear(2, 2)
        assert drop(net, torch.zeros(2)) is None
        assert net.bias is not None


class TestNotSafeNotDone:
    """Where folding would change what the network computes."""

    X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    Y = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(1))

    def unchanged(self, model):
        model.eval()
        before = model(self.X)
        model.train()
        report = unstuck.fix(model, (self.X, self.Y), nn.functional.cross_entropy)
        with unstuck.watch(fix=True) as run:
            nn.functional.cross_entropy(model(self.X), self.Y).backward()
        assert [fix.name for fix in (*report.fixes, *run.report().fixes) if fix.code == "N001"] == []
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0)
        model.eval()
        assert torch.allclose(model(self.X), before, atol=1e-6)

    def test_a_norm_shared_by_two_layers(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.c, self.norm, self.head = (
                    nn.Linear(6, 8),
                    nn.Linear(6, 8),
                    nn.BatchNorm1d(8),
                    nn.Linear(8, 3),
                )

            def forward(self, x):
                return self.head(self.norm(self.a(x)) + self.norm(self.c(x)))

        self.unchanged(Net())

    def test_a_bias_shared_by_two_layers(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.norm, self.head = (
                    nn.Linear(6, 8),
                    nn.Linear(6, 8),
                    nn.BatchNorm1d(8),
                    nn.Linear(8, 3),
                )
                self.b.bias = self.a.bias

            def forward(self, x):
                return self.head(self.norm(self.a(x)) + torch.relu(self.b(x)))

        self.unchanged(Net())

    @pytest.mark.parametrize("other", ["layer", "loss"])
    def test_an_output_that_something_else_takes_too(self, other):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.norm, self.head = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

            def forward(self, x):
                z = self.a(x)
                if other == "layer":
                    return self.head(self.norm(z) * z.mean())
                return self.head(self.norm(z)) + z.mean()

        self.unchanged(Net())
