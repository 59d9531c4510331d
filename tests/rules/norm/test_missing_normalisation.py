import pytest

from unstuck.rules.norm.missing_normalisation import MAX_SLOPE, MIN_LAYERS, MissingNormalisation
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(depth=9, shrink=3.0, scale=0.14, pre=1.0, norm_at=None, skip=False):
    """`depth` hidden layers of 50 units; on its way back the gradient shrinks `shrink`-fold in each."""
    b = TraceBuilder()
    before, layers = (), []
    for k in range(depth):
        output = normal(pre, 8, 50)
        layer = b.layer(f"{k}", weight=normal(scale, 50, 50), output=output, after=before)
        b.record(layer, Role.OUTPUT_GRADIENT, normal(1e-3 * shrink ** (k - depth), 8, 50))
        b.record(b.trace.parameters_of(layer)[0], Role.GRADIENT, normal(1e-3, 50, 50))
        after = b.site(Kind.NORM, "batch_norm", "bn", after=layer) if norm_at == k else layer
        activation = b.activation("tanh", after=after, pre=output)
        before = [activation, *before] if skip and k % 2 else [activation]
        layers.append(layer)
    b.loss(after=b.layer("head", weight=normal(0.1, 5, 50), after=before))
    return b, layers


class TestSilent:
    @pytest.mark.parametrize("shrink", [1.0, 1.3, 1 / 1.3])
    def test_gradients_that_survive(self, shrink):
        check_silent(MissingNormalisation, network(shrink=shrink)[0].trace)

    def test_weights_that_are_plainly_unscaled_are_to_blame(self):
        check_silent(MissingNormalisation, network(scale=1.0, pre=7.0)[0].trace)


class TestFires:
    @pytest.mark.parametrize(("shrink", "what"), [(3.0, "shrinks"), (1 / 3, "grows")])
    def test_deep_and_plain(self, shrink, what):
        b, layers = network(shrink=shrink)
        message = (
            "9 weight layers in a row, 0 (linear) to 8 (linear), have no normalisation and no skip connection, and the "
            f"gradient {what} 6,561-fold on its way back through them"
        )
        finding = check_fires(MissingNormalisation, b.trace, at=layers[0], message=message)
        assert finding.measured == pytest.approx(3.0**8, rel=1e-3)

    def test_a_change_beyond_all_bounds_is_told_by_its_power_of_ten(self):
        b, layers = network(shrink=2e5)
        assert " shrinks 2.6e42-fold on " in check_fires(MissingNormalisation, b.trace, at=layers[0]).message

    @pytest.mark.parametrize(("shrink", "fires"), [(99 ** (1 / 8), False), (101 ** (1 / 8), True)])
    def test_near_the_limit(self, shrink, fires):
        b, layers = network(shrink=shrink)
        if fires:
            check_fires(MissingNormalisation, b.trace, at=layers[0])
        else:
            check_silent(MissingNormalisation, b.trace)


@pytest.mark.parametrize("side", [0.98, 1.02])
def test_slope_over_many_layers(side):
    b, layers = network(depth=40, shrink=10 ** (side * MAX_SLOPE))
    if side > 1:
        check_fires(MissingNormalisation, b.trace, at=layers[0])
    else:
        check_silent(MissingNormalisation, b.trace)


@pytest.mark.parametrize("depth", [MIN_LAYERS, MIN_LAYERS + 1])
def test_as_few_layers_as_it_takes(depth):  # one fewer: `test_lacking`
    b, layers = network(depth=depth)
    check_fires(MissingNormalisation, b.trace, at=layers[0])


@pytest.mark.parametrize(
    "changes", [{"depth": MIN_LAYERS - 1}, {"depth": MIN_LAYERS - 1, "norm_at": 4}, {"skip": True}]
)
def test_lacking(changes):
    what = "8 hidden weight layers, in a row or with norms between"
    check_lacks(MissingNormalisation, network(**changes)[0].trace, what)


def test_a_deep_network_with_a_norm_is_checked_and_fine():
    check_silent(MissingNormalisation, network(norm_at=4)[0].trace)
