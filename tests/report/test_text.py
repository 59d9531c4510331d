"""The terminal's rendering."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.helpers import TraceBuilder
from unstuck.findings import Severity
from unstuck.fixes.fix import Proof
from unstuck.report import NotChecked, Report
from unstuck.report.text import MOST_LINES, place, source_line
from unstuck.trace import Location, Trace, Watching

from .made import finding, fix, report

UNSCALED = {"code": "I002", "name": "unscaled-weights", "site": "W1", "explains": ("A001", "A002")}


def lines(made: Report, **options) -> list[str]:
    return made.render("text", **options).splitlines()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A line of a script in the current folder."""
    path = tmp_path / "train.py"
    path.write_text("import torch\n    h = torch.tanh(x @ W1)  # [bold]\n")
    monkeypatch.chdir(tmp_path)
    return Location(str(path), 2)


class TestVerdict:
    @pytest.mark.parametrize(("steps", "said"), [(0, "0 steps"), (1, "1 step"), (20000, "20,000 steps")])
    def test_healthy(self, steps, said):
        assert lines(report(steps=steps))[0] == f"unstuck: no fault found in {said} of train.py"

    def test_information_is_no_fault(self):
        made = report(finding("N001", "redundant-bias", severity=Severity.INFO))
        assert lines(made)[0] == "unstuck: no fault found in 10 steps of train.py"
        assert lines(made)[1] == "i N001 redundant-bias  /home/user/train.py:3: 60 % of the outputs are saturated"

    def test_one_root_cause(self):
        assert lines(report(finding()))[0] == "unstuck: 1 root cause (A001) in 10 steps of train.py"

    def test_several_in_causal_order_one_for_all_places_of_a_code(self):
        made = report(finding(), finding(site="other"), finding(**{**UNSCALED, "explains": ()}))
        assert lines(made)[0] == "unstuck: 2 root causes (I002, A001) in 10 steps of train.py"

    def test_symptoms_are_no_causes(self):
        made = report(finding(), finding(**UNSCALED))
        assert lines(made)[0] == "unstuck: 1 root cause (I002) in 10 steps of train.py"

    def test_never_trained_says_nothing_else(self):
        made = report(trace=Trace(), not_checked=(NotChecked("A001", "saturated", "a backward pass"),))
        assert lines(made) == ["unstuck: no backward pass was seen in train.py: nothing to judge"]


class TestCauses:
    def test_a_finding_with_place_message_line_and_remedy(self, source):
        made = report(finding(location=source, fixes=("rescale-weights", "lower-rate"), severity=Severity.ERROR))
        assert lines(made)[1:6] == [
            "",
            "✗ A001 saturated  train.py:2",
            "  60 % of the outputs are saturated",
            "  │ h = torch.tanh(x @ W1)  # [bold]",
            "  remedy: rescale-weights, lower-rate (unstuck rule A001)",
        ]

    def test_without_place_the_site_is_named(self):
        made = report(finding(location=None, site="the run"))
        assert lines(made)[2:4] == ["! A001 saturated  the run", "  60 % of the outputs are saturated"]
        assert "remedy" not in made.render()

    def test_a_file_that_is_gone_has_no_excerpt(self):
        assert "│" not in report(finding()).render()

    def test_the_root_stands_before_its_symptoms(self):
        made = report(
            finding(message="saturated here"),
            finding(message="saturated there", location=None, site="b"),
            finding("A002", "dead-units", message="dead"),
            finding(**UNSCALED, message="weights too large"),
        )
        assert lines(made)[2:8] == [
            "! I002 unscaled-weights  /home/user/train.py:3",
            "  weights too large",
            "  explains A001 saturated ×2, A002 dead-units:",
            "    A001 /home/user/train.py:3: saturated here",
            "    A002 /home/user/train.py:3: dead",
            "",
        ]
        assert lines(made, verbose=True)[5:8] == [
            "    A001 /home/user/train.py:3: saturated here",
            "    A001 saturated there",
            "    A002 /home/user/train.py:3: dead",
        ]

    def test_other_places_of_the_fault_are_named_with_their_numbers(self):
        made = report(*(finding(site=f"tanh #{i}", measured=i / 8, unit="%") for i in range(1, 4)))
        assert lines(made)[4] == "  also at tanh #2 (0.25 %), tanh #3 (0.375 %)"
        assert made.render().count("60 % of the outputs") == 1

    def test_many_other_places_are_counted(self):
        made = report(*(finding(site=f"t{i}", measured=i) for i in range(10)))
        assert lines(made)[4] == "  also at t1 (1), t2 (2), t3 (3), t4 (4), t5 (5), t6 (6) and 3 more"

    def test_text_of_the_users_program_is_no_markup(self):
        made = report(finding(message="weights of [bold]x[/bold] :smile: [/]", location=None, site="[red]y"))
        assert lines(made)[2:4] == ["! A001 saturated  [red]y", "  weights of [bold]x[/bold] :smile: [/]"]


