"""`unstuck rule CODE`: a rule's documentation, from the rule itself."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from unstuck.cli.errors import fail
from unstuck.rules.catalogue import UnknownRuleError, all_rules, get_rule
from unstuck.rules.rule import Rule


def rule(
    code: Annotated[str | None, typer.Argument(help="A rule's code (L001) or name (overconfident-start).")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List every rule, one a line.")] = False,
) -> None:
    """Explain a rule: what it measures, why it matters, what to do."""
    if show_all == (code is not None):
        fail("name one rule, or use --all to list them, for example: unstuck rule L001")
    if code is None:
        width = max(len(r.name) for r in all_rules().values())
        for r in all_rules().values():
            typer.echo(f"{r.code}  {r.name:<{width}}  {r.sections()['']}")
        return
    try:
        found = get_rule(code)
    except UnknownRuleError as error:
        fail(error)
    _show(found)


def _thresholds(found: type[Rule]) -> str:
    """Return the section about what can be set, or nothing."""
    rows = [f"- `{name}` = {limit.value:g} ({limit.unit})" for name, limit in found.thresholds().items()]
    if not rows:
        return ""
    where = f"Set in `[tool.unstuck.thresholds.{found.code}]` of pyproject.toml."
    return "\n".join(["", "", "## Thresholds", where, "", *rows])


def _show(found: type[Rule]) -> None:
    console = Console(highlight=False)
    text = f"# {found.code} {found.name}\n\n{found.documentation()}{_thresholds(found)}"
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text)
