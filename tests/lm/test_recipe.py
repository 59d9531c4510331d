from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from unstuck.lm.errors import LmError
from unstuck.lm.recipe import OPTIMIZERS, RECIPES, build_optimizer, learning_rate

FAST, LECTURE = RECIPES["fast"], RECIPES["lecture"]


def test_the_lecture_s_recipe_is_as_published() -> None:
    assert (LECTURE.optimizer, LECTURE.batch_size, LECTURE.steps) == ("sgd", 32, 200_000)
    assert (LECTURE.norm_momentum, LECTURE.targets, LECTURE.split) == (0.001, "drawn", "lines")
    assert [learning_rate(LECTURE, step) for step in (0, 99_999, 100_000, 199_999)] == [0.1, 0.1, 0.01, 0.01]


def test_a_one_cycle_rises_to_the_rate_and_falls_to_nothing() -> None:
    recipe = replace(FAST, lr=1.0, steps=100)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[30] == 1.0
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_constant_rate_and_a_single_step_stay_at_the_rate() -> None:
    assert {learning_rate(replace(FAST, schedule="constant", lr=0.5, steps=9), step) for step in range(9)} == {0.5}
    assert learning_rate(replace(FAST, steps=1), 0) > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_takes_its_first_step_as_defined(name: str) -> None:
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = build_optimizer(replace(FAST, optimizer=name, lr=0.1, weight_decay=0.5), [parameter])
    parameter.grad = torch.tensor([4.0, 8.0])
    optimizer.step()
    decayed = torch.tensor([4.0, 8.0]) + 0.5 * torch.tensor([2.0, -1.0])
    expected = {
        "sgd": torch.tensor([2.0, -1.0]) - 0.1 * decayed,
        "momentum": torch.tensor([2.0, -1.0]) - 0.1 * decayed,
        "adam": torch.tensor([1.9, -1.1]),  # the first step is the sign of the gradient
        "adamw": torch.tensor([2.0, -1.0]) * (1 - 0.1 * 0.5) - 0.1,
    }
    torch.testing.assert_close(parameter.data, expected[name])


def test_momentum_remembers_the_step_before() -> None:
    moved = {}
    for name in ("sgd", "momentum"):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = build_optimizer(replace(FAST, optimizer=name, lr=1.0, weight_decay=0.0), [parameter])
        for _ in range(2):
            parameter.grad = torch.ones(1)
            optimizer.step()
        moved[name] = parameter.item()
    assert moved == {"sgd": -2.0, "momentum": pytest.approx(-2.9)}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("optimizer", "lion", "unknown optimizer 'lion': choose one of sgd, momentum, adam, adamw"),
        ("schedule", "steps", "unknown schedule 'steps': choose one of constant, halfway-drop, one-cycle"),
        ("split", "x", "unknown split 'x': choose one of words, lines, hash"),
        ("targets", "x", "unknown targets 'x': choose one of drawn, counted"),
        ("lr", 0.0, "lr is 0.0: give a number above 0"),
        ("lr", float("nan"), "lr is nan: give a number above 0"),
        ("weight_decay", -1.0, "weight decay is -1.0: give a number of at least 0"),
        ("steps", 0, "steps is 0: give a whole number from 1 to 281474976710656"),
        ("batch_size", 0, "batch size is 0: give a whole number from 1 to 16777216"),
        ("norm_momentum", 1.5, "norm momentum is 1.5: give a number above 0 and up to 1"),
        ("seed", -1, "seed is -1: give a whole number from 0 to 9223372036854775807"),
    ],
)
def test_values_that_cannot_be_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(LmError) as caught:
        replace(FAST, **{option: value})
    assert str(caught.value) == message
