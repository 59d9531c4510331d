import pytest

from unstuck.rules.norm.stale_running_stats import MAX_DIVERGENCE, MIN_SAMPLES, MIN_VALUES, StaleRunningStats
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

STEPS = [*range(10), *range(12, 100, 8)]
FAR = {"divergence": 0.4, "mean_shift": 0.7, "variance_ratio": 1.9}
NEAR = {"divergence": 0.03, "mean_shift": 0.1, "variance_ratio": 1.1}


def note(b, site, steps, **numbers):
    for name, value in numbers.items():
        b.scalar(site, name, value, steps)


def network(measured=FAR, path="norm", **changes):
    """A trained batch normalisation that is evaluated by its running statistics at the end."""
    b = TraceBuilder(STEPS)
    norm = b.site(Kind.NORM, "batch_norm", "norm")
    numbers = {"training": 1.0, "momentum": 0.1, "samples": 64.0, "values_per_unit": 64.0, **measured, **changes}
    note(b, norm, STEPS, **numbers)
    evaluated = b.site(Kind.EVALUATION, "batch_norm", path)
    return b, norm, evaluated


def trained(measured=FAR, **changes):
    b, norm, evaluated = network(measured, **changes)
    note(b, evaluated, [100], training=0.0, initial_statistics=0.0, elements=1000.0, **NEAR)
    return b, norm


def copied(path="Net.norm", initial=1.0, elements=1000.0, measured=FAR):
    b, _, evaluated = network(NEAR, path=path)
    note(b, evaluated, [50, 100], training=0.0, initial_statistics=initial, elements=elements, **measured)
    return b, evaluated


class TestSilent:
    def test_statistics_that_fit(self):
        check_silent(StaleRunningStats, trained(NEAR)[0].trace)

    @pytest.mark.parametrize("changes", [{"samples": MIN_SAMPLES - 1.0}, {"values_per_unit": MIN_VALUES - 1.0}])
    def test_small_batches_differ_by_chance(self, changes):
        check_silent(StaleRunningStats, trained(**changes)[0].trace)

    def test_statistics_that_move_slowly_have_not_settled(self):
        check_silent(StaleRunningStats, trained(momentum=0.01)[0].trace)

    def test_only_the_beginning_differs(self):
        b, norm = trained(NEAR)
        note(b, norm, range(40), **FAR)
        check_silent(StaleRunningStats, b.trace)

    def test_evaluation_data_that_differ_from_the_training_data(self):
        b, _, evaluated = network(NEAR)
        note(b, evaluated, [100], training=0.0, initial_statistics=0.0, elements=1000.0, **FAR)
        check_silent(StaleRunningStats, b.trace)

    def test_a_copy_with_statistics_of_its_own(self):
        check_silent(StaleRunningStats, copied(initial=0.0)[0].trace)

    def test_a_copy_that_was_recalibrated_before_its_last_evaluation(self):
        b, evaluated = copied()
        note(b, evaluated, [100], initial_statistics=0.0, **NEAR)
        check_silent(StaleRunningStats, b.trace)

    def test_a_copy_whose_initial_statistics_fit(self):
        check_silent(StaleRunningStats, copied(measured=NEAR)[0].trace)

    def test_a_copy_on_few_values(self):
        check_silent(StaleRunningStats, copied(elements=MIN_VALUES - 1.0)[0].trace)

    def test_a_network_that_is_not_like_the_trained_one(self):
        check_silent(StaleRunningStats, copied(path="Vgg.features.3")[0].trace)


class TestFires:
    def test_batches_of_two_kinds(self):
        b, norm = trained()
        message = (
            "the running statistics of norm (batch_norm) are not those of the training batches: the means are "
            "0.7 standard deviations apart, the variances differ 1.9-fold (medians over the units)"
        )
        finding = check_fires(StaleRunningStats, b.trace, at=norm, message=message)
        assert (finding.measured, finding.threshold, finding.unit) == (0.4, MAX_DIVERGENCE, "nats")
        assert finding.steps[0] >= 46

    @pytest.mark.parametrize("path", ["Net.norm", "AveragedModel.module.norm"])
    def test_a_copy_whose_statistics_never_moved(self, path):
        b, evaluated = copied(path)
        assert check_fires(StaleRunningStats, b.trace, at=evaluated).steps == (50, 100)

    def test_the_first_norm_of_a_copy_speaks_for_all(self):
        b, evaluated = copied()
        note(b, b.site(Kind.NORM, "batch_norm", "norm2"), STEPS, training=1.0)
        second = b.site(Kind.EVALUATION, "batch_norm", "Net.norm2")
        note(b, second, [100], training=0.0, initial_statistics=1.0, elements=1000.0, **FAR)
        check_fires(StaleRunningStats, b.trace, at=evaluated)

    @pytest.mark.parametrize(("factor", "fires"), [(0.99, False), (1.01, True)])
    def test_near_the_limit(self, factor, fires):
        b, norm = trained({**FAR, "divergence": MAX_DIVERGENCE * factor})
        if fires:
            check_fires(StaleRunningStats, b.trace, at=norm)
        else:
            check_silent(StaleRunningStats, b.trace)


def test_lacking():
    b = TraceBuilder()
    what = "batch normalisation by running statistics in a pass without gradients"
    check_lacks(StaleRunningStats, b.trace, what)
    note(b, b.site(Kind.EVALUATION, "batch_norm", "norm"), [3], training=1.0)
    check_lacks(StaleRunningStats, b.trace, what)