class TestFixes:
    def test_none_no_section(self):
        assert "mended" not in report().render()

    def test_what_was_mended_with_numbers_and_snippet(self, source):
        made = report(fixes=(fix(location=source), fix(location=None, unit="nat", before=27.88164, after=3.3)))
        at = lines(made).index("mended before the first step:")
        assert lines(made)[at - 1 : at + 9] == [
            "",
            "mended before the first step:",
            "  I002 rescale-weights: W1, b1 (train.py:2): pre-activation std 5.432 → 1",
            "      W1.data *= 0.184",
            "      b1.data *= 0.184",
            "  I002 rescale-weights: W1, b1: pre-activation std 27.88 → 3.3 nat",
            "      W1.data *= 0.184",
            "      b1.data *= 0.184",
            "  not proven on trial: compare the loss with a run without",
            "",
        ]

    def test_while_it_trained_the_step_and_no_number_where_none_was_measured(self):
        made = lines(report(fixes=(fix(location=None, step=7, after=None, snippet=""),)))
        at = made.index("mended while it trained:")
        assert made[at + 1 : at + 4] == [
            "  I002 rescale-weights: W1, b1 after step 7: pre-activation std 5.432 → not measured again",
            "  not proven on trial: compare the loss with a run without",
            "",
        ]
        assert "mended before the first step:" not in made

    def test_that_training_began_again_and_what_was_not_judged_since(self):
        missing = (NotChecked("I002", "unscaled-weights", "the start"), NotChecked("A001", "saturated", "a step"))
        made = report(fixes=(fix(location=None, step=41, restarted=True),), not_checked=missing).render(width=120)
        assert "  I002 rescale-weights: W1, b1 after step 41, training began again: pre-activation std" in made
        assert " ".join(made.split()).count(
            "not proven on trial: compare the loss with a run without; training began again: parameters put back to "
            "the start, optimizer state cleared; not checked since: I002 unscaled-weights"
        ) == 1  # fmt: skip

    def test_nothing_of_that_is_said_of_a_fix_with_a_proof(self):
        made = report(fixes=(fix(proof=Proof(9, 2.0, 1.0, gone=True)),)).render()
        assert "not proven" not in made
        assert "began again" not in made

    @pytest.mark.parametrize(("gone", "said"), [(True, "the finding is gone"), (False, "the finding is still made")])
    def test_what_was_tried_and_put_back_gives_its_reason_instead_of_a_snippet(self, gone, said):
        proof = Proof(200, 0.51234, math.inf, gone)
        made = lines(report(fixes=(fix(location=None, proof=proof, kept=False, why="the loss became worse"),)))
        at = made.index("tried, and put back:")
        assert made[at + 1 : at + 5] == [
            "  I002 rescale-weights: W1, b1: pre-activation std 5.432 → 1",
            f"      loss after 200 steps 0.5123 → inf, {said}",
            "      the loss became worse",
            "",
        ]
        assert not any(line.startswith("mended") for line in made)

    def test_what_was_kept_stands_before_what_was_put_back(self):
        made = lines(report(fixes=(fix(kept=False, why="no"), fix(step=3), fix(proof=Proof(9, 2.0, 1.0, gone=True)))))
        titles = ["mended before the first step:", "mended while it trained:", "tried, and put back:"]
        assert [line for line in made if line in titles] == titles
        assert "      loss after 9 steps 2 → 1, the finding is gone" in made

    def test_what_was_withheld_and_why(self):
        made = report(withheld=("rescale-weights at train.py:3: the script loaded weights",))
        assert "\nnot mended: rescale-weights at train.py:3: the script loaded weights\n" in made.render()


