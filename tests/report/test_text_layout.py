"""The terminal's rendering: how long it is, how it is wrapped, what it shows of places."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.helpers import TraceBuilder
from unstuck.findings import Severity
from unstuck.report import NotChecked, Report
from unstuck.report.text import MOST_LINES, place, source_line
from unstuck.rules.catalogue import all_rules
from unstuck.trace import Location, Watching

from .made import finding, fix, lines, report

UNSCALED = {"code": "I002", "name": "unscaled-weights", "site": "W1", "explains": ("A001", "A002")}


class TestLength:
    """Of a report that is not verbose: three lines for a healthy run, `MOST_LINES` for a sick one.

    An empty line comes before them and a hint after.
    """

    @pytest.mark.parametrize("unfinished", ["", "broken off"])
    def test_a_healthy_run_with_all_that_can_be_said_of_it(self, unfinished):
        remarks = [finding("N001", "redundant-bias", severity=Severity.INFO, site=site) for site in "ab"]
        remarks.append(finding("D005", "imbalanced-labels", severity=Severity.INFO, location=None, site="the run"))
        b = TraceBuilder(range(10))
        b.trace.facts.watching = Watching(
            seconds=3.0, training_seconds=100.0, loading_seconds=0.4, steps=5_000, sampled=60, guaranteed=46,
            guaranteed_seconds=1.9, unwatched_seconds=0.05, sample_seconds=0.05, step_seconds=0.02, budget=0.01,
        )  # fmt: skip
        made = report(*remarks, trace=b.trace, not_checked=(NotChecked("A001", "saturated", "x"),), steps=5_000)
        made = replace(made, silenced=(finding(), finding(site="b")), run=replace(made.run, unfinished=unfinished))
        first, remark, rest = lines(made)
        assert first.startswith("unstuck: no fault found in 5,000 steps of train.py")
        assert remark == (
            "i D005 imbalanced-labels  the run, N001 redundant-bias  /home/user/train.py:3 and 1 more (-v says more)"
        )
        losses, cost, warning = (
            rest.partition("; watching cost ")[0],
            *rest.split("; watching cost ")[1].split("; warning: "),
        )
        assert losses.endswith("silenced: A001 saturated ×2; 1 rule not checked (-v says why)")
        assert cost.startswith("3.0 s")
        assert warning.startswith("more than the 1 % allowed")
        b.trace.facts.internal_error = "KeyError: 'x'\nline"
        assert lines(made)[2] == f"watching ended early by an internal error: KeyError: 'x' line; {rest}"
        first, losses, cost = lines(replace(made, findings=(), causes=()))
        assert losses.endswith("(-v says why)")
        assert cost.startswith("watching cost 3.0 s")

    def test_what_no_shortening_makes_short_enough_is_cut(self):
        found = [finding(code, "x" * 30, site=f"s{n}", message="word " * 60) for n, code in enumerate(all_rules())]
        fixes = tuple(fix(site=f"W{n}", name=f"mending-{n}", kept=kept) for n in range(40) for kept in (True, False))
        made = report(*found, fixes=fixes, withheld=("why",) * 9, seconds=3.0, exit_code=1)
        made.trace.facts.internal_error = "KeyError"
        for width in (20, 40, 100):
            text = lines(made, width=width)
            assert len(text) == MOST_LINES
            assert text[0].startswith(f"unstuck: {len(found)} root causes")
            assert text[-5].startswith("… ")
            assert text[-5].endswith(" lines left out (-v says all)")
            assert "10 of 10 steps sampled" in text[-1]

    def test_a_run_sick_in_many_places(self):
        found = [
            finding(code, name, site=f"{code}{place}", message=f"{code} at {place} " + "measured " * 25, explains=names)
            for code, name, names in (
                ("I002", "unscaled-weights", ("A001", "A002", "A003", "G001")),
                ("L001", "overconfident-start", ()),
                ("A001", "saturated", ()),
                ("A002", "dead-units", ()),
                ("A003", "dead-layer", ()),
                ("G001", "vanishing-gradients", ()),
                ("U001", "oversized-updates", ()),
                ("U002", "undersized-updates", ()),
            )
            for place in range(40)
        ]
        fixes = tuple(fix(site=f"W{n}", snippet=f"W{n}.data *= 0.5") for n in range(30))
        withheld = tuple(f"rescale-weights at train.py:{n}: why" for n in range(20))
        missing = tuple(NotChecked(f"N00{n}", "x", f"what {n} needs") for n in range(1, 10))
        made = report(*found, fixes=fixes, withheld=withheld, not_checked=missing)
        text = made.render()
        assert len(lines(made)) <= MOST_LINES
        for root in (cause.root for cause in made.causes):
            assert root.code in text
            assert "/home/user/train.py:3" in text
        assert "I002 at 0 measured" in text
        assert "rescale-weights: W0 (/home/user/train.py:3): pre-activation std 5.432 → 1" in " ".join(text.split())
        long = made.render(verbose=True)
        for cause in made.causes:
            assert all(f"{other.site} (0.6)" in " ".join(long.split()) for other in cause.also)
            assert all(f"{symptom.code} at {symptom.site[4:]} measured" in long for symptom in cause.symptoms)
        assert all(f"W{n}.data *= 0.5\n" in long for n in range(30))
        assert all(f"not mended: rescale-weights at train.py:{n}: why\n" in long for n in range(20))

    def test_fixes_of_one_kind_are_counted(self):
        made = lines(report(fixes=tuple(fix(site=f"W{n}", before=n) for n in range(1, 9))))
        at = made.index("mended before the first step:")
        assert [line.strip() for line in made[at + 1 : at + 8]] == [
            "I002 rescale-weights: W1 (/home/user/train.py:3): pre-activation std 1 → 1",
            "W1.data *= 0.184",
            "b1.data *= 0.184",
            "I002 rescale-weights: W2 (/home/user/train.py:3): pre-activation std 2 → 1",
            "W1.data *= 0.184",
            "b1.data *= 0.184",
            "I002 rescale-weights: 6 more (-v says all): W3 3 → 1, W4 4 → 1, W5 5 → 1 …",
        ]

    def test_a_name_of_ten_thousand_letters(self):
        made = report(*(finding(code, "x", site="s" * 10_000, message="m" * 10_000) for code in ("A001", "I002")))
        assert len(lines(made)) <= MOST_LINES
        assert "m" * 10_000 in re.sub(r"\s", "", made.render(verbose=True))

    def test_information_beside_a_fault_is_one_line(self):
        made = lines(report(finding(), finding("N001", "redundant-bias", severity=Severity.INFO)))
        assert made[4:6] == ["", "i N001 redundant-bias  /home/user/train.py:3: 60 % of the outputs are saturated"]


def everything(message: str = "a long message " * 20) -> Report:
    return report(
        finding(message=message),
        finding(**UNSCALED, message=message, fixes=("rescale-weights",)),
        finding("N001", "redundant-bias", severity=Severity.INFO, message=message),
        fixes=(fix(),),
        withheld=("shrink-output-layer: why not",),
        not_checked=(NotChecked("U001", "oversized-updates", "parameters before and after an update"),),
        seconds=3.0,
    )


class TestLayout:
    @pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
    def test_messages_are_wrapped_to_the_width(self, width):
        made = lines(everything(), width=width)
        indented = [line for line in made if line.startswith("  ")]
        assert indented
        assert max(map(len, indented)) <= width

    def test_a_word_longer_than_the_width_is_broken(self):
        broken = [line for line in lines(report(finding(message="x" * 500)), width=60) if "xx" in line]
        assert max(map(len, broken)) == 60
        assert sum(line.count("x") for line in broken) == 500

    def test_headings_are_not_wrapped_so_that_places_stay_clickable(self):
        far = Location("/very/long" * 20 + "/train.py", 3)
        assert f"! A001 saturated  {far.file}:3" in lines(report(finding(location=far)), width=40)

    @pytest.mark.parametrize("width", [40, 100])
    def test_no_line_ends_in_space_and_the_text_ends_in_one_newline(self, width):
        text = everything().render(width=width)
        assert not re.search(r"[ \t]+$", text, re.MULTILINE)
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "\n\n\n" not in text

    def test_no_escape_codes_unless_asked(self):
        assert "\x1b" not in everything().render()
        assert "\x1b[" in everything().render(color=True)

    def test_colour_changes_no_word(self):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", everything().render(color=True))
        assert [line.rstrip() for line in plain.splitlines()] == lines(everything())

    def test_no_colour_whatever_the_environment_says(self, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "20")
        assert "\x1b" not in everything().render()
        assert max(map(len, lines(everything()))) > 20

    @given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1), st.integers(30, 120))
    def test_any_message_is_printed_in_full(self, message, width):
        text = report(finding(message=message), finding(**UNSCALED)).render(width=width)
        assert re.sub(r"\s", "", message) in re.sub(r"\s", "", text)


class TestPlace:
    def test_relative_where_that_is_shorter(self, source):
        assert place(source) == "train.py:2"

    def test_absolute_where_that_is_shorter(self, source):
        assert place(Location("/t.py", 1)) == "/t.py:1"

    def test_no_file(self):
        assert place(None) == ""
        assert place(Location("<stdin>", 4)) == "<stdin>:4"


class TestSourceLine:
    def test_stripped(self, source):
        assert source_line(source) == "h = torch.tanh(x @ W1)  # [bold]"

    def test_nothing_where_there_is_none(self, source):
        assert source_line(None) == ""
        assert source_line(Location(source.file, 99)) == ""
        assert source_line(Location("/no/such/file.py", 1)) == ""
