from __future__ import annotations

import math

import numpy as np
import pytest

from unstuck.lm.errors import LmError
from unstuck.lm.stages import BATCH, BLOCK, STAGES, batches, is_lectures, rates, stages_of, start


@pytest.mark.parametrize("text", ["", "0", "6", "kaimin", "1,,2", "1-5", "²"])
def test_unknown_stages_are_refused(text: str) -> None:
    with pytest.raises(LmError, match=r"unknown stage .*original, small-output.*1-5"):
        stages_of(text)


def test_names_and_numbers_in_the_lectures_order() -> None:
    assert [stage.name for stage in stages_of("batchnorm, 1,original")] == ["original", "batchnorm"]


def test_the_shipped_names_are_not_the_lectures() -> None:
    assert not is_lectures(["emma", "olivia"])


def test_what_each_stage_starts_from() -> None:
    found = {name: start(stage, 3, 27) for name, stage in STAGES.items()}
    base = found["original"]
    assert base.embedding.shape == (27, 10)
    assert base.hidden_weight.shape == (30, 200)
    assert base.output_weight.shape == (200, 27)
    for array in (base.embedding, base.hidden_weight, base.hidden_bias, base.output_weight):
        assert array.std() == pytest.approx(1, abs=0.12)
    for name, hidden, bias, output in (
        ("small-output", 1.0, 1.0, 0.01),
        ("small-hidden", 0.2, 0.01, 0.01),
        ("kaiming", 5 / 3 / math.sqrt(30), 0.01, 0.01),
        ("batchnorm", 5 / 3 / math.sqrt(30), 0.0, 0.01),
    ):
        network = found[name]
        np.testing.assert_array_equal(network.embedding, base.embedding)
        np.testing.assert_allclose(network.hidden_weight, base.hidden_weight * hidden, rtol=1e-6)
        np.testing.assert_allclose(network.hidden_bias, base.hidden_bias * bias, rtol=1e-6)
        np.testing.assert_allclose(network.output_weight, base.output_weight * output, rtol=1e-6)
        assert not network.output_bias.any()
        assert network.norm is (name == "batchnorm")


def test_seeds_differ_and_repeat() -> None:
    stage = STAGES["kaiming"]
    np.testing.assert_array_equal(start(stage, 1, 27).hidden_weight, start(stage, 1, 27).hidden_weight)
    assert (start(stage, 1, 27).hidden_weight != start(stage, 2, 27).hidden_weight).mean() > 0.99


def test_batches_depend_on_seed_and_block_alone() -> None:
    drawn = batches(0, 0, 50)
    assert drawn.shape == (BLOCK, BATCH)
    assert set(np.unique(drawn)) == set(range(50))
    np.testing.assert_array_equal(drawn, batches(0, 0, 50))
    assert (drawn != batches(0, 1, 50)).mean() > 0.9
    assert (drawn != batches(1, 0, 50)).mean() > 0.9


def test_the_rate_falls_at_the_half() -> None:
    np.testing.assert_allclose(rates(0, 7, 7), [0.1] * 3 + [0.01] * 4)
    np.testing.assert_allclose(rates(99_999, 100_001, 200_000), [0.1, 0.01])
