"""`unstuck demo`: the story in three parts."""

from __future__ import annotations

import json

from unstuck.cli.demo import SCRIPT, comparison, find_example, samples


def test_the_whole_story_in_few_steps(cli, tmp_path):
    out = tmp_path / "reports"
    said = cli("demo", "--steps", 40, "--out", out)
    assert said.code == 0
    parts = ["1. the script as it is", "2. the same script, data and seed, with --unsafe-fixes", "3. before and after"]
    places = [said.out.index(part) for part in parts]
    assert places == sorted(places)
    for row in ("starting loss (nats)", "baseline, ln 27", "saturated tanh, at step 0", "val loss (nats)"):
        assert row in said.out
    assert f"reports: {out / 'before' / 'report.txt'} and {out / 'after' / 'report.txt'} (and .json)" in said.out
    before, after = (json.loads((out / run / "report.json").read_text()) for run in ("before", "after"))
    assert before["loss"]["at_start"] > 25
    assert after["loss"]["at_start"] < 3.5
    table = said.out[places[2] :]
    assert f"{before['loss']['at_start']:.4f}" in table
    assert f"{after['loss']['at_start']:.4f}" in table
    assert all((out / run / "report.txt").is_file() for run in ("before", "after"))


def test_a_folder_that_cannot_be_written_is_found_first(cli, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "reports"
    assert (
        cli("demo", "--out", out).refusal == f"cannot write the reports to {out}: Not a directory; name another folder"
    )


def test_too_few_steps(cli):
    message = cli("demo", "--steps", 3).refusal
    assert message.startswith("Invalid value for '--steps': ")
    assert message.endswith("; see `unstuck demo --help`")


def test_the_example_is_found():
    assert find_example(SCRIPT).name == SCRIPT


def test_samples_are_the_words_after_the_losses():
    said = ["0/40: 27", "val loss 2.1", "emma", "", "ava", "", "unstuck: no fault found in 40 steps"]
    assert samples(said) == ["emma", "ava"]


def test_the_table_shows_the_reports_numbers():
    tanh = {"op": "tanh", "outside_first": 0.5, "outside_median": 0.25, "dead_units": 3}
    report = {"loss": {"at_start": 27.0, "baseline": 3.2958}, "sites": [{"op": "embedding"}, tanh]}
    said = ["train loss 2.5", "val loss 2.75"]
    table = comparison(report, report, said, said)
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == cells[2] == ["27.0000", "3.2958", "50.0%", "25.0%", "3", "2.5000", "2.7500"]
