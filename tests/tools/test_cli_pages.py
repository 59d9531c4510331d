"""A page for each command, saying what its help says."""

import re

import pytest
from tools.cli_pages import pages

from unstuck.cli import app

PAGES = pages()


def test_each_command_has_a_page_that_the_index_links_to():
    names = [command.name for command in app.registered_commands]
    assert {"run", "check", "fix"} <= set(names)
    assert {f"{name}.md" for name in names} <= set(PAGES)
    for name in PAGES.keys() - {"index.md"}:
        assert f"]({name}): " in PAGES["index.md"], name


def test_commands_of_a_group():
    assert "- [train](lm-train.md): Train a model on a list of words and save it.\n" in PAGES["lm.md"]
    assert "    - [unstuck lm train](lm-train.md): " in PAGES["index.md"]
    assert PAGES["lm-train.md"].startswith("# unstuck lm train\n\n```sh\nunstuck lm train [OPTIONS]\n```\n")


def test_arguments_and_options():
    text = PAGES["run.md"]
    arguments, options = text.partition("## Options")[::2]
    assert "- `SCRIPT <str>`: The Python script or notebook (.ipynb) to run, unchanged.\n" in arguments
    assert "- `--record / --no-record`: Keep the run below .unstuck, for `unstuck runs`" in options
    assert "\n\nOptions of unstuck stand before SCRIPT; everything after it belongs to the script." in arguments


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_code_is_no_markup(name):
    prose = re.sub(r"```.*?```|`[^`]*`", "", PAGES[name], flags=re.DOTALL)
    assert re.findall(r"(?<!\\)[*<]", prose) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages(name):
    assert set(re.findall(r"\]\(([^)]+)\)", PAGES[name])) <= set(PAGES)


def test_what_is_hidden_is_left_out():
    assert "--text-of" not in PAGES["run.md"]
