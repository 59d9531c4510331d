"""RESULTS.md is made from results.json, and that from what was measured."""

import json
from pathlib import Path

import pytest
from zoo.collection import Program, programs
from zoo.repairs import LeftAlone, Repair
from zoo.tables import Seen, report

from zoo import check, repairs, results

PAGE = f"# Title\n\nBy hand.\n\n{results.MARK}\nwritten before"


def found(code=None, *, line=29, severity="error", lacking=None, first=0):
    """What watching a program gives."""
    root = {"code": code, "severity": severity, "file": "faulty.py", "line": line, "message": f"{code} it is"}
    return {
        "exit_code": 0,
        "internal_error": None,
        "steps": 3,
        "seconds": 1.23456,
        "metric": "0.5",
        "codes": [code] if code else [],
        "roots": [root] if code else [],
        "not_checked": lacking or {},
        "first_named": first,
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A place for numbers and page, and programs that need no running."""
    monkeypatch.setattr(results, "NUMBERS", tmp_path / "results.json")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    results.PAGE.write_text(PAGE, encoding="utf-8")

    def measure(faulty, working, jobs, steps):
        seen_faulty = [Seen(p, found(None if steps else p.root, line=p.line, lacking={p.root: "more"})) for p in faulty]
        failures = ["zoo/faulty/lake-depths/fixed.py failed"] if "lake-depths" in {p.name for p in working} else []
        return seen_faulty, [Seen(p, found()) for p in working if p.name != "lake-depths"], failures

    def pairs(names, jobs):
        return [check.Result(name, "T005", float("nan"), 0.25, True) for name in names], []

    monkeypatch.setattr(results, "measure", measure)

    def mended(faulty, working, jobs):
        done = [
            Repair(
                p.name, "T005", float("inf"), 0.3, 0.25, True, True, False, ("zero",), (), {"kaiming": 0.4, "lsuv": 0.5}
            )
            for p in faulty
        ]
        return done, [LeftAlone(p.key, p.name, (), ()) for p in working], []

    monkeypatch.setattr(check, "measure", pairs)
    monkeypatch.setattr(repairs, "measure", mended)
    return tmp_path


def test_tables_are_the_same_from_the_compact_numbers():
    faulty, working = (group[:4] for group in programs())
    whole = [
        [Seen(p, found(p.root, line=p.line, lacking={p.root: "more", "Z": "x"}, first=7)) for p in faulty],
        [Seen(p, found("A001", severity="warning", first=None)) for p in working],
    ]
    numbers = json.loads(json.dumps({s.program.key: results.compact(s) for group in whole for s in group}))
    back = [results.read_back(numbers, group) for group in programs()]
    assert report(*back, each=True, steps=9) == report(*whole, each=True, steps=9)
    assert "Z" not in json.dumps(numbers[faulty[0].key]["not_checked"])


def test_measuring_some_keeps_the_others_and_what_is_by_hand(place):
    assert results.main(["--measure", "small-clinic", "stroke-images"]) == 0
    first = json.loads(results.NUMBERS.read_text())
    assert results.main(["--measure", "wave-family"]) == 0
    numbers = json.loads(results.NUMBERS.read_text())
    assert list(numbers["pairs"]) == ["small-clinic", "stroke-images", "wave-family"]
    assert first["whole"].items() < numbers["whole"].items()
    page = results.PAGE.read_text()
    assert page.startswith(f"# Title\n\nBy hand.\n\n{results.MARK}\nMeasured with torch ")
    assert "written before" not in page
    assert "| small-clinic | T005 | nan | 0.2500 | yes |" in page
    assert "| small-clinic | T005 | zero | not finite | 0.3 | 0.25 | 100 % | yes | yes |" in page
    assert "Of 3 working programs, 0 were offered or given a fix." in page
    assert "| all | 3 | 100 % | 100 % | 100 % | 100 % | 3 | 0 | 0.000 | 0 |" in page
    assert "small-clinic: expected T005 at line 29, named nothing at –; missing T005; T005 needs more" in page
    absent = sum(map(len, programs(all_there_are=True))) - 6
    assert f"`python -m zoo.evaluate --each`, 6 programs. Not measured yet: {absent} others." in page
    results.PAGE.write_text(PAGE)
    assert results.main([]) == 0
    assert results.PAGE.read_text() == page


def test_the_page_is_the_same_where_an_optional_package_is_missing(place, monkeypatch):
    results.main(["--measure", "small-clinic"])
    page = results.PAGE.read_text()
    monkeypatch.setattr("zoo.collection.has_extra", lambda: False)
    results.main([])
    assert results.PAGE.read_text() == page
    assert f"Not measured yet: {sum(map(len, programs(all_there_are=True))) - 2} others." in page


def test_a_failure_is_told_and_its_old_numbers_go(place, capsys):
    results.main(["--measure", "small-clinic"])
    numbers = json.loads(results.NUMBERS.read_text())
    numbers["whole"]["zoo/faulty/lake-depths/fixed.py"] = numbers["whole"]["zoo/faulty/gone/fixed.py"] = {"codes": []}
    results.NUMBERS.write_text(json.dumps(numbers))
    assert results.main(["--measure", "--only", "whole", "lake-depths"]) == 1
    assert "- zoo/faulty/lake-depths/fixed.py failed" in capsys.readouterr().out
    kept = json.loads(results.NUMBERS.read_text())
    assert [key.split("/", 2)[2] for key in kept["whole"]] == [
        "lake-depths/faulty.py",
        "small-clinic/faulty.py",
        "small-clinic/fixed.py",
    ]
    assert list(kept["pairs"]) == ["small-clinic"]


def test_an_interrupt_keeps_what_was_measured_before(place, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "measure", interrupted)
    assert results.main(["--measure", "small-clinic"]) == 130
    assert set(json.loads(results.NUMBERS.read_text())) == {"made_with", "whole", "early"}
    assert results.PAGE.read_text() == PAGE
    assert results.main([]) == 0
    assert "Not measured yet: pairs, fixes." in results.PAGE.read_text()


def test_nothing_is_written_from_nothing(place, capsys):
    assert results.main([]) == 1
    assert "no whole run is measured yet, so RESULTS.md stays as it is" in capsys.readouterr().err
    assert results.PAGE.read_text() == PAGE


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["small-clinic"], "add --measure"),
        (["--only", "whole"], "add --measure"),
        (["--measure", "nowhere"], "no such program: nowhere"),
        (["--measure", "--jobs", "0"], "1 or more"),
    ],
)
def test_senseless_arguments_are_refused(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        results.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_page_without_the_mark_is_not_overwritten():
    with pytest.raises(ValueError, match="no line"):
        results.page("# Title\n", {})


def test_a_working_programs_alarm_keeps_its_words():
    alarm = Seen(Program(Path("zoo/a.py"), "a"), found("A001"))
    assert results.compact(alarm)["roots"][0]["message"] == "A001 it is"
    assert "message" not in results.compact(Seen(alarm.program._replace(root="A001"), alarm.result))["roots"][0]


@pytest.mark.skipif(not results.NUMBERS.exists(), reason="nothing was measured: python -m zoo.results --measure")
def test_the_page_is_what_the_numbers_give():
    text = results.PAGE.read_text(encoding="utf-8")
    assert results.page(text, json.loads(results.NUMBERS.read_text(encoding="utf-8"))) == text
