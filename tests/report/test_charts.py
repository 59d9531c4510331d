"""Charts by themselves: which there are, what they are refused, what files they become."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import numpy as np
import pytest

from rules.helpers import TraceBuilder, normal
from unstuck.report import chartdata as data
from unstuck.report import charts, panels, style
from unstuck.report.charts import NoChartError
from unstuck.trace import Kind, Role

from .drawn import silent, trace
from .made import finding, fix, report


@pytest.fixture(scope="module")
def full():
    return report(finding(), trace=trace(), fixes=(fix(),))


def contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def without_data(part: Any, rows: list[Any]) -> Any:
    """A description without its data, which go into `rows`."""
    if isinstance(part, list):
        return [without_data(item, rows) for item in part]
    if not isinstance(part, dict):
        return part
    if "values" in part.get("data", ()):
        rows.extend(part["data"]["values"])
    return {key: without_data(item, rows) for key, item in part.items() if key != "data"}


class TestRefused:
    def test_a_name_nobody_knows(self, full):
        with pytest.raises(NoChartError, match=r"^no chart 'lose'; choose from loss, activations, "):
            charts.chart(full, "lose")

    @pytest.mark.parametrize("name", charts.NAMES)
    def test_a_run_that_has_no_numbers_for_it(self, name):
        with pytest.raises(NoChartError, match=rf"^nothing to show in the chart '{name}': the run has no numbers"):
            charts.chart(report(trace=silent()), name)

    def test_an_ending_that_no_chart_has(self, full, tmp_path):
        with pytest.raises(NoChartError, match=r"cannot write a chart as x\.jpeg; its name must end in png, svg, html"):
            charts.save(charts.chart(full, "loss"), tmp_path / "x.jpeg")

    @pytest.mark.parametrize("missing", ["altair", "vl_convert"])
    def test_without_the_extra(self, full, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=r'pip install "unstuck\[html\]"'):
            charts.chart(full, "loss")

    @pytest.mark.parametrize(
        ("name", "step", "said"),
        [
            ("loss", 3, "the chart 'loss' shows all steps at once; one can be chosen for activations and gradients"),
            ("activations", 1_000, "step 1,000 was not sampled; near it are 4, 5, 6, 7, 8, 9"),
        ],
    )
    def test_a_step_that_is_not_there_to_choose(self, full, name, step, said):
        with pytest.raises(NoChartError, match=re.escape(said)):
            charts.chart(full, name, step)


class TestChart:
    @pytest.mark.parametrize(("step", "text"), [(None, "step 0: "), (4, "step 4: ")])
    def test_of_histograms_a_step_may_be_chosen(self, full, step, text, tmp_path):
        charts.save(charts.chart(full, "activations", step), tmp_path / "x.svg")
        found = re.findall(r">(step \d+: )", (tmp_path / "x.svg").read_text(encoding="utf-8"))
        assert found == [text] * 3

    def test_it_may_be_one_that_is_not_among_the_few_of_the_slider(self, tmp_path):
        made = TraceBuilder(range(100))
        made.activation("tanh", pre=normal(1.0, 20, 4))
        full = report(trace=made.trace)
        assert 51 not in data.activation_histogram(made.trace, made.trace.sites[0], "").steps
        charts.save(charts.chart(full, "activations", 51), tmp_path / "x.svg")
        assert ">step 51: " in (tmp_path / "x.svg").read_text(encoding="utf-8")

    def test_places_sampled_at_other_steps_show_their_latest(self, tmp_path):
        made = TraceBuilder(range(6))
        made.activation("tanh", pre=normal(1.0, 20, 4))
        other = made.site(Kind.ACTIVATION, "tanh", "other", interval=(-2.0, 2.0))
        made.record(other, Role.INPUT, normal(1.0, 20, 4), steps=[0, 3])
        charts.save(charts.chart(report(trace=made.trace), "activations", 4), tmp_path / "x.svg")
        assert sorted(re.findall(r">(step \d+): ", (tmp_path / "x.svg").read_text(encoding="utf-8"))) == [
            "step 3",
            "step 4",
        ]

    @pytest.mark.parametrize("name", ["activations", "dead-units"])
    def test_of_many_places_those_that_findings_name_are_shown_and_the_number_is_said(self, name):
        made = TraceBuilder(range(1))
        sites = [made.activation("tanh", f"act{k}", pre=normal(1.0, 20, 4)) for k in range(20)]
        blamed = finding(site_index=sites[17].index)
        for found, text, last in (
            ((), "12 of 20 places", "act11"),
            ((blamed,), "12 of 20 places, those that", "act17"),
        ):
            spec = charts.chart(report(*found, trace=made.trace), name).to_dict()
            assert spec["facet"]["header"]["title"].startswith(text)
            assert len(spec["facet"]["sort"]) == panels.PANELS
            assert spec["facet"]["sort"][-1].startswith(last)
        few = charts.chart(report(trace=trace()), name).to_dict()
        assert few["facet"]["header"]["title"] is None

    @pytest.mark.parametrize("name", charts.NAMES)
    def test_each_is_what_its_schema_says(self, full, name):
        spec = charts.chart(full, name).to_dict()  # Altair holds it against Vega-Lite's schema
        assert spec["title"] == f"{charts.NAMES[name]} · train.py"

    def test_the_loss_has_its_baseline_and_the_findings_steps(self, full):
        text = json.dumps(charts.chart(full, "loss").to_dict())
        assert "baseline 3.3 (uninformative predictions)" in text
        assert '"text": "warning: A001 saturated", "step": 0, "end": 9' in text

    def test_an_unbounded_interval_ends_with_the_histogram(self):
        made = TraceBuilder(range(1))
        made.activation("relu", pre=normal(1.0, 50, 4))
        spec = charts.chart(report(trace=made.trace), "activations").to_dict()
        rows: list[Any] = []
        without_data(spec, rows)
        assert rows[0]["low"] == 0.0
        assert 1.0 < rows[0]["high"] < 10.0

    @pytest.mark.parametrize(("op", "colour"), [("tanh", style.ORANGE), ("relu", style.GREY)])
    def test_what_a_rectifier_switches_off_is_not_marked_as_saturated(self, op, colour, tmp_path):
        made = TraceBuilder(range(1))
        made.activation(op, pre=normal(3.0, 400, 4))
        full = report(trace=made.trace)
        charts.save(charts.chart(full, "activations"), tmp_path / "x.svg")
        bars = re.findall(r'fill="(#[0-9a-f]{6})" opacity="0.85"', (tmp_path / "x.svg").read_text(encoding="utf-8"))
        assert set(bars) == {style.BLUE, colour}
        legend = json.dumps(charts.chart(full, "saturation").to_dict())
        assert ("switched off (about half is usual)" in legend) == (op == "relu")
        assert ('"title": "saturated"' in legend) == (op == "tanh")

    def test_a_bar_across_an_end_of_the_interval_has_both_colours(self, tmp_path):
        made = TraceBuilder(range(1))
        values = normal(3.0, 2_000, 4)
        site = made.activation("tanh", pre=values)
        full = report(trace=made.trace)
        charts.save(charts.chart(full, "activations"), tmp_path / "x.svg")
        text = (tmp_path / "x.svg").read_text(encoding="utf-8")
        areas = dict.fromkeys((style.BLUE, style.ORANGE), 0.0)
        for path, colour in re.findall(r'd="(M[^"]*)" fill="(#[0-9a-f]{6})" opacity="0.85"', text):
            width, height = map(float, re.fullmatch(r"M\S+,\S+h(\S+)v(\S+)h\S+Z", path).groups())
            areas[colour] += width * height
        outside = made.trace.summary(site, Role.INPUT, 0).outside_fraction
        assert areas[style.ORANGE] / sum(areas.values()) == pytest.approx(outside, abs=0.012)  # tails of 0.5 % each

    @pytest.mark.parametrize("name", ["dead-units", "activations"])
    def test_each_small_chart_has_its_note(self, full, name, tmp_path):
        charts.save(charts.chart(full, name), tmp_path / "x.svg")
        text = (tmp_path / "x.svg").read_text(encoding="utf-8")
        note = {"dead-units": "1 of 6 units saturated at every step shown", "activations": "% saturated"}[name]
        assert text.count(f"{note}</t") == 3

    def test_a_layer_without_a_scale_has_a_mark(self, full, tmp_path):
        made = TraceBuilder(range(1))
        for k, values in enumerate((normal(1.0, 20, 4), np.zeros((20, 4)), normal(1.0, 20, 4))):
            made.layer(f"fc{k}", weight=normal(1.0, 4, 4), output=values)
        for number, (shown, marks) in enumerate(((full, 0), (report(trace=made.trace), 2))):  # of first and last step
            path = tmp_path / f"{number}.svg"
            charts.save(charts.chart(shown, "depth"), path)
            assert path.read_text(encoding="utf-8").count(">✗</text>") == marks

    def test_names_of_the_program_are_data_and_never_expressions(self):
        hostile = "'); alert(1); ('"
        spec = charts.chart(report(trace=trace(name=hostile)), "updates").to_dict()
        rows: list[Any] = []
        assert "alert" not in json.dumps(without_data(spec, rows))
        assert hostile in json.dumps(rows)

    def test_many_lines_are_coloured_by_depth(self):
        made = TraceBuilder(range(3))
        for k in range(charts.FEW + 1):
            layer = made.layer(f"fc{k}", weight=normal(1.0, 4, 4))
            made.record(made.trace.sites[layer.parameters[0]], Role.UPDATE, normal(1e-3, 4, 4))
        text = json.dumps(charts.chart(report(trace=made.trace), "updates").to_dict())
        assert '"viridis"' in text
        assert '"strokeDash": {"field"' not in text


class TestSave:
    def test_as_png_and_svg(self, full, tmp_path):
        made = charts.chart(full, "depth")
        charts.save(made, tmp_path / "x.png", scale=1)
        charts.save(made, tmp_path / "x.SVG")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "x.SVG").read_text(encoding="utf-8").startswith("<svg")

    def test_as_a_page_that_loads_nothing(self, full, tmp_path):
        charts.save(charts.chart(full, "loss"), tmp_path / "x.html")
        text = (tmp_path / "x.html").read_text(encoding="utf-8")
        assert "<script src=" not in text
        assert "vegaEmbed" in text

    def test_below_a_folder_that_is_not_there(self, full, tmp_path):
        with pytest.raises(OSError, match="No such file"):
            charts.save(charts.chart(full, "depth"), tmp_path / "none" / "x.svg")


@pytest.mark.parametrize("page", style.PAGES)
@pytest.mark.parametrize("colour", style.COLOURS)
def test_colours_stand_out_on_both_pages(colour, page):
    assert contrast(colour, page) >= 3.0
