"""`unstuck rule CODE`: a rule's documentation, from the rule itself."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown

from unstuck.cli.errors import fail
from unstuck.fixes.patches.catalogue import all_patchers
from unstuck.rules.catalogue import UnknownRuleError, all_rules, get_rule
from unstuck.rules.rule import Rule


class RuleFormat(StrEnum):
    """Renderings of a rule."""

    TEXT = "text"
    JSON = "json"


def rule(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="A rule's code (L001) or name (overconfident-start).")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List every rule, one a line.")] = False,
    output_format: Annotated[
        RuleFormat, typer.Option("--output-format", help="json: an object for programs; with --all a list of them.")
    ] = RuleFormat.TEXT,
) -> None:
    """Explain a rule: what it measures, why it matters, what to do."""
    if show_all == (code is not None):
        fail("name one rule, or use --all to list them, for example: unstuck rule L001")
    if code is None and output_format is RuleFormat.JSON:
        typer.echo(json.dumps([as_dict(r) for r in all_rules().values()], indent=2, ensure_ascii=False))
        return
    if code is None:
        width = max(len(r.name) for r in all_rules().values())
        for r in all_rules().values():
            typer.echo(f"{r.code}  {r.name:<{width}}  {r.sections()['']}")
        return
    try:
        found = get_rule(code)
    except UnknownRuleError as error:
        fail(error)
    if output_format is RuleFormat.JSON:
        typer.echo(json.dumps(as_dict(found), indent=2, ensure_ascii=False))
    else:
        _show(found)


def as_dict(found: type[Rule]) -> dict[str, Any]:
    """Return all there is to know of a rule as plain data; `patch` names the change of source that mends it."""
    sections = found.sections()
    patcher = all_patchers().get(found.code)
    return {
        "code": found.code,
        "name": found.name,
        "severity": str(found.severity),
        "stage": found.stage.name.lower(),
        "summary": sections.pop(""),
        "sections": sections,
        "thresholds": [
            {"name": name, "value": limit.value, "unit": limit.unit} for name, limit in found.thresholds().items()
        ],
        "needs": [signal.value for signal in found.needs],
        "explains": list(found.explains),
        "fixes": list(found.fixes),
        "patch": None if patcher is None else patcher.name,
    }


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
