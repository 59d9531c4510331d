import pytest

from unstuck.rules.loss.one_unit_softmax import MIN_CLASSES, OneUnitSoftmax
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(classes, op="softmax"):
    """A layer and a softmax; `classes` a number, or one for each step."""
    b = TraceBuilder()
    site = b.site(Kind.SOFTMAX, op, "head", after=b.layer("fc", weight=normal(0.1, 5, 20)))
    for step in b.steps:
        b.scalar(site, "classes", classes(step) if callable(classes) else classes, [step])
    return b, site


class TestSilent:
    def test_a_network_without_a_softmax(self):
        check_silent(OneUnitSoftmax, TraceBuilder().trace)

    @pytest.mark.parametrize("classes", [MIN_CLASSES, 27])
    def test_classes_to_choose_from(self, classes):
        check_silent(OneUnitSoftmax, network(classes)[0].trace)

    def test_attention_over_a_sequence_that_begins_with_one_token(self):
        check_silent(OneUnitSoftmax, network(lambda step: 1 + step % 3)[0].trace)

    def test_a_softmax_of_which_nothing_was_noted(self):
        b = TraceBuilder()
        b.site(Kind.SOFTMAX, "softmax")
        check_silent(OneUnitSoftmax, b.trace)


class TestFires:
    @pytest.mark.parametrize("op", ["softmax", "log_softmax"])
    def test_one_class(self, op):
        b, site = network(1, op)
        finding = check_fires(
            OneUnitSoftmax,
            b.trace,
            at=site,
            message=f"head ({op}) chooses among 1 class: its output is 1 whatever its input",
        )
        assert (finding.measured, finding.threshold, finding.unit, finding.steps) == (1, 2, "classes", (0, 9))
        assert finding.evidence == finding.related == ()

    @pytest.mark.parametrize(
        ("shape", "axes"), [((8, 1), []), ((8, 12, 1), [1]), ((8, 1, 12), [2]), ((8, 4, 12, 1), [1, 2]), ((1,), [])]
    )
    def test_where_else_there_is_something_to_choose_from(self, shape, axes):
        b, site = network(1)
        for step in b.steps:
            b.trace.add_vector(step, site.index, "shape", shape)
        finding = check_fires(OneUnitSoftmax, b.trace, at=site)
        assert [(e.name, e.value) for e in finding.evidence] == [("larger dimension", axis) for axis in axes]

    def test_the_loss_that_takes_its_output(self):
        b, site = network(1)
        b.loss("binary_cross_entropy", baseline=0.7, after=site)
        (place,) = check_fires(OneUnitSoftmax, b.trace, at=site).related
        assert place.site == "binary_cross_entropy"


def test_needs_a_backward_pass():
    check_lacks(OneUnitSoftmax, TraceBuilder([]).trace, "a backward pass")
