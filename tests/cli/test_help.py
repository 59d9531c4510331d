"""The help: lists of commands that say what each does, in whole sentences, on a terminal of 80 columns."""

import pytest

LISTS = [(), ("lm",)]


@pytest.mark.parametrize("group", LISTS, ids=["unstuck", "unstuck lm"])
def test_no_description_in_a_list_is_cut_off(cli, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    commands = cli(*group, "--help").out.partition("Commands:\n")[2].split("\n\n")[0]
    assert commands.count("\n") >= 4
    assert [line for line in commands.splitlines() if line.endswith("...")] == []
    assert [line for line in commands.splitlines() if line.startswith("   ")] == []  # each fits its line


def test_it_says_how_to_begin(cli):
    assert "unstuck demo" in cli("--help").out.partition("Commands:\n")[2]


def test_what_is_to_be_given_is_in_capitals(cli):
    assert "Usage: unstuck rule [OPTIONS] [CODE]" in cli("rule", "--help").out
