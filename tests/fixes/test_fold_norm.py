"""Folding batch normalisation for inference: outputs stay, whatever the layer; refused where they would not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.fold_norm import fold_norms

RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}  # error against the largest output

X = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))


def settle(net: nn.Module) -> nn.Module:
    """Give each norm statistics, gains and shifts of its own; enter evaluation mode."""
    g = torch.Generator().manual_seed(1)
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            if norm.running_mean is not None:
                norm.running_mean.normal_(generator=g)
                norm.running_var.uniform_(0.2, 3.0, generator=g)
            if norm.affine:
                nn.init.normal_(norm.weight, generator=g)
                nn.init.normal_(norm.bias, generator=g)
    return net.eval()


def folded(net: nn.Module, x: Any, *, norms: int = 1) -> list[Fix]:
    """Fold and compare: outputs equal within rounding, no norm left where one was folded."""

    def call() -> Tensor:
        return net(**x) if isinstance(x, dict) else net(*x) if isinstance(x, tuple) else net(x)

    with torch.no_grad():
        expected = call()
        fixes = fold_norms(net, x)
        error = (call() - expected).abs().max() / expected.abs().max()
    assert len(fixes) == norms
    assert error <= RELATIVE[expected.dtype]
    return fixes


def untouched(net: nn.Module, x: Any = X) -> None:
    """Nothing is folded, and not a bit of the network is changed."""
    before, modules = copy.deepcopy(net.state_dict()), [id(module) for module in net.modules()]
    assert fold_norms(net, x) == []
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [id(module) for module in net.modules()] == modules


class Net(nn.Module):
    """Two layers and a norm, and a forward pass that is given."""

    def __init__(self, forward: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.norm, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.does = forward
        settle(self)

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


def after(z: Tensor, made: Callable[[Tensor], Any]) -> Any:
    return made(z)


REFUSED: dict[str, Callable[[Net, Tensor], Any]] = {
    "the output is added to the norm's": lambda n, x: after(n.a(x), lambda z: n.norm(z) + z),
    "a function of it is": lambda n, x: after(n.a(x), lambda z: n.norm(z) + z.relu()),
    "it is, before another layer": lambda n, x: after(n.a(x), lambda z: n.head(n.norm(z) + z)),
    "it is, detached": lambda n, x: after(n.a(x), lambda z: n.norm(z) + z.detach()),
    "its mean is, as a number of Python": lambda n, x: after(n.a(x), lambda z: n.norm(z) + z.mean().item()),
    "it is an output itself": lambda n, x: after(n.a(x), lambda z: (n.norm(z), z)),
    "the norm has two layers": lambda n, x: n.norm(n.a(x)) + n.norm(n.b(x)),
    "the norm is used in a row": lambda n, x: n.norm(n.head(n.norm(n.a(x)))),
    "the layer is used twice": lambda n, x: n.norm(n.a(x)) + n.a(x),
    "the layer has two inputs": lambda n, x: n.norm(n.a(x)) + n.a(2 * x),
    "the weight is used elsewhere": lambda n, x: n.norm(n.a(x)) + n.a.weight.sum(),
    "the weight is tied": lambda n, x: n.norm(n.a(x)) @ n.a.weight,
    "the gain is used elsewhere": lambda n, x: n.norm(n.a(x)) * n.norm.weight,
    "the layer is called without its bias": lambda n, x: n.norm(F.linear(x, n.a.weight)),
    "the norm is a call": lambda n, x: F.batch_norm(n.a(x), n.norm.running_mean, n.norm.running_var, n.norm.weight),
    "a factor stands between": lambda n, x: n.norm(n.a(x) * 2),
    "an activation stands between": lambda n, x: n.norm(n.a(x).tanh()),
    "two layers make the norm's input": lambda n, x: n.norm(n.a(x) + n.b(x)),
    "their units are mixed": lambda n, x: n.norm(torch.cat([n.a(x)[:, :4], n.b(x)[:, 4:]], 1)),
    "part of the output": lambda n, x: n.norm(n.a(x)[:8].t()),
}


class TestRefused:
    def test_training_mode(self):
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
        with pytest.raises(ValueError, match=r"^folding is for inference: call model.eval\(\) first, and keep a copy"):
            fold_norms(net, X)
        net.eval()[0].train()
        with pytest.raises(ValueError, match=r"^folding is for inference"):
            fold_norms(net, X)

    @pytest.mark.parametrize("why", REFUSED)
    def test_where(self, why):
        untouched(Net(REFUSED[why]))

    def test_a_layer_in_two_places(self):
        net = Net(lambda n, x: n.norm(n.a(x)))
        net.b = net.a
        untouched(net)

    def test_a_bias_of_two_layers(self):
        net = Net(lambda n, x: n.norm(n.a(x)) + n.b(x))
        net.b.bias = net.a.bias
        untouched(net)

    def test_a_norm_without_running_statistics(self):
        net = Net(lambda n, x: n.norm(n.a(x)))
        net.norm = nn.BatchNorm1d(8, track_running_stats=False).eval()
        untouched(net)

    def test_other_norms(self):
        untouched(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8)).eval())
        untouched(nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4)).eval(), torch.randn(3, 2, 6))

    def test_a_weight_that_is_computed(self):
        net = Net(lambda n, x: n.norm(n.a(x)))
        net.a = nn.utils.parametrizations.weight_norm(net.a)
        untouched(net.eval())

    def test_the_model_raises(self):
        net = Net(lambda n, x: n.norm(n.a(x)) / (1 / 0))
        net.a.weight.requires_grad_(False)
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ZeroDivisionError):
            fold_norms(net, X)
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
        assert [p.requires_grad for p in net.parameters()] == [False] + 7 * [True]

    def test_ctrl_c_in_a_later_pass_leaves_the_norm(self):
        def interrupted(n: Net, x: Tensor) -> Tensor:
            if not isinstance(n.norm, nn.BatchNorm1d):
                raise KeyboardInterrupt
            return n.norm(n.a(x))

        net = Net(interrupted)
        expected = net(X)
        with pytest.raises(KeyboardInterrupt):
            fold_norms(net, X)
        assert torch.equal(net(X), expected)


LAYERS: dict[str, tuple[Callable[..., nn.Module], type[nn.Module], tuple[int, ...]]] = {
    "linear": (partial(nn.Linear, 6, 8), nn.BatchNorm1d, (10, 6)),
    "conv1d": (partial(nn.Conv1d, 4, 8, 3, padding=1), nn.BatchNorm1d, (5, 4, 7)),
    "conv1d in groups": (partial(nn.Conv1d, 4, 8, 3, groups=2), nn.BatchNorm1d, (5, 4, 7)),
    "conv2d": (partial(nn.Conv2d, 4, 8, 3, stride=2, dilation=2), nn.BatchNorm2d, (5, 4, 9, 7)),
    "conv2d by channel": (partial(nn.Conv2d, 8, 8, 3, groups=8), nn.BatchNorm2d, (5, 8, 5, 5)),
    "conv3d": (partial(nn.Conv3d, 4, 8, 2), nn.BatchNorm3d, (3, 4, 4, 3, 4)),
    "transposed 1d": (partial(nn.ConvTranspose1d, 4, 8, 3), nn.BatchNorm1d, (5, 4, 7)),
    "transposed 1d in groups": (partial(nn.ConvTranspose1d, 6, 8, 3, groups=2), nn.BatchNorm1d, (5, 6, 7)),
    "transposed 2d": (partial(nn.ConvTranspose2d, 4, 8, 3, 2, 1, 1), nn.BatchNorm2d, (5, 4, 5, 6)),
    "transposed 2d in groups": (partial(nn.ConvTranspose2d, 4, 8, 3, groups=4), nn.BatchNorm2d, (5, 4, 5, 6)),
    "transposed 3d in groups": (partial(nn.ConvTranspose3d, 4, 8, 2, groups=2), nn.BatchNorm3d, (3, 4, 3, 4, 3)),
}


class TestEqual:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("affine", [True, False])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("kind", LAYERS)
    def test_outputs(self, kind, bias, affine, dtype):
        torch.manual_seed(0)
        make, norm, shape = LAYERS[kind]
        net = settle(nn.Sequential(make(bias=bias), norm(8, affine=affine), nn.Tanh())).to(dtype)
        folded(net, torch.randn(shape, dtype=dtype))
        assert [type(module) for module in net[1:]] == [nn.Identity, nn.Tanh]
        assert net[0].weight.dtype == net[0].bias.dtype == dtype
        assert not any(module.training for module in net.modules())

    def test_several_one_behind_the_other(self):
        torch.manual_seed(0)
        net = settle(
            nn.Sequential(
                nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
                nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Flatten(), nn.Linear(8 * 9, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4),
            )
        )  # fmt: skip
        folded(net, torch.randn(4, 3, 7, 7), norms=3)
        assert len(list(net.parameters())) == 8
        assert fold_norms(net, torch.randn(4, 3, 7, 7)) == []

    def test_the_one_that_may_be_beside_one_that_may_not(self):
        net = Net(lambda n, x: n.norm(n.a(x)) + after(n.b(x), lambda z: n.second(z) + z))
        net.second = settle(nn.BatchNorm1d(8))
        (fix,) = folded(net, X)
        assert fix.site == "norm into a"
        assert isinstance(net.second, nn.BatchNorm1d)

    def test_a_residual_block(self):
        folded(Net(lambda n, x: x.sum(1, keepdim=True) + n.norm(n.a(x))), X)

    def test_views_between(self):
        folded(Net(lambda n, x: n.norm(n.a(x).view(5, 2, 8).flatten(0, 1))), X)

    def test_models_of_several_inputs(self):
        class Two(Net):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return self.norm(self.a(x - 2 * y))

        folded(Two(lambda n, x: x), (X, X + 1))
        folded(Two(lambda n, x: x), {"y": X, "x": X + 1})

    def test_models_that_draw_random_numbers(self):
        net = Net(lambda n, x: n.norm(n.a(x + torch.rand_like(x))))
        drawn = torch.get_rng_state()
        assert len(fold_norms(net, X)) == 1
        assert torch.equal(torch.get_rng_state(), drawn)

    def test_under_inference_mode(self):
        net = Net(lambda n, x: n.norm(n.a(x)))
        expected = net(X)
        with torch.inference_mode():
            assert len(fold_norms(net, X)) == 1
        assert torch.allclose(net(X), expected, atol=1e-5)

    def test_torch_makes_the_same_of_it(self):
        torch.manual_seed(0)
        net = settle(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        theirs = nn.utils.fusion.fuse_conv_bn_eval(net[0], net[1])
        folded(net, torch.randn(4, 3, 7, 7))
        torch.testing.assert_close(net[0].weight, theirs.weight)
        torch.testing.assert_close(net[0].bias, theirs.bias)


class TestGradients:
    @pytest.mark.parametrize("bias", [True, False])
    def test_frozen_models_fold_and_stay_frozen(self, bias):
        net = settle(nn.Sequential(nn.Linear(6, 8, bias), nn.BatchNorm1d(8), nn.Linear(8, 3))).requires_grad_(False)
        folded(net, X)
        assert [p.requires_grad for p in net.parameters()] == [False] * 4

    def test_a_new_bias_is_trained_where_its_weight_is(self):
        net = settle(nn.Sequential(nn.Linear(6, 8, False), nn.BatchNorm1d(8), nn.Linear(8, 3)))
        net[2].requires_grad_(False)
        folded(net, X)
        assert [p.requires_grad for p in net.parameters()] == [True, True, False, False]

    def test_gradients_are_left_alone(self):
        net = Net(lambda n, x: n.norm(n.a(x)))
        net(X).sum().backward()
        before = net.a.weight.grad.clone()
        folded(net, X)
        assert torch.equal(net.a.weight.grad, before)


class TestSaid:
    def test_one_entry_for_each_norm(self):
        net = settle(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
        factor = (net[1].weight / (net[1].running_var + net[1].eps).sqrt()).abs().max().item()
        (fix,) = folded(net, X)
        assert (fix.name, fix.site, fix.applicability) == ("fold-norm-for-inference", "1 into 0", Applicability.SAFE)
        assert (fix.before, fix.after) == (1.0, pytest.approx(factor, rel=1e-6))
        both = 'model.get_submodule("0"), model.get_submodule("1")'
        assert fix.snippet == f"torch.nn.utils.fusion.fuse_linear_bn_eval({both})  # in place of both"

    def test_it_is_public(self):
        assert unstuck.fold_norms is fold_norms
