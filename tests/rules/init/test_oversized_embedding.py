import math

import pytest

from unstuck.rules.init.oversized_embedding import MIN_TABLE, OversizedEmbedding
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

WIDTH = 64


def tied(table_std, logits_std=None, *, hidden_after=False):
    """An embedding whose table is also the weight of the output layer, which gets inputs of unit scale."""
    b = TraceBuilder()
    embedding = b.site(Kind.EMBEDDING, "embedding", "tokens")
    table = b.parameter("tokens.weight", embedding, "weight", normal(table_std, 30, WIDTH))
    b.record(table, Role.GRADIENT, normal(1e-3, 30, WIDTH))
    norm = b.site(Kind.NORM, "layer_norm", after=embedding)
    logits = normal(table_std * math.sqrt(WIDTH) if logits_std is None else logits_std, 64, 30)
    head = b.layer("head", fan_in=WIDTH, output=logits, after=norm)
    head.parameters = (table.index,)
    end = b.layer("last", weight=normal(0.1, 5, 30), after=head) if hidden_after else head
    loss = b.loss(after=end)
    b.record(loss, Role.INPUT, logits)
    return b, embedding


def first_layer(table_std, out_std, *, weight_scale=1.0, then=Kind.WEIGHT_LAYER):
    b = TraceBuilder()
    embedding = b.site(Kind.EMBEDDING, "embedding", "stores")
    table = b.parameter("stores.weight", embedding, "weight", normal(table_std, 30, WIDTH))
    b.record(table, Role.GRADIENT, normal(1e-3, 30, WIDTH))
    if then is Kind.WEIGHT_LAYER:
        weight = normal(weight_scale / math.sqrt(WIDTH), 20, WIDTH)
        layer = b.layer("fc", weight=weight, output=normal(out_std, 64, 20), far=embedding)
    else:
        norm = b.site(then, "then", far=embedding)
        layer = b.layer("fc", weight=normal(0.1, 20, WIDTH), output=normal(out_std, 64, 20), after=norm)
    b.loss(after=layer)
    return b, embedding


class TestSilent:
    def test_tied_as_gpt2_draws_it(self):
        check_silent(OversizedEmbedding, tied(0.02)[0].trace)

    def test_tied_but_scaled_before_the_loss(self):
        check_silent(OversizedEmbedding, tied(1.0, logits_std=1.0)[0].trace)

    def test_large_logits_of_a_small_table(self):
        check_silent(OversizedEmbedding, tied(0.05, logits_std=8.0)[0].trace)

    def test_the_same_weights_in_a_hidden_layer(self):
        check_silent(OversizedEmbedding, tied(1.0, hidden_after=True)[0].trace)

    def test_the_default_of_torch_before_a_layer(self):
        check_silent(OversizedEmbedding, first_layer(1.0, 3.5, weight_scale=1.41)[0].trace)

    def test_a_large_table_before_a_norm(self):
        check_silent(OversizedEmbedding, first_layer(5.0, 5.0, then=Kind.NORM)[0].trace)

    def test_a_large_table_whose_layer_makes_up_for_it(self):
        check_silent(OversizedEmbedding, first_layer(5.0, 1.0, weight_scale=0.2)[0].trace)

    def test_a_layer_that_is_too_large_itself(self):
        check_silent(OversizedEmbedding, first_layer(2.0, 9.0, weight_scale=4.5)[0].trace)

    def test_loaded_weights(self):
        b, _ = tied(1.0)
        b.trace.facts.weights_loaded = True
        check_silent(OversizedEmbedding, b.trace)


class TestFires:
    def test_tied_with_unit_entries(self):
        b, embedding = tied(1.0)
        finding = check_fires(
            OversizedEmbedding,
            b.trace,
            at=embedding,
            message="the table of tokens (embedding) starts with rms 1 at width 64, so that the logits of head "
            "(linear), which has the same weights, have a standard deviation of 8; at most 3 is healthy",
        )
        assert (finding.measured, finding.steps) == (pytest.approx(8.0), (0, 0))

    def test_before_a_layer_of_usual_scale(self):
        b, embedding = first_layer(4.0, 5.6, weight_scale=1.41)
        check_fires(
            OversizedEmbedding,
            b.trace,
            at=embedding,
            message="the table of stores (embedding) starts with rms 4 at width 64, so that the outputs of fc (linear) "
            "have a standard deviation of 5.6; at most 3 is healthy",
        )


@pytest.mark.parametrize(("std", "fires"), [(2.95, False), (3.05, True)])
def test_threshold(std, fires):
    for b, embedding in (tied(std / math.sqrt(WIDTH)), first_layer(std, std)):
        if fires:
            check_fires(OversizedEmbedding, b.trace, at=embedding)
        else:
            check_silent(OversizedEmbedding, b.trace)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold_of_a_table_before_a_layer(side):
    b, embedding = first_layer(MIN_TABLE * side, 3.5)
    if side > 1:
        check_fires(OversizedEmbedding, b.trace, at=embedding)
    else:
        check_silent(OversizedEmbedding, b.trace)


def test_needs_an_embedding():
    b = TraceBuilder()
    layer = b.layer(weight=normal(0.1, 5, 5))
    b.record(b.trace.sites[layer.parameters[0]], Role.GRADIENT, normal(0.1, 5, 5))
    check_lacks(OversizedEmbedding, b.trace, "an embedding")
