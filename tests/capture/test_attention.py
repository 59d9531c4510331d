"""What is written about attention, against the whole of its weights computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.trace import Kind

from .watching import leaf, traced

GENERATOR = torch.Generator().manual_seed(11)
X = torch.randn(3, 12, 8, generator=GENERATOR)
W = leaf(8, 24, scale=0.8)
CAUSAL = torch.ones(12, 12).tril().bool()
NAMES = ("entropy", "entropy_share", "max_logit", "keys", "looks_ahead", "weight_ahead", "places")


def heads():
    return (part.view(3, 12, 2, 4).transpose(1, 2) for part in (X @ W).chunk(3, -1))


def written(step):
    """Return the numbers of the one attention of a step."""
    trace = traced(step)
    sites = [s for s in trace.of_kind(Kind.SOFTMAX, Kind.ATTENTION) if trace.scalars(s, "keys")]
    assert len(sites) == 1
    return {name: trace.scalar(sites[0], name) for name in NAMES}


def by_hand(mask=None, scale=0.5):
    """Compute the same numbers from all scores, row by row."""
    q, k, _ = heads()
    scores = (q @ k.transpose(-1, -2) * scale).detach()
    entropies, distances, ahead = [], [], []
    for matrix in scores.flatten(0, 1):
        shares, apart = [], []
        for i, row in enumerate(matrix):
            seen = torch.ones(12, dtype=torch.bool) if mask is None else mask[i]
            weights = row[seen].softmax(0)
            if i < 11:
                full = torch.zeros(12).masked_scatter(seen, weights)
                ahead.append(float(full[i + 1 :].sum()))
            if int(seen.sum()) >= 4:
                shares.append(float(torch.special.entr(weights).sum()) / math.log(len(weights)))
                apart.append(float((row[seen] - row[seen].mean()).abs().max()))
        entropies.append(sum(shares) / len(shares))
        distances.append(max(apart))
    return {
        "entropy": sum(entropies) / len(entropies),
        "entropy_share": sum(e < 0.1 for e in entropies) / len(entropies),
        "max_logit": sorted(distances)[(len(distances) - 1) // 2],
        "keys": 12.0,
        "looks_ahead": sum(a > 1e-3 for a in ahead) / len(ahead),
        "weight_ahead": sum(ahead) / len(ahead),
        "places": 12.0,
    }


def hand_written(mask=None, scale=0.5, fill=-math.inf, dropout=0.0):
    def step():
        q, k, v = heads()
        scores = q @ k.transpose(-1, -2) * scale
        scores = scores if mask is None else scores.masked_fill(~mask, fill)
        (F.dropout(scores.softmax(-1), dropout) @ v).square().sum().backward()

    return step


def fused(scale=None, **kwargs):
    def step():
        q, k, v = heads()
        F.scaled_dot_product_attention(q, k, v, scale=scale, **kwargs).square().sum().backward()

    return step


class TestNothing:
    def test_a_softmax_that_is_not_multiplied_with_values(self):
        trace = traced(lambda: ((X @ W).softmax(-1) * X.repeat(1, 1, 3)).sum().backward())
        assert not trace.scalars(trace.of_kind(Kind.SOFTMAX)[0], "keys")

    def test_a_softmax_over_classes(self):
        trace = traced(lambda: ((X @ W).mean(1).softmax(-1) @ torch.randn(24, 2)).sum().backward())
        assert not trace.scalars(trace.of_kind(Kind.SOFTMAX)[0], "keys")


@pytest.mark.parametrize("scale", [0.5, 8.0])
@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["open", "causal"])
class TestNumbers:
    def test_hand_written(self, mask, scale):
        assert written(hand_written(mask, scale)) == pytest.approx(by_hand(mask, scale), rel=1e-4, abs=1e-6)

    def test_fused(self, mask, scale):
        assert written(fused(scale, is_causal=mask is not None)) == pytest.approx(
            by_hand(mask, scale), rel=1e-4, abs=1e-6
        )


class TestMasks:
    def test_finite_stand_ins(self):
        assert written(hand_written(CAUSAL, fill=-1e4)) == pytest.approx(by_hand(CAUSAL), rel=1e-4, abs=1e-6)

    def test_bool_mask(self):
        assert written(fused(attn_mask=CAUSAL)) == pytest.approx(by_hand(CAUSAL), rel=1e-4, abs=1e-6)

    def test_additive_mask(self):
        mask = torch.zeros(12, 12).masked_fill(~CAUSAL, -math.inf)
        assert written(fused(attn_mask=mask)) == pytest.approx(by_hand(CAUSAL), rel=1e-4, abs=1e-6)

    def test_dropout_on_weights(self):
        numbers = written(hand_written(CAUSAL, dropout=0.5))
        assert (numbers["looks_ahead"], numbers["weight_ahead"]) == (0.0, 0.0)

    def test_a_mask_after_the_softmax(self):
        def step():
            q, k, v = heads()
            (((q @ k.transpose(-1, -2)).softmax(-1) * CAUSAL) @ v).sum().backward()

        assert written(step)["looks_ahead"] == 0.0

    def test_weights_that_are_turned_around(self):
        def step():
            q, k, v = heads()
            weights = (q @ k.transpose(-1, -2)).masked_fill(~CAUSAL, -math.inf).softmax(-1)
            torch.matmul(v.transpose(-1, -2), weights.transpose(-1, -2)).sum().backward()

        assert written(step)["looks_ahead"] == 0.0


def test_einsum():
    def step():
        q, k, v = heads()
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).mul(0.5).softmax(-1)
        torch.einsum("bhqk,bhkd->bhqd", weights, v).sum().backward()

    assert written(step) == pytest.approx(by_hand(), rel=1e-4)


def test_heads_and_batch_made_one_dimension():
    def step():
        q, k, v = heads()
        weights = (q @ k.transpose(-1, -2) * 0.5).softmax(-1).view(6, 12, 12)
        torch.bmm(weights, v.reshape(6, 12, 4)).sum().backward()

    assert written(step) == pytest.approx(by_hand(), rel=1e-4)


def test_grouped_heads():
    def step():
        q, k, v = heads()
        F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True).sum().backward()

    def repeated():
        q, k, v = heads()
        k, v = (x[:, :1].expand(3, 2, 12, 4) for x in (k, v))
        ((q @ k.transpose(-1, -2) / 2).softmax(-1) @ v).sum().backward()

    assert written(step) == pytest.approx(written(repeated), rel=1e-4)


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(need_weights):
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    mask = ~CAUSAL

    def step():
        attention(X, X, X, attn_mask=mask, need_weights=need_weights)[0].sum().backward()

    numbers = written(step)
    assert (numbers["keys"], numbers["places"], numbers["looks_ahead"]) == (12.0, 12.0, 0.0)


def test_where_the_values_come_from():
    to_value = nn.Linear(8, 8)

    def step():
        q, k = (X @ W)[..., :16].chunk(2, -1)
        ((q @ k.transpose(-1, -2)).softmax(-1) @ to_value(X)).sum().backward()

    trace = traced(step)
    (softmax,) = trace.of_kind(Kind.SOFTMAX)
    layer = next(site for site in trace.of_kind(Kind.WEIGHT_LAYER) if site.op == "linear")
    assert [values.tolist() for _, values in trace.vectors(softmax, "values_from")] == [[layer.index]]


class TestMaskedRows:
    mask = CAUSAL.clone()
    mask[3:5] = False

    def rows(self, step):
        trace = traced(step)
        (site,) = trace.of_kind(Kind.SOFTMAX, Kind.ATTENTION)
        return trace.scalar(site, "masked_rows")

    def test_finite_rows_are_not_counted(self):
        assert self.rows(hand_written(CAUSAL)) is None
        assert self.rows(hand_written(self.mask, fill=-1e9)) is None

    def test_fused_attention_that_makes_zeros_of_them(self):
        assert self.rows(fused(attn_mask=self.mask)) is None

    def test_rows_of_minus_infinity(self):
        assert self.rows(hand_written(self.mask)) == 3 * 2 * 2

    def test_two_dimensions(self):
        scores = torch.zeros(4, 5).masked_fill(torch.arange(4)[:, None] == 2, -math.inf)
        bias = leaf(5)
        assert self.rows(lambda: ((X[0, 0, :5] @ leaf_matrix + bias + scores).softmax(1)).sum().backward()) == 1


leaf_matrix = leaf(5, 5)
