"""The ladder's tables for the lesson and the README, of what `unstuck lm ladder --output-format json` prints."""

from typing import Any

from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.ladder_table import render
from unstuck.lm.stages import STAGES

BEGIN, END = "<!-- ladder -->", "<!-- end of ladder -->"
SECTION = """\
## 12. What each step is worth

One training is one draw: with another seed its last digits differ. To tell what a step of this lesson is worth, train
with and without it from several seeds and look at the difference against its spread. The command below does so for
five stages, each adding one change to the stage before: random weights as they come, a small output layer, a small
hidden layer, the hidden layer scaled by gain and fan-in, batch normalisation.

<!-- run: {command} -->
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
    return Results(Plan(tuple(STAGES[name] for name in runs), data["seeds"], data["steps"]), measured, {})


def command(data: dict[str, Any]) -> str:
    """What prints these tables."""
    return f"unstuck lm ladder --seeds {data['seeds']}"


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
