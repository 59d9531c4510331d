"""The ladder's tables for the lesson and the README, of what `unstuck lm ladder --output-format json` prints."""

from pathlib import Path
from typing import Any

from unstuck.lm.data import SHIPPED
from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.ladder_table import render
from unstuck.lm.stages import STAGES, STEPS

BEGIN, END = "<!-- ladder -->", "<!-- end of ladder -->"
SECTION = """\
## 12. What each step is worth

One training is one draw: with another seed its last digits differ. To tell what a step of this lesson is worth, train
with and without it from several seeds and look at the difference against its spread. `{command}`
does so for five stages, each with one change against the stage before: weights from the standard normal distribution
(section 1), a small output layer (section 2), a small hidden layer (section 3), a hidden layer scaled by its fan-in and
the gain of tanh (section 4), batch normalisation (section 7).

{tables}
"""


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
    return SECTION.format(
        command=command(data), tables=render(results(data), data["incomparable"] or "", markdown=True)
    )


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
