import pytest

from unstuck.rules.attention.attention_collapse import AttentionCollapse
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def attention(collapsed, kind=Kind.SOFTMAX, steps=range(5), entropy=0.05):
    """An attention in whose heads, at each step, that share has collapsed."""
    b = TraceBuilder()
    site = b.site(kind, "softmax" if kind is Kind.SOFTMAX else "scaled_dot_product_attention", "attention")
    for name, value in (("entropy_share", collapsed), ("entropy", entropy), ("max_logit", 31.0), ("keys", 64.0)):
        b.scalar(site, name, value, steps)
    return b, site


class TestSilent:
    def test_spread_out_weights(self):
        check_silent(AttentionCollapse, attention(0.0, entropy=0.8)[0].trace)

    def test_half_of_the_heads(self):
        check_silent(AttentionCollapse, attention(0.5)[0].trace)

    def test_one_odd_step(self):
        b, site = attention(0.0)
        b.scalar(site, "entropy_share", 1.0, [2])
        check_silent(AttentionCollapse, b.trace)

    def test_a_single_step_of_a_longer_run(self):
        check_silent(AttentionCollapse, attention(1.0, steps=[0])[0].trace)

    def test_large_scores_that_pick_no_key(self):
        b, site = attention(0.0, entropy=0.4)
        b.scalar(site, "max_logit", 500.0, range(5))
        check_silent(AttentionCollapse, b.trace)


class TestFires:
    def test_collapsed_heads(self):
        b, site = attention(0.87)
        finding = check_fires(
            AttentionCollapse,
            b.trace,
            at=site,
            message="in 87 % of its heads attention (softmax) puts nearly all weight on one of 64 keys at the start: "
            "the mean entropy is 5.0 % of log(64), and scores are up to 31 from their row's mean",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (0.87, 0.5, (0, 4))

    def test_just_over_half(self):
        b, site = attention(0.51, Kind.ATTENTION)
        check_fires(AttentionCollapse, b.trace, at=site)

    def test_after_the_only_step(self):
        b = TraceBuilder(steps=[0])
        site = b.site(Kind.ATTENTION, "scaled_dot_product_attention")
        for name in ("entropy_share", "entropy", "max_logit", "keys"):
            b.scalar(site, name, 1.0)
        check_fires(AttentionCollapse, b.trace, at=site)


class TestLacks:
    def test_attention(self):
        check_lacks(AttentionCollapse, TraceBuilder().trace, "attention over three dimensions or more")

    def test_the_start(self):
        check_lacks(AttentionCollapse, TraceBuilder(steps=[7, 8]).trace, "the first step of training")

    def test_attention_that_is_not_loaded(self):
        b, _ = attention(1.0)
        b.trace.facts.weights_loaded = True
        check_lacks(AttentionCollapse, b.trace, "a network that starts from its initialisation")


@pytest.mark.parametrize("limit", [0.3, 0.9])
def test_the_limit_can_be_set(limit):
    trace = attention(0.6)[0].trace
    assert bool(list(AttentionCollapse({"max_collapsed": limit}).detect(trace))) is (limit < 0.6)
