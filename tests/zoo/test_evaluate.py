"""The tables of `python -m zoo.evaluate`, from results made by hand, and its command line."""

import hashlib
import json
from pathlib import Path

import pytest
from zoo.collection import Program, chosen, frozen, in_part, programs
from zoo.tables import Seen, each_fault, overall, precision, rates, report
from zoo.watch_one import watch

from zoo import evaluate, processes


def seen(root=None, *, named=(), line=3, codes=None, first=None, severity="warning", name="p", lacking=None):
    roots = [{"code": code, "severity": severity, "line": 3, "message": f"{code} it is"} for code in named]
    program = Program(Path(f"zoo/{name}.py"), name, root, frozenset([root] if root else []), line)
    found = list(named) if codes is None else codes
    return Seen(program, {"roots": roots, "codes": found, "first_named": first, "not_checked": lacking or {}})


def row(text, name):
    """The cells of a table's row."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return line.strip("| ").split(" | ")


def test_a_fault_found_named_first_and_pointed_at():
    assert rates([seen("I002", named=["I002"], first=0)], [])[:5] == ["1", *["100 %"] * 4]


def test_each_way_to_fall_short():
    missed = seen("I002", first=None)
    second = seen("I002", named=["L001", "I002"], first=2)
    elsewhere = seen("I002", named=["I002"], line=4, first=2)
    assert rates([missed, second, elsewhere], []) == ["3", "67 %", "33 %", "0 %", "50 %", "0", "0", "–", "2"]


def test_a_fault_never_named_is_endlessly_late():
    never, early = seen("L001"), seen("I002", named=["I002"], first=0)
    assert rates([never, never, early], [])[-1] == "–"
    assert "2; step at which the root was first named first: – (median" in overall([never, early], [])


def test_how_many_early_faults_are_named_early():
    steps = [seen("I002", first=50), seen("T001", first=51), seen("L001", first=0), seen("N001", first=400)]
    assert "Faults of initialisation, loss and loop: 3; " in overall(steps, [])
    assert ": 50 (median; the aim is 50 at most); 2 of them by step 50." in overall(steps, [])


def test_information_is_no_alarm_and_no_claim():
    quiet, loud = seen(named=["N001"], severity="info"), seen(named=["A001", "U001"])
    assert rates([], [quiet, loud])[4:8] == ["0 %", "2", "2", "1.000"]
    assert precision([seen("N001", named=["N001"], severity="info"), quiet]) == (0, 0)


def test_a_root_that_is_information_has_a_step():
    text = report([seen("N001", named=["N001"], first=4, severity="info")], [])
    assert row(text, "N001") == ["N001", "1", "100 %", "1", "1", "1", "–", "4", "0"]


def test_precision_counts_the_reports_a_rule_led():
    right = seen("I002", named=["I002", "L001"], first=0)
    usurped = seen("A001", named=["I002", "A001"], first=0)
    working = seen(named=["L001", "I002"])
    assert precision([right, usurped, working], "I002") == (1, 2)
    assert precision([right, usurped, working], "L001") == (0, 1)
    assert precision([right, usurped, working]) == (1, 3)
    assert row(report([right, usurped], [working]), "I002")[6] == "50 % of 2"


def test_recall_of_a_rule_counts_every_program_that_expects_its_code():
    root = seen("I002", named=["I002"], first=0)
    symptom = Seen(root.program._replace(root="L001", codes=frozenset({"L001", "I002"})), root.result)
    assert row(report([root, symptom], []), "I002")[1:4] == ["2", "100 %", "1"]
    assert row(report([root, symptom], []), "L001")[1:4] == ["1", "0 %", "1"]


def test_what_is_not_as_it_should_be_is_listed():
    text = report([seen("I002", named=["L001"], name="a")], [seen(named=["A001"], name="b")])
    assert "- a: expected I002 at line 3, named L001 at 3; missing I002" in text
    assert "- zoo/b.py: A001 at line 3: A001 it is" in text
    assert row(text, "A001") == ["A001", "0", "–", "0", "0", "0", "0 % of 1", "–", "1"]


def test_each_fault_has_a_row():
    faults = [seen("I002", named=["I002"], first=7, name="a"), seen("L001", named=["L002"], name="b")]
    text = each_fault(faults)
    half = {name: "frozen" if name in frozen() else "tuned" for name in "ab"}
    assert row(text, "a") == ["a", "I002", half["a"], "7", "yes", "yes", "yes"]
    assert row(text, "b") == ["b", "L001", half["b"], "–", "no", "no", "no"]
    assert text in report(faults, [], each=True)
    assert text not in report(faults, [])


def test_what_a_rule_could_not_judge_by_a_step_is_counted_apart():
    early = seen("I002", named=["I002"], first=0, name="early")
    late = seen("L013", lacking={"L013": "200 steps", "A001": "an activation"}, name="late")
    silent = seen("L003", name="silent")
    text = report([early, late, silent], [], steps=100, whole={"late": 226, "silent": 133, "early": 0})
    _, by_step = text.split("Of the faults findable by step 100:")
    assert row(by_step, "all") == ["all", "3", "2", "50 %", "50 %", "50 %"]
    apart, missed = by_step.split("Findable, and not as it should be:")
    assert apart.strip().endswith(
        "Not findable by step 100:\n\n- late: expected L013 at line 3, named nothing at –; missing L013; "
        "L013 needs 200 steps; in the whole run named first by step 226"
    )
    assert missed.strip() == (
        "- silent: expected L003 at line 3, named nothing at –; missing L003; in the whole run named first by step 133"
    )


def test_a_symptom_that_could_not_be_judged_is_not_asked_for_by_then():
    fault = seen("I002", named=["I002"], first=0)
    fault = Seen(fault.program._replace(codes=frozenset({"I002", "L013"})), fault.result)
    assert not fault.found_what_could_be
    unchecked = Seen(fault.program, {**fault.result, "not_checked": {"L013": "200 steps"}})
    assert unchecked.found_what_could_be
    assert not unchecked.found


def test_the_collections_are_read():
    faulty, working = programs()
    assert len(faulty) >= 10
    assert len(working) >= len(faulty) + 10
    assert all(program.root and program.line and program.root in program.codes for program in faulty)
    assert all(program.key.startswith("zoo/") for program in [*faulty, *working])


def test_the_frozen_half_is_chosen_by_the_names_alone():
    names = {program.name for group in programs() for program in group}
    assert frozen() & names == {name for name in names if hashlib.sha1(name.encode()).digest()[-1] % 2 == 0}


def test_a_part_does_not_shift_when_a_program_is_added():
    faulty, _ = programs()
    newcomer = Program(Path("zoo/aa.py"), "aa", "I002")
    parts = [chosen(faulty, part=(k, 3)) for k in (1, 2, 3)]
    assert sorted(program.name for part in parts for program in part) == [program.name for program in faulty]
    assert all(len(part) >= len(faulty) // 4 for part in parts)
    for k, part in enumerate(parts, 1):
        assert [p for p in chosen([newcomer, *faulty], part=(k, 3)) if p != newcomer] == part
    assert [in_part("rain-forecast", k, 3) for k in (1, 2, 3)] == [False, True, False]


def test_halves_and_names_are_chosen():
    faulty, _ = programs()
    halves = [{program.name for program in chosen(faulty, half=half)} for half in ("tuned", "frozen")]
    assert halves[1] == frozen() & {program.name for program in faulty}
    assert halves[0].isdisjoint(halves[1])
    assert [program.name for program in chosen(faulty, names=[faulty[3].name])] == [faulty[3].name]


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/", "/3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_part_must_be_one_of_those(part, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate.main([f"--part={part}"])
    assert ended.value.code == 2
    assert f"argument --part: expected K/N with K from 1 to N, such as 1/3, got '{part}'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--jobs", "--steps"])
@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5"])
def test_a_number_must_be_one_or_more(option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate.main([f"{option}={value}"])
    assert ended.value.code == 2
    assert f"argument {option}: expected a whole number of 1 or more, got '{value}'" in capsys.readouterr().err


def test_a_program_that_fails_does_not_cost_the_others(monkeypatch, capsys, tmp_path):
    def watched(program, processes, steps):
        if program.path.name == "faulty.py":
            raise processes_error(f"{program.key} exited with 3:\nTraceback\nKeyError")
        return seen(named=["A001"], name=program.name)

    processes_error = processes.ProgramError
    monkeypatch.setattr(evaluate, "watch", watched)
    assert evaluate.main(["--jobs", "1", "--json", str(tmp_path / "all.json"), "lake-depths"]) == 1
    printed = capsys.readouterr().out
    assert "- zoo/lake-depths.py: A001 at line 3: A001 it is" in printed
    assert printed.endswith(
        "Not measured, because the program failed:\n\n- zoo/faulty/lake-depths/faulty.py exited with 3:\n"
        "      Traceback\n      KeyError\n"
    )
    assert [entry["program"] for entry in json.loads((tmp_path / "all.json").read_text())] == ["zoo/lake-depths.py"]


def test_an_interrupt_ends_it_without_a_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "watch", interrupted)
    assert evaluate.main(["lake-depths"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_the_step_and_the_limit_of_a_real_run():
    script = Path(__file__).resolve().parents[2] / "zoo" / "faulty" / "small-clinic" / "faulty.py"
    empty = watch(script, root="T005")
    assert (empty["steps"], empty["first_named"], empty["codes"]) == (0, 0, ["T005"])
    assert watch(script, root="I002")["first_named"] is None
    script = script.parents[1] / "wave-family" / "faulty.py"
    short = watch(script, root="N001", steps=12)
    assert (short["steps"], short["exit_code"], short["metric"]) == (12, 0, None)
    assert (short["first_named"], short["roots"][0]["severity"]) == (0, "info")
    assert "L013" in short["not_checked"]
