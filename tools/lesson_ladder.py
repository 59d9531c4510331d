"""The ladder's tables for the lesson and the README, of what `unstuck lm ladder --output-format json` prints."""

from pathlib import Path
from typing import Any

from unstuck.lm.data import SHIPPED, name_of
from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.ladder_table import render, step_rows
from unstuck.lm.stages import LECTURE_WORDS, STAGES, STEPS
from unstuck.lm.statistics import Estimate

BEGIN, END = "<!-- ladder -->", "<!-- end of ladder -->"
SECTION = """\
## 12. What each step is worth

One training is one draw: with another seed its last digits differ. To tell what a step of this lesson is worth, train
with and without it from several seeds and look at the difference against its spread. `{command}`
does so for five stages, each with one step more than the stage before, of weights and biases both: all from the
standard normal distribution (section 1), a small output layer (section 2), a small hidden layer (section 3), a hidden
layer scaled by its fan-in and the gain of tanh (section 4), batch normalisation in place of the hidden biases (section
7). The data are {words}.

The tables hold the stored numbers of one run of that command ([docs/ladder.json](ladder.json)); they are not made again
with the rest of this page.

{tables}
{conclusion}"""
LECTURES = "the 32,033 names of [makemore](https://github.com/karpathy/makemore), its file names.txt"


def results(data: dict[str, Any]) -> Results:
    """The runs of a ladder's JSON, without their curves."""
    runs = {row["stage"]: row["runs"] for row in data["stages"]}
    measured = {
        (stage, run["seed"]): Measured(**{name: value for name, value in run.items() if name != "seed"})
        for stage, held in runs.items()
        for run in held
    }
    plan = Plan(tuple(STAGES[name] for name in runs), data["seeds"], data["steps"])
    return Results(plan, measured, {}, data["data"].get("split", "words"))


def command(data: dict[str, Any]) -> str:
    """What prints these tables."""
    steps = "" if data["steps"] == STEPS else f" --steps {data['steps']}"
    source = data["data"]["source"]
    words = "" if source == SHIPPED else f" --data {Path(source).name}"
    return f"unstuck lm ladder --seeds {data['seeds']}{steps}{words}"


def section(data: dict[str, Any] | None) -> str:
    """The lesson's section: all that the command prints; nothing as long as there are no results."""
    if data is None:
        return ""
    found = results(data)
    return SECTION.format(
        command=command(data),
        words=data_words(data),
        tables=render(found, data["incomparable"] or "", markdown=True),
        conclusion=conclusion(found),
    )


def data_words(data: dict[str, Any]) -> str:
    """Which word list the runs are of."""
    source = data["data"]["source"]
    if data["data"]["sha256"] == LECTURE_WORDS or data["data"].get("split") == "lines":
        return LECTURES
    return name_of(source) if source == SHIPPED else f"the words of {Path(source).name}"


def conclusion(found: Results) -> str:
    """Two sentences, which steps change the validation loss and what BatchNorm does to the training loss.

    Empty where nothing can be told: of one stage, or of one seed.
    """
    rows = step_rows(found)
    if not rows or found.plan.seeds == 1:
        return ""
    words = {-1: "better", 1: "worse"}
    real = [f"{row.later.name} ({words[row.val.sign]} by {_nats(row.val)} nats)" for row in rows if row.val.sign]
    others = [row.later.name for row in rows if not row.val.sign]
    said = [f"what changes at {_and(real)} is real"] if real else []
    said += [f"what changes at {_and(others)} cannot be told from 0"] if others else []
    text = f"On validation, {'; '.join(said)}."
    last = rows[-1]
    if last.later.norm:
        change = {-1: "improves", 1: "worsens"}.get(last.train.sign)
        told = f"{change} it by {_nats(last.train)} nats" if change else "changes it by nothing that can be told from 0"
        text += f" As to the training loss, batch normalisation {told}."
    return f"\n{text}\n"


def _nats(found: Estimate) -> str:
    return f"{abs(found.mean):.4f} ± {found.half:.4f}"


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def table(data: dict[str, Any] | None) -> str:
    """The README's table of the stages and how to read it; nothing as long as there are no results."""
    if data is None:
        return ""
    stages, reading = render(results(data), data["incomparable"] or "", markdown=True).split("\n\n")[:2]
    return f"\n<!-- run: {command(data)} -->\n{stages}\n\n{reading}\n"


def filled(text: str, content: str, name: str) -> str:
    """A page with `content` between its two marks; raises ValueError when it has none."""
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{name} has no lines {BEGIN!r} and {END!r} to put the ladder's table between")
    return f"{before}{begin}{content}{end}{after}"
