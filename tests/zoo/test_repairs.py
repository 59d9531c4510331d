"""What `python -m zoo.evaluate --fix` makes of programs that were mended, and of those that were left alone."""

import json
import math
from pathlib import Path

import pytest
from zoo.collection import Program
from zoo.processes import Processes, ProgramError
from zoo.repairs import LeftAlone, Repair, as_data, fixed_run, leave_alone, measure, plain_run, repair, report

from zoo import evaluate, fix_one, repairs

FAULTY = Path(__file__).resolve().parents[2] / "zoo" / "faulty"


def made(faulty=2.0, repaired=1.0, fixed=1.0, *, gone=True, name="p", root="I002", offered=True, **fields):
    patched = fields.pop("patched", False)
    return Repair(name, root, faulty, repaired, fixed, gone, offered, patched, fields.pop("fixes", ("x",)), **fields)


def cells(text, name):
    """The cells of a table's row."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return line.strip("| ").split(" | ")


class TestRepaired:
    @pytest.mark.parametrize("repaired", [1.21, 2.0, 2.5, math.inf])
    def test_not_with_less_than_most_of_the_gap_closed(self, repaired):
        assert not made(repaired=repaired).is_repaired

    def test_not_while_the_finding_is_there(self):
        assert not made(gone=False).is_repaired

    def test_not_when_it_got_worse_though_there_was_no_gap(self):
        one = made(faulty=1.0, fixed=1.0, repaired=1.06)
        assert one.closed(1.06) is None
        assert (one.is_worse, one.is_repaired) == (True, False)

    @pytest.mark.parametrize("repaired", [1.0, 1.2, 0.5])
    def test_with_80_percent_and_more(self, repaired):
        one = made(repaired=repaired)
        assert one.closed(repaired) == pytest.approx(2 - repaired)
        assert one.is_repaired

    def test_not_when_the_rule_was_not_checked_again(self):
        assert not made(gone=False, judged=False).is_repaired

    @pytest.mark.parametrize("repaired", [1.0, 1.04])
    def test_not_without_a_gap_for_there_is_nothing_to_win(self, repaired):
        one = made(faulty=1.0, repaired=repaired, noise=0.05)
        assert (one.has_gap, one.is_worse, one.is_repaired) == (False, False, False)

    @pytest.mark.parametrize(
        ("repaired", "share"), [(1.0, 1.0), (1.2, 1.0), (1.21, 0.0), (math.inf, 0.0)], ids=lambda value: str(value)
    )
    def test_of_a_run_that_broke(self, repaired, share):
        one = made(faulty=math.inf, repaired=repaired)
        assert one.closed(repaired) == share
        assert (one.is_repaired, one.is_worse) == (share == 1.0, False)

    def test_where_the_twin_breaks_as_well_there_is_no_gap(self):
        assert made(faulty=math.inf, fixed=math.inf).closed(3.0) is None

    def test_a_mended_program_that_breaks_is_worse(self):
        assert made(repaired=math.inf).is_worse
        assert not made(faulty=math.inf, repaired=math.inf).is_worse


class TestTables:
    def test_rates(self):
        good, left = made(name="a"), made(name="b", repaired=1.9, gone=False, fixes=(), withheld=("no", "never"))
        worse = made(name="c", repaired=3.0, patched=True)
        text = report([good, left, worse, made(name="d", offered=False)], [])
        assert cells(text, "all") == ["all", "3", "0", "33 %", "67 %", "0", "10 %", "1"]
        assert cells(text, "in flight") == ["in flight", "2", "0", "50 %", "50 %", "0", "55 %", "0"]
        assert cells(text, "by a patch") == ["by a patch", "1", "0", "0 %", "100 %", "0", "-100 %", "1"]
        assert cells(text, "x") == ["x", "2", "0", "1", "0", "1"]
        assert cells(text, "a") == ["a", "I002", "x", "2", "1", "1", "100 %", "yes", "yes"]
        assert cells(text, "b") == ["b", "I002", "none (no; never)", "2", "1.9", "1", "10 %", "no", "no"]
        assert not [line for line in text.splitlines() if line.startswith("| d |")]

    def test_nothing_measured(self):
        assert cells(report([], []), "all") == ["all", "0", "0", "–", "–", "0", "–", "0"]

    def test_what_was_not_judged_again_and_what_costs_nothing_count_apart(self):
        unknown, free = made(name="a", gone=False, judged=False), made(name="b", faulty=1.0)
        text = report([unknown, free, made(name="c")], [])
        assert cells(text, "all") == ["all", "3", "1", "50 %", "67 %", "1", "100 %", "0"]
        assert cells(text, "x") == ["x", "3", "1", "1", "1", "0"]
        assert cells(text, "a")[-3:] == ["100 %", "not checked", "no"]
        assert cells(text, "b")[-3:] == ["no gap", "yes", "–"]

    def test_numbers_that_are_not_finite(self):
        text = report([made(faulty=math.inf, repaired=math.inf, fixes=())], [])
        row = ["p", "I002", "none (nothing was tried)", "not finite", "not finite", "1", "0 %", "yes", "no"]
        assert cells(text, "p") == row
        assert "| no gap |" in report([made(faulty=1.0)], [])

    def test_a_working_program_that_was_touched_is_named(self):
        alone = [
            LeftAlone("zoo/a.py", "a", (), ()),
            LeftAlone("zoo/b.py", "b", ("x",), ()),
            LeftAlone("zoo/c.py", "c", (), ("y",)),
        ]
        text = report([], alone)
        assert "Of 3 working programs, 2 were offered or given a fix.\n- zoo/b.py: x\n- zoo/c.py: y" in text

    def test_other_ways_to_mend(self):
        one = made(name="a", alternatives={"kaiming": 1.5, "lsuv": 1.1})
        two = made(name="b", faulty=1.0, alternatives={"kaiming": math.inf, "lsuv": 1.0})
        text = report([one, two, made(name="c")], []).partition("with other ways to mend them")[2]
        assert cells(text, "a")[4:] == ["1 (100 %)", "1.5 (50 %)", "1.1 (90 %)"]
        assert cells(text, "b")[4:] == ["1 (no gap)", "not finite (no gap)", "1 (no gap)"]
        assert cells(text, "at least 80 % closed")[-2:] == ["0 of 1", "1 of 1"]
        assert "| c |" not in text

    def test_as_data(self):
        data = as_data(made(faulty=math.inf, alternatives={"kaiming": math.inf, "lsuv": 1.0}))
        assert (data["faulty"], data["repaired"], data["is_repaired"], data["half"]) == (None, 1.0, True, "tuned")
        assert data["alternatives"] == {"kaiming": None, "lsuv": 1.0}
        name = sorted(repairs.frozen())[0]
        key = f"zoo/faulty/{name}/fixed.py"
        assert as_data(LeftAlone(key, name, (), ()))["half"] == "frozen"


class Answers(Processes):
    """Gives a command's answer by a word in it."""

    def __init__(self, **answers):
        super().__init__()
        self.answers, self.asked = answers, []

    def run(self, command, **_):
        words = " ".join(map(str, command))
        self.asked.append(words)
        return next(text for word, text in self.answers.items() if word in words)


