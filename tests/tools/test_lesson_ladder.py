"""The ladder's tables stand in the lesson and in the README as soon as there are results, and say what these say."""

import json
from dataclasses import replace

import pytest
from tools.lesson_ladder import BEGIN, END, conclusion, filled, section, table

from tools import lesson, lesson_ladder
from unstuck.lm.data import SHIPPED
from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.ladder_table import as_data, render
from unstuck.lm.stages import LECTURE_WORDS, STAGES, STEPS


@pytest.fixture
def results():
    plan = Plan(tuple(STAGES.values()), 2, STEPS)
    measured = {
        (stage, seed): Measured(**dict.fromkeys(Measured.__annotations__, 2.0 + place / 100 + seed / 1000))
        for place, stage in enumerate(STAGES)
        for seed in range(2)
    }
    return Results(plan, measured, {})


@pytest.fixture
def data(results):
    """What `unstuck lm ladder --output-format json` prints."""
    return json.loads(json.dumps(as_data(results, "", "names.txt", "0" * 64)))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A lesson and a README with a place for the table, and nothing else."""
    monkeypatch.setattr(lesson, "ROOT", tmp_path)
    monkeypatch.setenv("LESSON_PICTURES", "")
    (tmp_path / "docs").mkdir()
    for name in (lesson.PAGE, lesson.README):
        (tmp_path / name).write_text(f"words\n\n{BEGIN}\n{END}\n\nmore\n")
    return tmp_path


def test_without_results_there_is_nothing(copy):
    assert section(None) == table(None) == ""
    before = [(copy / name).read_text() for name in (lesson.PAGE, lesson.README)]
    assert lesson.main([]) == 0
    assert [(copy / name).read_text() for name in (lesson.PAGE, lesson.README)] == before


def test_a_page_without_a_place():
    with pytest.raises(ValueError, match=r"README\.md has no lines '<!-- ladder -->' and"):
        filled("words", "table", "README.md")


def test_the_pages_are_filled_once(copy, data, capsys):
    (copy / lesson.LADDER).write_text(json.dumps(data))
    assert lesson.main(["--check"]) == 1
    said = "docs/lesson.md: its table is not that of docs/ladder.json\n"
    assert capsys.readouterr().out == said + said.replace("docs/lesson.md", "README.md")
    assert lesson.main([]) == 0
    pages = [(copy / name).read_text() for name in (lesson.PAGE, lesson.README)]
    for page, content in zip(pages, (section(data), table(data)), strict=True):
        assert page == f"words\n\n{BEGIN}\n{content}{END}\n\nmore\n"
    assert lesson.main(["--check"]) == 0
    (copy / lesson.README).write_text(pages[1].replace("2.0", "1.0"))
    assert lesson.main(["--check"]) == 1
    assert lesson.main([]) == 0
    assert (copy / lesson.README).read_text() == pages[1]


@pytest.mark.parametrize("incomparable", ["", "the data are others"])
def test_the_tables_are_those_of_the_command(results, incomparable):
    data = as_data(results, incomparable, "names.txt", "0" * 64)
    whole = render(results, incomparable, markdown=True)
    assert whole in section(data)
    assert "`unstuck lm ladder --seeds 2 --data names.txt`" in section(data)
    assert table(data).partition("-->\n")[2].rstrip() == "\n\n".join(whole.split("\n\n")[:2])


def test_results_are_read_back(results, data):
    assert lesson_ladder.results(data) == results
    data["data"]["split"] = "lines"
    assert lesson_ladder.results(data) == replace(results, split="lines")


def test_the_words_are_named(data):
    assert "The data are the words of names.txt." in section(data)
    data["data"]["sha256"] = LECTURE_WORDS
    assert "The data are the 32,033 names of [makemore](https://github.com/karpathy/makemore)" in section(data)
    data["data"] = {"source": SHIPPED, "sha256": "0" * 64}
    assert "The data are the shipped names." in section(data)


@pytest.mark.parametrize("seeds", [1, 2])
def test_nothing_is_concluded_from_one_seed_or_one_stage(results, seeds):
    stages = results.plan.stages if seeds == 1 else results.plan.stages[:1]
    assert conclusion(replace(results, plan=Plan(stages, seeds, STEPS))) == ""


def test_the_conclusion_is_of_the_numbers(results):
    """Two steps on validation that no seed changes, two that the seeds draw apart; training worse at the end."""
    steps = {"small-output": (-0.03, -0.03), "small-hidden": (-0.02, -0.02), "kaiming": (-0.01, 0.01)}
    held = [2.2, 2.2]
    for stage in results.plan.stages:
        held = [loss + change for loss, change in zip(held, steps.get(stage.name, (0, 0)), strict=True)]
        train = 2.1 if stage.norm else 2.0
        for seed, loss in enumerate(held):
            results.measured[stage.name, seed] = replace(results.measured[stage.name, seed], train=train, val=loss)
    assert conclusion(results).split(". ") == [
        "\nOn validation, what changes at small-output (better by 0.0300 ± 0.0000 nats) and small-hidden (better by "
        "0.0200 ± 0.0000 nats) is real; what changes at kaiming and batchnorm cannot be told from 0",
        "As to the training loss, batch normalisation worsens it by 0.1000 ± 0.0000 nats.\n",
    ]


@pytest.mark.parametrize(
    ("source", "steps", "expected"),
    [(SHIPPED, STEPS, ""), (SHIPPED, 1000, " --steps 1000"), ("/a/words.txt", STEPS, " --data words.txt")],
)
def test_the_command_that_prints_them(data, source, steps, expected):
    data["data"]["source"], data["steps"] = source, steps
    assert lesson_ladder.command(data) == "unstuck lm ladder --seeds 2" + expected
