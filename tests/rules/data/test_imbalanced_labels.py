import numpy as np
import pytest

from unstuck.rules.data.imbalanced_labels import CONSTANT, MAJORITY, MAX_RATIO, MIN_STEP, ImbalancedLabels

from ..helpers import check_fires, check_lacks, check_silent
from .given import classifier, label

STEPS = range(0, 300, 10)
MISSING = "1,000 labels of a classification and 4 sampled batches from step 100 on"


def batch(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def labelled(counts, predicted=None, steps=STEPS, **options):
    b, loss, _ = classifier(steps=steps, **options)
    label(b, loss, [batch(*counts)] * len(b.steps), None if predicted is None else batch(*predicted))
    return b, loss


class TestSilent:
    def test_balanced(self):
        check_silent(ImbalancedLabels, labelled((50, 50), (100, 0))[0].trace)

    def test_below_the_ratio(self):
        check_silent(ImbalancedLabels, labelled((int(MAX_RATIO) * 2, 2), (102, 0))[0].trace)

    def test_rare_classes_that_are_predicted_at_times(self):
        check_silent(ImbalancedLabels, labelled((1000, 2), (1000, 2))[0].trace)

    def test_a_vocabulary(self):
        check_silent(ImbalancedLabels, labelled((100, 99, 1), (200, 0, 0))[0].trace)

    def test_the_constant_prediction_is_not_the_largest_class(self):
        check_silent(ImbalancedLabels, labelled((1000, 2), (0, 1002))[0].trace)

    def test_predictions_that_were_constant_in_the_first_half_only(self):
        b, loss = labelled((1000, 2), (1000, 2))
        for step in STEPS[:14]:
            b.trace.add_vector(step, loss.index, "predicted_counts", [1002, 0, 0])
        check_silent(ImbalancedLabels, b.trace)

    def test_a_layer_that_is_not_trained(self):
        check_silent(ImbalancedLabels, labelled((1000, 2), (1002, 0), trained=False)[0].trace)

    def test_classes_that_never_occur(self):
        check_silent(ImbalancedLabels, labelled((100,), (100,))[0].trace)


class TestFires:
    def test_above_the_ratio(self):
        b, loss = labelled((int(MAX_RATIO) * 2 + 1, 2), (103, 0))
        assert check_fires(ImbalancedLabels, b.trace, at=loss).measured == MAX_RATIO + 0.5

    def test_stolen_cards(self):
        b, loss = labelled((198, 2), (200, 0))
        finding = check_fires(
            ImbalancedLabels,
            b.trace,
            at=loss,
            message="class 0 has 99.0 % of the labels, 99 times as many as the rarest class, and 100.00 % of the "
            "predictions in the second half of the run",
        )
        assert [e.value for e in finding.evidence] == pytest.approx([99.0, 1.0, 100.0])

    def test_several_rare_classes(self):
        b, loss = labelled((2, 900, 3), (0, 905, 0))
        check_fires(ImbalancedLabels, b.trace, at=loss)


class TestThresholds:
    @pytest.mark.parametrize("side", [-1, 1])
    def test_share_of_the_largest_class(self, side):
        largest = round(100 * MAJORITY) + side
        b, loss = labelled((largest, 99 - largest, 1), (100, 0, 0))
        check_fires(ImbalancedLabels, b.trace, at=loss) if side > 0 else check_silent(ImbalancedLabels, b.trace)

    @pytest.mark.parametrize("side", [-1, 1])
    def test_share_of_the_constant_prediction(self, side):
        constant = round(10_000 * CONSTANT) + side
        b, loss = labelled((9900, 100), (constant, 10_000 - constant))
        check_fires(ImbalancedLabels, b.trace, at=loss) if side > 0 else check_silent(ImbalancedLabels, b.trace)


class TestNeeds:
    def test_a_long_run(self):
        check_lacks(ImbalancedLabels, labelled((990, 10), (1000, 0), steps=range(MIN_STEP))[0].trace, MISSING)

    def test_many_labels(self):
        check_lacks(ImbalancedLabels, labelled((32, 1), (33, 0))[0].trace, MISSING)

    def test_labels_at_all(self):
        check_lacks(ImbalancedLabels, classifier(steps=STEPS)[0].trace, MISSING)
