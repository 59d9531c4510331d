"""The simulated run of `benchmarks.page` is one that can be read, judged and drawn."""

from __future__ import annotations

import json

from benchmarks import page
from unstuck.runs import read_report
from unstuck.trace.store import bytes_of
from unstuck.trace.writer import MAX_FILE_BYTES


def test_it_has_all_steps_and_numbers_for_the_charts(tmp_path):
    largest = page.simulate(tmp_path / "run.sqlite", 200, layers=3)
    assert bytes_of(tmp_path / "run.sqlite") <= largest <= MAX_FILE_BYTES
    report, _ = read_report(tmp_path / "run.sqlite")
    assert report.run.steps == len(report.trace.objective) == 200
    assert {*range(10), 199} <= set(report.trace.steps)
    text = report.render("html")
    numbers = json.loads(text.partition('id="numbers">')[2].partition("</script>")[0])
    assert {"loss", "saturation", "updates", "depth"} <= numbers["charts"].keys()
    assert [len(group["cards"]) for group in numbers["cards"].values()] == [3, 3, 3]


def test_without_a_browser_the_page_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert page.time_browser(tmp_path / "page.html", "x") == ""