def done(**fields):
    result = {"exit_code": 0, "internal_error": None, "metric": "1.5", "codes": [], "fixes": ["x"], "patched": False}
    result |= {"not_checked": []}
    return "text\n" + json.dumps({**result, "offered": True, "withheld": [], "proposed": [], **fields}) + "\n"


class TestMeasuring:
    PROGRAM = Program(FAULTY / "weave-classes" / "faulty.py", "weave-classes", "I002")

    @pytest.mark.parametrize(
        ("printed", "message"),
        [
            ("", "ended before it could be judged"),
            ("{", "ended before it could be judged"),
            (done(exit_code=3), "exit code 3, None"),
            (done(internal_error="oh"), "exit code 0, oh"),
        ],
    )
    def test_a_program_that_failed(self, printed, message):
        with pytest.raises(ProgramError, match=message):
            fixed_run(self.PROGRAM, Answers(fix_one=printed))

    @pytest.mark.parametrize("printed", ["", "final_loss 1\nfinal_loss 2\n", "other 3\n"])
    def test_the_metric_must_be_printed_once(self, printed):
        with pytest.raises(ProgramError, match=r"printed [02] lines 'final_loss NUMBER', not one"):
            plain_run(self.PROGRAM, Answers(faulty=printed))

    def test_of_an_initialisation_the_alternatives_too(self):
        answers = Answers(
            fix_one=done(),
            kaiming="final_loss 1.75\n",
            lsuv="final_loss nan\n",
            fixed="final_loss 1\n",
            faulty="final_loss 2\n",
        )
        result = repair(self.PROGRAM, answers)
        assert (result.faulty, result.repaired, result.fixed) == (2.0, 1.5, 1.0)
        assert result.alternatives == {"kaiming": 1.75, "lsuv": math.inf}
        assert (result.gone, result.fixes) == (True, ("x",))
        assert "--root I002" in answers.asked[0]

    @pytest.mark.parametrize("fields", [{"patched": True}, {"codes": ["L004"]}])
    def test_of_others_not(self, fields):
        answers = Answers(fix_one=done(**fields), fixed="final_loss 1\n", faulty="final_loss inf\n")
        result = repair(self.PROGRAM._replace(root="L004"), answers)
        assert (result.faulty, result.alternatives, result.gone) == (math.inf, {}, "codes" not in fields)

    @pytest.mark.parametrize(("lacking", "seen"), [(["I002"], (False, False)), (["D001"], (True, True))])
    def test_a_rule_that_was_not_checked_again_is_not_gone(self, lacking, seen):
        answers = Answers(
            fix_one=done(not_checked=lacking, patched=True), fixed="final_loss 1\n", faulty="final_loss 2\n"
        )
        result = repair(self.PROGRAM, answers)
        assert (result.gone, result.judged) == seen

    def test_one_that_ends_worse_is_held_against_the_noise_between_seeds(self):
        answers = Answers(
            fix_one=done(patched=True, metric="2.5"),
            fixed="final_loss 1\n",
            **{"by 1": "final_loss 2.7\n", "by 2": "final_loss 1.9\n", "faulty": "final_loss 2\n"},
        )
        result = repair(self.PROGRAM, answers)
        assert result.noise == pytest.approx(0.8)
        assert not result.is_worse
        assert result._replace(noise=0.4).is_worse

    def test_without_a_fix_nothing_else_is_run(self):
        answers = Answers(fix_one=done(offered=False, fixes=[], metric=None))
        result = repair(self.PROGRAM, answers)
        assert (result.offered, result.repaired, len(answers.asked)) == (False, math.inf, 1)

    def test_a_working_program(self):
        result = leave_alone(self.PROGRAM._replace(root=None), Answers(fix_one=done(proposed=["y"])))
        assert result == LeftAlone("zoo/faulty/weave-classes/faulty.py", "weave-classes", ("x",), ("y",))

    def test_one_that_fails_does_not_cost_the_others(self, monkeypatch):
        def failing(program, processes):
            raise ProgramError("it failed")

        monkeypatch.setattr(repairs, "repair", failing)
        monkeypatch.setattr(repairs, "leave_alone", lambda program, processes: LeftAlone("k", "n", (), ()))
        working = self.PROGRAM._replace(root=None)
        assert measure([self.PROGRAM], [working], 1) == ([], [LeftAlone("k", "n", (), ())], ["it failed"])


