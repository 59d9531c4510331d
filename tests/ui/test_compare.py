"""What is drawn and said of two runs side by side."""

from __future__ import annotations

import json

from report.drawn import silent
from report.made import report
from rules.helpers import TraceBuilder, normal
from unstuck.trace import Trace
from unstuck.ui import compare


def side(letter: str, trace: Trace) -> compare.Side:
    return compare.side(letter, letter.lower(), report(trace=trace), "ended")


def network(std: float, steps: range, *, loss: float = 3.0, baseline: float = 3.3, layers: int = 1) -> Trace:
    made = TraceBuilder(steps)
    for k in range(layers):
        after = made.activation("tanh", f"act{k}", pre=normal(std, 50, 4))
    made.loss(value=loss, baseline=baseline, after=after)
    made.trace.objective.update(dict.fromkeys(steps, loss))
    return made.trace


def drawn(*traces: Trace) -> tuple[dict, str]:
    pair = [side(letter, trace) for letter, trace in zip("AB", traces, strict=True)]
    numbers = compare.numbers(pair)
    return numbers, "".join(compare.sections(pair, numbers))


def test_nothing_to_draw():
    numbers, said = drawn(silent(), silent())
    assert numbers == {"charts": {}, "cards": {}}
    assert "data-cards" not in said


def test_a_line_begins_with_the_loss_at_step_0_however_long_the_run():
    made = silent()
    made.objective.update({0: 27.0, **dict.fromkeys(range(1, 20_000), 3.0)})
    assert side("A", made).losses[0] == {"step": 0, "loss": 27.0, "run": "A train.py"}


def test_losses_stand_against_their_baseline_on_an_axis_that_ends_with_them():
    numbers, _ = drawn(network(1.0, range(3), loss=27.0), network(1.0, range(3), loss=2.0))
    text = json.dumps(numbers["charts"]["loss"])
    assert text.count("baseline 3.3") == 1
    low, high = numbers["charts"]["loss"]["spec"]["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert 1.0 < low < 2.0
    assert 27.0 < high < 40.0


def test_two_baselines_are_both_shown():
    numbers, _ = drawn(network(1.0, range(3), baseline=2.3), network(1.0, range(3), baseline=4.6))
    text = json.dumps(numbers["charts"]["loss"])
    assert ("baseline 2.3" in text, "baseline 4.6" in text) == (True, True)


def test_histograms_stand_side_by_side_at_common_steps_over_common_values():
    numbers, said = drawn(network(10.0, range(0, 30, 2), layers=3), network(1.0, range(0, 30, 3), layers=2))
    cards = numbers["cards"]["activations"]["cards"]
    assert [card["name"] for card in cards] == ["A act0 (tanh)", "B act0 (tanh)", "A act1 (tanh)", "B act1 (tanh)"]
    assert {tuple(card["steps"]) for card in cards} == {(0, 6, 12, 18, 24)}
    assert {len(card["shares"]) for card in cards} == {len(card["notes"]) for card in cards} == {5}
    assert cards[0]["range"] == cards[1]["range"]
    assert cards[1]["range"][1] > 20
    assert said.count('data-cards="activations"') == said.count('type="range"') == 1


def test_of_many_places_the_first_are_shown_and_that_is_said():
    numbers, said = drawn(*(network(1.0, range(2), layers=14) for _ in range(2)))
    assert len(numbers["cards"]["activations"]["cards"]) == 2 * 12
    assert "The first 12 of 14 are shown." in said
