"""The pages of the command line, written from the commands themselves: docs/cli/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from unstuck.cli import app

Command = Any
"""A command or a group of them, as Typer makes it."""
MARKUP = re.compile(r"([*<])")


class Found(NamedTuple):
    """A command: the words that call it, its first sentence, its page."""

    words: tuple[str, ...]
    summary: str
    page: str

    @property
    def file(self) -> str:
        """Its page's name below docs/cli."""
        return f"{'-'.join(self.words)}.md"


def pages() -> dict[str, str]:
    """Return the page of each command, and of each group of commands, by its file's name below docs/cli."""
    top = typer.main.get_command(app)
    found = list(_found(top, ()))
    return {"index.md": _index(found, str(top.help)), **{command.file: command.page for command in found}}


def _index(found: list[Found], help_text: str) -> str:
    lines = ["# Command line", "", "Written by `python -m tools.docs` from the commands' own help.", "", help_text, ""]
    for words, summary, _ in found:
        lines.append(f"{'    ' * (len(words) - 1)}- [unstuck {' '.join(words)}]({'-'.join(words)}.md): {summary}")
    return "\n".join([*lines, ""])


def _found(group: Command, words: tuple[str, ...], above: Any = None) -> Iterator[Found]:
    """Yield what stands below a group, and below that."""
    context = group.context_class(group, info_name=["unstuck", *words][-1], parent=above)
    for name, command in group.commands.items():
        if not command.hidden:
            own = (*words, name)
            yield Found(own, _summary(command), _page(command, own, context))
            if hasattr(command, "commands"):
                yield from _found(command, own, context)


def _summary(command: Command) -> str:
    return _line((command.help or "").strip().split("\n\n")[0])


def _page(command: Command, words: tuple[str, ...], above: Any) -> str:
    """Return a command's page: how it is called, what it does, its arguments and options."""
    context = command.context_class(command, info_name=words[-1], parent=above)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"# {context.command_path}", "", "```sh", usage, "```", "", *_text(command.help or ""), ""]
    records = [(param, param.get_help_record(context)) for param in command.params]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        rows = [record for param, record in records if record is not None and param.param_type_name == kind]
        if rows:
            lines += [f"## {title}", "", *(f"- `{' '.join(name.split())}`: {_line(text)}" for name, text in rows), ""]
    if hasattr(command, "commands"):
        lines += ["## Commands", ""]
        below = [(name, child) for name, child in command.commands.items() if not child.hidden]
        lines += [f"- [{name}]({'-'.join([*words, name])}.md): {_summary(child)}" for name, child in below]
        lines.append("")
    return "\n".join(lines)


def _text(text: str) -> list[str]:
    """Return a help text as markdown."""
    return "\n\n".join(map(_line, text.strip().split("\n\n"))).split("\n")


def _line(text: str) -> str:
    """Return a text on one line, with nothing outside code that markdown would take for markup."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if number % 2 else MARKUP.sub(r"\\\1", part) for number, part in enumerate(parts))