class TestCommand:
    @pytest.mark.parametrize("option", [["--steps", "3"], ["--each"]])
    def test_options_that_make_no_sense_with_it(self, capsys, option):
        with pytest.raises(SystemExit) as left:
            evaluate.main(["--fix", *option, "lake-depths"])
        assert left.value.code == 2
        assert "leave --steps and --each out" in capsys.readouterr().err

    @pytest.mark.parametrize(("failures", "code"), [([], 0), (["p exited with 3:\nKeyError"], 1)])
    def test_tables_and_json(self, monkeypatch, capsys, tmp_path, failures, code):
        alone = [LeftAlone("zoo/b.py", "b", (), ())]
        monkeypatch.setattr(repairs, "measure", lambda *_: ([made(repaired=math.inf)], alone, failures))
        file = tmp_path / "all.json"
        assert evaluate.main(["--fix", "--json", str(file), "lake-depths"]) == code
        out = capsys.readouterr().out
        assert out.startswith("| faults | offer a fix |")
        assert ("KeyError" in out) is bool(failures)
        assert [entry.get("repaired", "-") for entry in json.loads(file.read_text())] == [None, "-"]

    def test_an_interrupt_ends_it_without_a_traceback(self, monkeypatch, capsys):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(repairs, "repair", interrupted)
        monkeypatch.setattr(repairs, "leave_alone", interrupted)
        assert evaluate.main(["--fix", "lake-depths"]) == 130
        assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


class TestOneProgram:
    """`zoo.fix_one`, in this process."""

    def test_by_a_patch(self, run_here):
        program = FAULTY / "weave-classes" / "faulty.py"
        before = program.read_bytes()
        result = fix_one.fix(program, "final_loss", "L004")
        assert (result["fixes"], result["patched"], result["offered"]) == (["drop-softmax"], True, True)
        assert (result["exit_code"], result["withheld"], "L004" in result["codes"]) == (0, [], False)
        assert float(result["metric"]) < 0.1
        assert program.read_bytes() == before
        assert len(run_here) == 2

    def test_in_flight(self, run_here):
        result = fix_one.fix(FAULTY / "blend-spectra" / "faulty.py", "final_loss", "I002")
        assert (result["fixes"], result["patched"], result["offered"]) == (["rescale-weights"], False, True)
        assert ("I002" in [*result["codes"], *result["not_checked"]], run_here) == (False, [])
        assert float(result["metric"]) < 0.4

    def test_a_working_program_is_left_alone(self, run_here):
        result = fix_one.fix(FAULTY / "weave-classes" / "fixed.py", "final_loss", None)
        assert (result["fixes"], result["proposed"], result["offered"], run_here) == ([], [], False, [])
