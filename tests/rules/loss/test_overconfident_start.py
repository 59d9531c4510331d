import math

import pytest

from unstuck.findings import Severity
from unstuck.rules.loss.overconfident_start import (
    ERROR_FACTOR,
    MIN_EXCESS,
    MIN_EXCESS_SHARE,
    OverconfidentStart,
    is_overconfident,
)
from unstuck.trace import Kind, LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

UNIFORM = math.log(27)  # 3.2958 nats


def classifier(value, baseline=UNIFORM, op="cross_entropy", steps=range(10)):
    b = TraceBuilder(steps)
    return b, b.loss(op, value=value, baseline=baseline)


class TestSilent:
    def test_near_uniform_predictions(self):
        check_silent(OverconfidentStart, classifier(3.32)[0].trace)

    def test_better_than_the_baseline(self):
        check_silent(OverconfidentStart, classifier(0.1)[0].trace)

    def test_loaded_weights_may_be_confident(self):
        b, _ = classifier(27.88)
        b.trace.facts.weights_loaded = True
        check_silent(OverconfidentStart, b.trace)

    def test_a_high_loss_later_is_no_start(self):
        b, site = classifier(3.3)
        b.trace.loss_calls.append(LossCall(7, site.index, 30.0, UNIFORM))
        check_silent(OverconfidentStart, b.trace)

    def test_zero_baseline_of_a_single_class(self):
        check_silent(OverconfidentStart, classifier(5.0, baseline=0.0)[0].trace)

    def test_nan_is_another_fault(self):
        check_silent(OverconfidentStart, classifier(math.nan)[0].trace)

    def test_one_odd_micro_batch_of_many(self):
        b, site = classifier(3.3)
        b.trace.loss_calls += [LossCall(0, site.index, 3.3, UNIFORM) for _ in range(6)]
        b.trace.loss_calls.append(LossCall(0, site.index, 5.0, UNIFORM))
        check_silent(OverconfidentStart, b.trace)


class TestFires:
    def test_lecture_start(self):
        b, site = classifier(27.8817)
        finding = check_fires(
            OverconfidentStart,
            b.trace,
            at=site,
            message="loss starts at 27.88 nats, 24.59 above the 3.30 of uninformative predictions",
            severity=Severity.ERROR,
        )
        assert (finding.measured, finding.unit, finding.steps) == (27.8817, "nat", (0, 0))
        assert finding.threshold == pytest.approx(UNIFORM * 1.2)
        assert [e.name for e in finding.evidence] == ["baseline", "excess"]
        assert finding.fixes == ("shrink-output-layer",)

    @pytest.mark.parametrize("op", ["nll_loss", "binary_cross_entropy_with_logits", "objective"])
    def test_other_likelihoods(self, op):
        b, site = classifier(2.0, math.log(2), op)
        check_fires(OverconfidentStart, b.trace, at=site)

    def test_std_of_the_logits_is_evidence_also_through_a_softmax(self):
        b = TraceBuilder()
        layer = b.layer("head", output=normal(9.0, 32, 27))
        softmax = b.site(Kind.SOFTMAX, "log_softmax", after=layer)
        site = b.loss("nll_loss", value=20.0, baseline=UNIFORM, after=softmax)
        finding = check_fires(OverconfidentStart, b.trace, at=site)
        assert finding.evidence[-1].name == "std of the logits"
        assert finding.evidence[-1].value == pytest.approx(b.trace.summary(layer, Role.OUTPUT, 0).std)


class TestTiedOutput:
    """A network whose output layer is its embedding starts by repeating its last input, and trains well."""

    def tied(self, value):
        b = TraceBuilder()
        table = b.layer("tokens", weight=normal(1.0, 27, 8), op="embedding", kind=Kind.EMBEDDING)
        head = b.site(Kind.WEIGHT_LAYER, "linear", "head", far=table, parameters=table.parameters)
        return b, b.loss(value=value, baseline=2.5, after=head)

    def test_is_information_as_long_as_it_is_no_error(self):
        b, loss = self.tied(2.5 + 1.4)
        check_fires(OverconfidentStart, b.trace, at=loss, severity=Severity.INFO)

    def test_a_table_that_is_far_too_large_is_an_error_all_the_same(self):
        b, loss = self.tied(2.5 + 1.6)
        check_fires(OverconfidentStart, b.trace, at=loss, severity=Severity.ERROR)

    def test_a_table_of_its_own_is_a_warning(self):
        b = TraceBuilder()
        table = b.layer("tokens", weight=normal(1.0, 27, 8), op="embedding", kind=Kind.EMBEDDING)
        head = b.layer("head", weight=normal(1.0, 27, 8), far=table)
        loss = b.loss(value=2.5 + 1.4, baseline=2.5, after=head)
        check_fires(OverconfidentStart, b.trace, at=loss, severity=Severity.WARNING)


class TestThreshold:
    @pytest.mark.parametrize(
        ("baseline", "allowed"), [(math.log(2), MIN_EXCESS), (10.0, 10.0 * MIN_EXCESS_SHARE), (105.0, 21.0)]
    )
    def test_either_side(self, baseline, allowed):
        check_silent(OverconfidentStart, classifier(baseline + 0.99 * allowed, baseline)[0].trace)
        b, site = classifier(baseline + 1.01 * allowed, baseline)
        check_fires(OverconfidentStart, b.trace, at=site, severity=Severity.WARNING)

    def test_error_above_three_times_the_allowed_excess(self):
        allowed = MIN_EXCESS_SHARE * UNIFORM
        b, site = classifier(UNIFORM + 0.99 * ERROR_FACTOR * allowed)
        check_fires(OverconfidentStart, b.trace, at=site, severity=Severity.WARNING)
        b, site = classifier(UNIFORM + 1.01 * ERROR_FACTOR * allowed)
        check_fires(OverconfidentStart, b.trace, at=site, severity=Severity.ERROR)

    @pytest.mark.parametrize(
        ("value", "baseline"), [(math.nan, 1.0), (math.inf, 1.0), (9.0, math.nan), (9.0, 0.0), (9.0, -3.0), (1.0, 1.0)]
    )
    def test_is_overconfident_takes_any_number(self, value, baseline):
        assert not is_overconfident(value, baseline)


class TestLacking:
    def test_no_first_step(self):
        check_lacks(OverconfidentStart, classifier(30.0, steps=range(5, 9))[0].trace, "the first step of training")

    def test_no_baseline(self):
        what = "a call of a loss in torch.nn.functional with a known baseline"
        check_lacks(OverconfidentStart, classifier(30.0, baseline=None)[0].trace, what)

    def test_regression_has_no_nats(self):
        what = "a classification loss with a known baseline at the first step"
        check_lacks(OverconfidentStart, classifier(26.0, 1.0, "mse_loss")[0].trace, what)
