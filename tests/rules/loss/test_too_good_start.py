import math

import pytest

from unstuck.rules.loss.too_good_start import (
    MAX_SHARE,
    MIN_AMONG_DATA,
    MIN_DISTINCT,
    MIN_REPEATED,
    TooGoodStart,
)
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

UNIFORM = math.log(10)


def classifier(value, *, constant=UNIFORM, head=True, op="cross_entropy", steps=range(10), labels=(5.0, 3.0)):
    """A loss that starts at `value`, fed by a layer (with `head`) or by something computed."""
    b = TraceBuilder(steps)
    layer = b.layer("head", weight=normal(0.1, 10, 20))
    site = b.loss(op, value=value, baseline=UNIFORM, **{"after" if head else "far": layer})
    b.scalar(site, "constant_baseline", constant)
    b.trace.add_vector(0, site.index, "label_counts", labels)
    return b, site


def regression(value=0.1, among=1.0, distinct=0.9, baseline=1.0):
    b = TraceBuilder()
    site = b.loss("mse_loss", value=value, baseline=baseline, far=b.layer("fc", weight=normal(0.1, 10, 20)))
    b.scalar(site, "constant_baseline", baseline)
    b.scalar(site, "target_among_data", among)
    b.scalar(site, "target_distinct", distinct)
    return b, site


class TestSilent:
    def test_near_the_baseline(self):
        check_silent(TooGoodStart, classifier(2.2)[0].trace)

    def test_loaded_weights(self):
        b, _ = classifier(0.1)
        b.trace.facts.weights_loaded = True
        check_silent(TooGoodStart, b.trace)

    def test_a_bias_set_to_the_frequencies_of_rare_classes(self):
        check_silent(TooGoodStart, classifier(0.2, constant=0.19)[0].trace)

    def test_a_low_loss_later(self):
        b, site = classifier(2.3)
        b.trace.loss_calls.append(LossCall(7, site.index, 0.01, UNIFORM))
        check_silent(TooGoodStart, b.trace)

    def test_two_views_of_one_example_among_all_others(self):
        check_silent(TooGoodStart, classifier(0.5, labels=(1.0, 1.0, 1.0))[0].trace)

    def test_nearest_neighbours_of_examples_drawn_apart(self):
        check_silent(TooGoodStart, classifier(0.5, head=False)[0].trace)

    def test_tokens_that_another_rule_judges(self):
        b, site = classifier(0.1)
        b.scalar(site, "identity_share", 1.0)
        check_silent(TooGoodStart, b.trace)

    def test_scores_that_the_program_normalises_itself(self):
        b, site = classifier(0.1, op="nll_loss")
        b.edge(b.trace.of_kind(Kind.WEIGHT_LAYER)[0], site, direct=False)
        check_silent(TooGoodStart, b.trace)

    def test_a_denoiser_that_adds_to_its_input(self):
        check_silent(TooGoodStart, regression(among=0.0)[0].trace)

    def test_a_forecast_from_the_last_value(self):
        check_silent(TooGoodStart, regression(among=0.95)[0].trace)

    def test_pixels_of_eight_bits(self):
        check_silent(TooGoodStart, regression(distinct=0.05)[0].trace)

    def test_a_constant_target(self):
        b, site = classifier(0.0)
        b.scalar(site, "constant_baseline", 0.0)
        check_lacks(TooGoodStart, b.trace, "a loss with a known baseline at the first step")


class TestFires:
    def test_a_classifier(self):
        b, site = classifier(0.46)
        finding = check_fires(
            TooGoodStart,
            b.trace,
            at=site,
            message="loss starts at 0.46, where 2.3 is the best without looking at the input",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (0.46, MAX_SHARE * UNIFORM, (0, 0))

    def test_a_classifier_through_a_log_softmax(self):
        b = TraceBuilder()
        softmax = b.site(Kind.SOFTMAX, "log_softmax", after=b.layer("head", weight=normal(0.1, 10, 20)))
        site = b.loss("nll_loss", value=0.1, baseline=UNIFORM, after=softmax)
        b.scalar(site, "constant_baseline", UNIFORM)
        check_fires(TooGoodStart, b.trace, at=site)

    def test_neighbours_that_include_the_question(self):
        b, site = classifier(0.46, head=False)
        b.scalar(site, "rows_repeated", 1.0)
        message = (
            "loss starts at 0.46, where 2.3 is the best without looking at the input; "
            "100% of the rows of one input are rows of another one too"
        )
        check_fires(TooGoodStart, b.trace, at=site, message=message)

    def test_a_regression_that_is_shown_its_targets(self):
        b, site = regression()
        message = (
            "loss starts at 0.1, where 1 is the best without looking at the input; "
            "100% of the targets are among the network's inputs"
        )
        check_fires(TooGoodStart, b.trace, at=site, message=message)


class TestThresholds:
    def test_share_of_the_baseline(self):
        check_silent(TooGoodStart, classifier(1.01 * MAX_SHARE * UNIFORM)[0].trace)
        b, site = classifier(0.99 * MAX_SHARE * UNIFORM)
        check_fires(TooGoodStart, b.trace, at=site)

    @pytest.mark.parametrize(
        ("name", "limit"), [("among", MIN_AMONG_DATA), ("distinct", MIN_DISTINCT)], ids=["among", "distinct"]
    )
    def test_targets_among_the_data(self, name, limit):
        check_silent(TooGoodStart, regression(**{name: limit - 0.005})[0].trace)
        b, site = regression(**{name: limit + 0.005})
        check_fires(TooGoodStart, b.trace, at=site)

    def test_rows_repeated(self):
        for factor in (0.9, 1.1):
            b, site = classifier(0.46, head=False)
            b.scalar(site, "rows_repeated", factor * MIN_REPEATED)
            if factor < 1:
                check_silent(TooGoodStart, b.trace)
            else:
                check_fires(TooGoodStart, b.trace, at=site)


class TestLacking:
    def test_no_first_step(self):
        check_lacks(TooGoodStart, classifier(0.1, steps=range(4, 9))[0].trace, "the first step of training")

    def test_a_loss_without_averages(self):
        b = TraceBuilder()
        b.loss("multi_margin_loss", value=0.1, baseline=1.0)
        check_lacks(TooGoodStart, b.trace, "a loss with a known baseline at the first step")
