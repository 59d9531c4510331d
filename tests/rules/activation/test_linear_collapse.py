import pytest

from unstuck.rules.activation.linear_collapse import LinearCollapse
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, findings, normal


def layer(b, units, inputs, *kernel, path="fc", **edges):
    op = f"conv{len(kernel)}d" if kernel else "linear"
    fan_in = inputs
    for size in kernel:
        fan_in *= size
    return b.layer(path, weight=normal(0.1, units, inputs, *kernel), op=op, fan_in=fan_in, **edges)


def pair(before, between, after, *, through=None, direct=True):
    """Two layers and a loss, with widths as given; `through` is a kind of site in between."""
    b = TraceBuilder()
    first = layer(b, between, before, path="first")
    middle = first if through is None else b.site(through, "middle", after=first)
    second = layer(b, after, between, path="second", **{"after" if direct else "far": middle})
    b.loss(after=second)
    return b, first, second


class TestSilent:
    @pytest.mark.parametrize("kind", [Kind.ACTIVATION, Kind.NORM, Kind.ATTENTION, Kind.CUSTOM])
    def test_something_in_between(self, kind):
        check_silent(LinearCollapse, pair(64, 64, 64, through=kind)[0].trace)

    def test_an_unknown_operation_in_between(self):
        check_silent(LinearCollapse, pair(64, 64, 64, direct=False)[0].trace)

    @pytest.mark.parametrize("widths", [(64, 8, 64), (64, 31, 32), (30_000, 128, 512)])
    def test_low_rank(self, widths):
        check_silent(LinearCollapse, pair(*widths)[0].trace)

    def test_a_stream_that_others_take_too(self):
        b, first, second = pair(8, 32, 64)
        layer(b, 32, 64, path="down", after=b.activation("relu", after=second))
        layer(b, 1, 32, path="head", far=[first, b.trace.sites[-1]])
        check_silent(LinearCollapse, b.trace)

    def test_a_code_that_is_penalised(self):
        b, first, _ = pair(8, 32, 64)
        b.loss("mse_loss", after=first)
        check_silent(LinearCollapse, b.trace)

    def test_frozen_layers(self):
        b, first, _ = pair(64, 64, 64)
        b.trace.sites[first.parameters[0]].requires_grad = False
        check_silent(LinearCollapse, b.trace)

    def test_one_matrix_twice(self):
        b, first, second = pair(64, 64, 64)
        second.parameters = first.parameters
        check_silent(LinearCollapse, b.trace)

    def test_projections_into_attention(self):
        b, _, second = pair(64, 64, 64)
        b.site(Kind.ATTENTION, "scaled_dot_product_attention", after=second)
        check_silent(LinearCollapse, b.trace)

    def test_scores_of_written_out_attention(self):
        b, _, second = pair(64, 64, 64)
        b.site(Kind.SOFTMAX, "softmax", far=second)
        check_silent(LinearCollapse, b.trace)

    def test_widths_that_do_not_meet(self):
        b = TraceBuilder()
        first = layer(b, 16, 16, path="each_token")
        b.loss(after=layer(b, 3, 160, path="all_tokens", after=first))
        check_silent(LinearCollapse, b.trace)

    @pytest.mark.parametrize(
        ("first", "second"), [((32, 1, 3, 3), (64, 32, 1, 1)), ((32, 32, 3, 1), (32, 32, 1, 3))], ids=["depth", "space"]
    )
    def test_separable_convolutions(self, first, second):
        b = TraceBuilder()
        one = layer(b, *first, path="one")
        b.loss(after=layer(b, *second, path="two", after=one))
        check_silent(LinearCollapse, b.trace)


class TestFires:
    def test_two_linear_layers(self):
        b, first, _ = pair(48, 192, 48)
        finding = check_fires(
            LinearCollapse,
            b.trace,
            at=first,
            message="first (linear) feeds second (linear) with nothing nonlinear in between: of widths 48 → 192 → 48, "
            "one layer 48 → 48 can do the same",
        )
        assert [e.value for e in finding.evidence] == [48, 192, 48]
        assert [place.site for place in finding.related] == ["second (linear)"]

    def test_through_dropout(self):
        b, first, second = pair(48, 48, 48)
        dropout = b.site(Kind.DROPOUT, "dropout", after=first)
        b.edge(dropout, second)
        check_fires(LinearCollapse, b.trace, at=first)

    def test_convolutions(self):
        b = TraceBuilder()
        one = layer(b, 32, 16, 3, 3, path="one")
        b.loss(after=layer(b, 32, 32, 3, 3, path="two", after=one))
        check_fires(LinearCollapse, b.trace, at=one)

    def test_each_layer_of_a_chain(self):
        b, first, second = pair(3, 48, 48)
        third = layer(b, 48, 48, path="third", after=second)
        b.trace.edges = {edge for edge in b.trace.edges if b.trace.sites[edge.consumer].kind is not Kind.LOSS}
        b.loss(after=layer(b, 3, 48, path="head", after=third))
        assert [f.site_index for f in findings(LinearCollapse, b.trace)] == [first.index, second.index, third.index]

    def test_two_heads_on_one_layer(self):
        b, first, _ = pair(64, 32, 1)
        b.loss(after=layer(b, 5, 32, path="other", after=first))
        check_fires(LinearCollapse, b.trace, at=first)


@pytest.mark.parametrize(("between", "fires"), [(31, False), (32, True)])
def test_threshold(between, fires):
    b, first, _ = pair(64, between, 32)
    if fires:
        check_fires(LinearCollapse, b.trace, at=first)
    else:
        check_silent(LinearCollapse, b.trace)


def test_needs_weight_layers():
    lacks = "a weight layer (a linear map, matmul or convolution with a parameter)"
    check_lacks(LinearCollapse, TraceBuilder().trace, lacks)