class TestNotChecked:
    def test_silence_means_checked(self):
        assert "not checked" not in report().render()

    def test_rules_and_what_they_lacked(self):
        missing = (NotChecked("A001", "saturated", "an activation function"), NotChecked("N001", "x", "a norm"))
        made = lines(report(finding(), not_checked=missing))
        at = made.index("not checked:")
        assert made[at + 1 : at + 3] == [
            "  A001 saturated: needs an activation function",
            "  N001 x: needs a norm",
        ]

    def test_rules_that_lacked_the_same_share_a_line(self):
        missing = [NotChecked(code, "x", "a norm" if code[0] == "N" else "a loss") for code in ("N001", "L002", "N003")]
        made = lines(report(finding(), not_checked=tuple(missing)))
        at = made.index("not checked:")
        assert made[at + 1 : at + 3] == ["  N001, N003: need a norm", "  L002 x: needs a loss"]

    def test_many_needs_are_listed_when_asked(self):
        codes = ("A007", "D001", "D002", "D003", "D005", "G001", "G002")
        made = report(
            finding(), not_checked=tuple(NotChecked(code, "x", f"what {code[:1]} needs") for code in codes[:6])
        )
        assert "not checked:" in made.render()
        made = report(finding(), not_checked=tuple(NotChecked(code, "x", f"what {code} needs") for code in codes))
        short = " ".join(made.render().split())
        assert "7 rules not checked, for what they need was not there (-v says what):" in short
        assert "A007, D001–D003, D005, G001, G002 " in short
        long = made.render(verbose=True)
        assert all(f"  {code} x: needs what {code} needs\n" in long for code in codes)

    def test_a_healthy_run_only_counts_them(self):
        made = report(not_checked=(NotChecked("A001", "saturated", "a step"), NotChecked("N001", "x", "a norm")))
        assert lines(made)[-1].endswith("; 2 rules not checked (-v says why)")
        assert "  N001 x: needs a norm" in lines(made, verbose=True)


class TestLength:
    """Of a report that is not verbose: five lines for a healthy run, `MOST_LINES` for a sick one."""

    def test_a_healthy_run_with_all_that_can_be_said_of_it(self):
        remarks = [finding("N001", "redundant-bias", severity=Severity.INFO, site=site) for site in "ab"]
        remarks.append(finding("D005", "imbalanced-labels", severity=Severity.INFO, location=None, site="the run"))
        b = TraceBuilder(range(10))
        b.trace.facts.watching = Watching(
            seconds=3.0, training_seconds=100.0, loading_seconds=0.4, steps=5_000, sampled=60, guaranteed=46,
            guaranteed_seconds=1.9, unwatched_seconds=0.05, sample_seconds=0.05, step_seconds=0.02, budget=0.01,
        )  # fmt: skip
        made = report(*remarks, trace=b.trace, not_checked=(NotChecked("A001", "saturated", "x"),), steps=5_000)
        made = replace(made, silenced=(finding(), finding(site="b")))
        first, remark, losses, cost, warning = lines(made)
        assert first == "unstuck: no fault found in 5,000 steps of train.py"
        assert remark == (
            "i D005 imbalanced-labels  the run, N001 redundant-bias  /home/user/train.py:3 and 1 more (-v says more)"
        )
        assert losses.endswith("; silenced: A001 saturated ×2; 1 rule not checked (-v says why)")
        assert cost.startswith("watching cost 3.0 s")
        assert warning.startswith("warning: ")

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


class TestRun:
    def test_losses_sampling_and_time(self):
        b = TraceBuilder(range(10))
        b.loss(value=27.88164, baseline=3.29584)
        b.trace.objective.update({**dict.fromkeys(range(400), 2.5), 0: 27.88164})
        b.trace.facts.watching = Watching(0.21, 26.3, 0.4, 1_400, 142, budget=0.01)
        assert lines(report(trace=b.trace, steps=1_400))[-2:] == [
            "loss 27.8816 at step 0 (baseline 3.2958); 2.5000 over the last 100 steps",
            "watching cost 0.21 s, 0.8 % of 26.3 s of training (142 of 1,400 steps sampled; "
            "0.40 s to load not counted)",
        ]

    def test_without_baseline_or_time(self):
        assert lines(report())[-1] == ("loss 1.0000 at step 0; 1.0000 over the last 10 steps; 10 of 10 steps sampled")

    def test_one_step_has_no_recent_loss(self):
        made = report(trace=TraceBuilder(range(1)).trace, steps=1)
        assert lines(made)[-1] == "loss 1.0000 at step 0; 1 of 1 steps sampled"

    def test_an_internal_error_is_told(self):
        trace = TraceBuilder(range(2)).trace
        trace.facts.internal_error = "KeyError: 'x' (session.py:3)"
        assert "\nwatching ended early by an internal error: KeyError: 'x' (session.py:3)\n" in (
            report(trace=trace).render()
        )


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
