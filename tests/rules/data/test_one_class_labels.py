import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.data.one_class_labels import MIN_BATCHES, MIN_LABELS, SURE_LABELS, OneClassLabels

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .given import classifier, label, target

MISSING = "labels of a classification loss at 8 sampled steps"


def labelled(batches, **options):
    b, loss, _ = classifier(steps=range(len(batches)), **options)
    label(b, loss, batches)
    return b, loss


def ones(number, batches=10):
    return [np.ones(number)] * batches


class TestSilent:
    def test_two_classes(self):
        check_silent(OneClassLabels, labelled([[0, 1] * 40] * 10)[0].trace)

    def test_a_single_other_label_in_the_last_batch(self):
        check_silent(OneClassLabels, labelled([*ones(80, 9), [*[1] * 79, 2]])[0].trace)

    def test_sorted_classes(self):
        check_silent(OneClassLabels, labelled([np.full(80, step // 5) for step in range(10)])[0].trace)

    def test_too_few_labels(self):
        check_silent(OneClassLabels, labelled(ones(MIN_LABELS // 10))[0].trace)

    def test_batches_of_one(self):
        check_silent(OneClassLabels, labelled(ones(1, 300))[0].trace)

    def test_a_layer_that_is_not_trained(self):
        check_silent(OneClassLabels, labelled(ones(80), trained=False)[0].trace)

    @pytest.mark.parametrize("op", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
    def test_real_and_fake_examples_in_two_calls(self, op):
        b, real, head = classifier(op)
        _, fake, _ = classifier(op, b=b, head=head)
        target(b, real, ones(80))
        target(b, fake, [np.zeros(80)] * 10)
        check_silent(OneClassLabels, b.trace)


class TestFires:
    def test_at_the_least_numbers(self):
        b, loss = labelled(ones(MIN_LABELS // MIN_BATCHES, MIN_BATCHES))
        finding = check_fires(
            OneClassLabels,
            b.trace,
            at=loss,
            severity=Severity.WARNING,
            message="all 256 labels that were sampled, in 8 batches, are of class 1",
        )
        assert (finding.measured, finding.threshold, finding.unit) == (1.0, 2.0, "classes")

    def test_many_labels_are_an_error(self):
        b, loss = labelled(ones(SURE_LABELS // 10))
        check_fires(OneClassLabels, b.trace, at=loss, severity=Severity.ERROR)
        b, loss = labelled(ones(SURE_LABELS // 10 - 1))
        check_fires(OneClassLabels, b.trace, at=loss, severity=Severity.WARNING)

    def test_binary_targets(self):
        b, loss, _ = classifier("binary_cross_entropy_with_logits")
        target(b, loss, [np.zeros(80)] * 10)
        check_fires(OneClassLabels, b.trace, at=loss)

    def test_behind_a_softmax(self):
        b, _, head = classifier()
        b.trace.edges.clear()
        loss = b.loss("nll_loss", after=b.activation("sigmoid", after=head))
        label(b, loss, ones(80))
        check_fires(OneClassLabels, b.trace, at=loss)


class TestNeeds:
    def test_labels(self):
        check_lacks(OneClassLabels, classifier()[0].trace, MISSING)

    def test_enough_batches(self):
        check_lacks(OneClassLabels, labelled(ones(500, MIN_BATCHES - 1))[0].trace, MISSING)

    def test_a_layer_that_makes_the_logits(self):
        """The labels of contrastive losses are positions in a list of similarities: zero in all of them, say."""
        check_lacks(OneClassLabels, labelled(ones(80), direct=False)[0].trace, MISSING)

    @pytest.mark.parametrize("value", [0.9, 0.5, 3.0])
    def test_binary_targets_of_0_and_1(self, value):
        b, loss, _ = classifier("binary_cross_entropy_with_logits")
        target(b, loss, [np.full(80, value)] * 10)
        check_lacks(OneClassLabels, b.trace, MISSING)

    def test_more_than_one_class_to_choose_from(self):
        b, loss, _ = classifier()
        label(b, loss, [np.zeros(80)] * 10, classes=1)
        check_lacks(OneClassLabels, b.trace, MISSING)

    def test_a_backward_pass(self):
        check_lacks(OneClassLabels, TraceBuilder([]).trace, "a backward pass")
