import numpy as np
import pytest

from unstuck.rules.data.unshuffled_batches import MIN_BATCHES, UnshuffledBatches

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .given import classifier, label, target

RANDOM = np.random.default_rng(4)
SPARSE = [*range(10), 12, 17, 24, 34, 48, 68]  # steps as they are sampled


def classes(batches, steps=None, op="cross_entropy", number=5):
    b, loss, _ = classifier(op, steps=range(len(batches)) if steps is None else steps)
    label(b, loss, batches, classes=number)
    return b, loss


def numbers(batches, steps=None, **options):
    b, loss, _ = classifier("mse_loss", steps=range(len(batches)) if steps is None else steps, **options)
    target(b, loss, batches)
    return b, loss


def catalogue(batches, size=8):
    """Numbers sorted, cut into batches."""
    return np.sort(RANDOM.standard_normal(batches * size)).reshape(batches, size)


class TestSilent:
    def test_mixed_batches(self):
        check_silent(UnshuffledBatches, classes(list(RANDOM.integers(0, 5, (16, 50))))[0].trace)

    def test_one_class(self):
        check_silent(UnshuffledBatches, classes([np.ones(50)] * 16)[0].trace)

    def test_small_batches(self):
        check_silent(UnshuffledBatches, classes([np.full(3, step % 5) for step in range(16)])[0].trace)

    def test_rare_classes_that_most_shuffled_batches_do_not_hold(self):
        batches = [np.full(4, 1 if step == 20 else 0) for step in range(40)]
        check_silent(UnshuffledBatches, classes(batches)[0].trace)

    @pytest.mark.parametrize("op", ["cross_entropy", "binary_cross_entropy_with_logits"])
    def test_networks_trained_in_turn(self, op):
        check_silent(UnshuffledBatches, classes([np.full(50, step % 2) for step in range(16)], op=op)[0].trace)

    def test_shuffled_numbers(self):
        check_silent(UnshuffledBatches, numbers(RANDOM.standard_normal((16, 8)))[0].trace)

    def test_batches_that_overlap_a_little(self):
        batches = catalogue(10)
        batches[5, 0] = batches[4, -1] - 1e-6
        check_silent(UnshuffledBatches, numbers(batches)[0].trace)

    def test_too_few_in_order(self):
        batches = np.concatenate([catalogue(MIN_BATCHES - 1), catalogue(MIN_BATCHES - 1)])
        check_silent(UnshuffledBatches, numbers(batches)[0].trace)

    def test_steps_that_do_not_follow_each_other(self):
        check_silent(UnshuffledBatches, numbers(catalogue(16), steps=range(0, 32, 2))[0].trace)

    def test_the_same_batch_again_and_again(self):
        check_silent(UnshuffledBatches, numbers([np.full(8, 3.0)] * 16)[0].trace)

    def test_numbers_one_at_a_time(self):
        check_silent(UnshuffledBatches, numbers(np.arange(16.0)[:, None])[0].trace)

    def test_what_no_layer_predicts(self):
        check_silent(UnshuffledBatches, numbers(catalogue(16), direct=False)[0].trace)


class TestFires:
    def test_folder_by_folder(self):
        b, loss = classes([np.full(50, step // 12 % 5) for step in SPARSE], steps=SPARSE)
        check_fires(
            UnshuffledBatches,
            b.trace,
            at=loss,
            message="16 of 16 sampled batches hold labels of one class each, of 4 different classes over the run",
        )

    def test_a_class_a_batch(self):
        b, loss = classes([np.full(50, step % 5) for step in range(10)])
        check_fires(UnshuffledBatches, b.trace, at=loss)

    def test_two_classes_one_after_the_other(self):
        b, loss, _ = classifier("binary_cross_entropy_with_logits", steps=SPARSE)
        target(b, loss, [np.full(50, float(step > 20)) for step in SPARSE])
        check_fires(UnshuffledBatches, b.trace, at=loss)

    @pytest.mark.parametrize("direction", [1, -1])
    def test_sorted_numbers(self, direction):
        b, loss = numbers(direction * catalogue(10))
        finding = check_fires(
            UnshuffledBatches,
            b.trace,
            at=loss,
            message="the targets of mse_loss lie in order from batch to batch, in all 10 batches of steps 0 to 9",
        )
        assert finding.measured == 10.0

    def test_as_many_as_it_takes(self):
        b, loss = numbers(np.concatenate([catalogue(MIN_BATCHES), catalogue(3)]))
        assert check_fires(UnshuffledBatches, b.trace, at=loss).measured >= MIN_BATCHES


@pytest.mark.parametrize(("mixed", "fires"), [(11, False), (10, True)])
def test_near_the_limit(mixed, fires):
    batches = [
        np.arange(50) % 2 if step % 9 == 5 and step < 9 * mixed else np.full(50, step // 20) for step in range(100)
    ]
    b, loss = classes(batches)
    if fires:
        assert check_fires(UnshuffledBatches, b.trace, at=loss).measured == 90.0
    else:
        check_silent(UnshuffledBatches, b.trace)


def test_needs_targets():
    missing = "targets of a loss at 8 sampled steps"
    check_lacks(UnshuffledBatches, TraceBuilder().trace, missing)
    check_lacks(UnshuffledBatches, numbers(catalogue(MIN_BATCHES - 1))[0].trace, missing)
