"""The terminal's rendering: what it says."""

from __future__ import annotations

import math

import pytest

from rules.helpers import TraceBuilder
from rules.ranks.several import merged
from unstuck.findings import Severity
from unstuck.fixes.fix import Proof
from unstuck.report import NotChecked
from unstuck.trace import Trace, Watching

from .made import finding, fix, lines, report

BROKE_OFF = "broke off (its record ends here: the process was killed or could not write)"
UNSCALED = {"code": "I002", "name": "unscaled-weights", "site": "W1", "explains": ("A001", "A002")}


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

    def test_a_stored_run_without_an_end_says_so(self):
        assert (
            lines(report(unfinished="running"))[0]
            == "unstuck: no fault found in 10 steps of train.py, which still runs"
        )
        broken = lines(report(finding(), unfinished="broken off"))
        assert broken[0] == f"unstuck: 1 root cause (A001) in 10 steps of train.py, which {BROKE_OFF}"

    @pytest.mark.parametrize(
        ("run", "said"),
        [
            ({"exit_code": 3}, ", which ended with exit code 3"),
            ({"exit_code": 1, "exception": "KeyError: 'x'"}, ", which ended with exit code 1 (KeyError: 'x')"),
            ({"exit_code": 130, "signal": "SIGINT"}, ", which was interrupted (Ctrl-C)"),
            ({"exit_code": 143, "signal": "SIGTERM"}, ", which was ended by SIGTERM"),
            ({"exception": "KeyError: 'x'"}, ", which ended with KeyError: 'x'"),
            ({"unfinished": "broken off"}, f", which {BROKE_OFF}"),
        ],
    )
    def test_an_end_that_is_none_is_said_and_is_not_green(self, run, said):
        made = report(**run)
        assert lines(made)[0] == f"unstuck: no fault found in 10 steps of train.py{said}"
        assert made.render("text", color=True).startswith("\x1b[1;33m")  # bold yellow
        assert report(exit_code=0).render("text", color=True).startswith("\x1b[1;32m")  # bold green
        assert lines(report(trace=Trace(), **run)) == [
            f"unstuck: no backward pass was seen in train.py{said}: nothing to judge"
        ]

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

    def test_losses_of_ranks(self):
        b, _ = merged(rank_loss=lambda step: [2.0, math.nan, 1.5, 2.5])
        said = lines(report(trace=b.trace))
        assert any(
            "over the last 10 steps; its ranks 50 % apart (rank 2 lowest, rank 3 highest)" in line for line in said
        )
        assert "rank" not in str(report())

    def test_one_step_has_no_recent_loss(self):
        made = report(trace=TraceBuilder(range(1)).trace, steps=1)
        assert lines(made)[-1] == "loss 1.0000 at step 0; 1 of 1 steps sampled"

    def test_an_internal_error_is_told(self):
        trace = TraceBuilder(range(2)).trace
        trace.facts.internal_error = "KeyError: 'x' (session.py:3)"
        said = "\nwatching ended early by an internal error: KeyError: 'x' (session.py:3)"
        assert f"{said}; loss 1.0000 at step 0; " in report(trace=trace).render()
        assert f"{said}\n" in report(finding(), trace=trace).render()
