import pytest

from unstuck.findings import Severity
from unstuck.rules.init.unscaled_residual import MAX_GROWTH, UnscaledResidual
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

LACKS = "4 additions to one residual stream"
W = normal(0.1, 5, 5)


def add(b, first, second, std):
    """An addition of what two lists of sites made; returns the sites that made the sum."""
    site = b.site(Kind.ADDITION, "add")
    b.trace.add_scalar(0, site.index, "std", std)
    for name, sources in (("first_from", first), ("second_from", second)):
        b.trace.add_vector(0, site.index, name, [source.index for source in sources])
    return site, [*first, *second]


def network(*stds, pre_norm=False, final_norm=False, flipped=False, shared=False, post=None):
    """Residual blocks after whose additions the stream has these standard deviations."""
    b, additions = TraceBuilder(), []
    stream = [b.layer("stem", weight=W)]
    downs = []
    for number, std in enumerate(stds):
        inputs = [b.site(Kind.NORM, "layer_norm", far=stream)] if pre_norm else stream
        up = b.layer(f"up{number}", weight=W, far=inputs)
        down = b.layer(f"down{number}", weight=W, after=b.activation("relu", after=up))
        downs.append(down)
        if shared:
            down.parameters = downs[0].parameters
        pair = ([down], stream) if flipped else (stream, [down])
        site, stream = add(b, *pair, std)
        additions.append(site)
        if post is not None:
            stream = [b.site(post, "post", far=stream)]
    last = [b.site(Kind.NORM, "layer_norm", far=stream)] if final_norm else stream
    b.loss(after=b.layer("head", weight=W, far=last))
    return b, additions


class TestSilent:
    def test_scaled_branches(self):
        check_silent(UnscaledResidual, network(*[1.04**k for k in range(12)])[0].trace)

    def test_a_small_embedding_that_the_first_block_drowns(self):
        check_silent(UnscaledResidual, network(1.0, 1.4, 1.7, 2.0, 2.2, 2.4, pre_norm=True)[0].trace)

    def test_loaded_weights(self):
        b, _ = network(1, 2, 4, 8, 16)
        b.trace.facts.weights_loaded = True
        check_silent(UnscaledResidual, b.trace)

    @pytest.mark.parametrize("kind", [Kind.NORM, Kind.ACTIVATION])
    def test_streams_that_are_interrupted(self, kind):
        check_lacks(UnscaledResidual, network(1, 2, 4, 8, 16, post=kind)[0].trace, LACKS)

    def test_a_cell_over_time(self):
        check_lacks(UnscaledResidual, network(*[2.0**k for k in range(9)], shared=True)[0].trace, LACKS)

    def test_sums_of_parallel_layers(self):
        b = TraceBuilder()
        source = b.layer("source", weight=W)
        total = [b.layer("a", weight=W, after=source)]
        for number in range(6):
            _, total = add(b, total, [b.layer(f"b{number}", weight=W, after=source)], 2.0**number)
        check_lacks(UnscaledResidual, b.trace, LACKS)


class TestFires:
    @pytest.mark.parametrize("flipped", [False, True])
    def test_a_stream_that_doubles_with_each_block(self, flipped):
        b, additions = network(1, 2, 4, 8, 16, flipped=flipped)
        finding = check_fires(
            UnscaledResidual,
            b.trace,
            at=additions[0],
            severity=Severity.WARNING,
            message="the residual stream's std grows from 1 after the first of 5 blocks to 16 after the last, "
            "16.0-fold; 4-fold is the limit",
        )
        assert [(e.name, e.value) for e in finding.evidence] == [
            ("blocks", 5.0),
            ("std after the first", 1.0),
            ("std after the last", 16.0),
        ]

    def test_only_information_with_norms_everywhere(self):
        b, additions = network(1, 2, 4, 8, 16, pre_norm=True, final_norm=True)
        check_fires(UnscaledResidual, b.trace, at=additions[0], severity=Severity.INFO)

    @pytest.mark.parametrize("norms", [{"pre_norm": True}, {"final_norm": True}])
    def test_one_of_the_norms_is_missing(self, norms):
        b, additions = network(1, 2, 4, 8, 16, **norms)
        check_fires(UnscaledResidual, b.trace, at=additions[0], severity=Severity.WARNING)


def test_threshold():
    check_silent(UnscaledResidual, network(1, 2, 3, 0.99 * MAX_GROWTH)[0].trace)
    b, additions = network(1, 2, 3, 1.01 * MAX_GROWTH)
    check_fires(UnscaledResidual, b.trace, at=additions[0])


def test_needs_a_stream():
    check_lacks(UnscaledResidual, network(1, 3, 9)[0].trace, LACKS)
