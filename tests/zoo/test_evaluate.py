"""The tables of `python -m zoo.evaluate`, from results made by hand."""

import hashlib
from pathlib import Path

from zoo.evaluate import Program, Seen, frozen, programs, rates, report


def seen(root=None, *, named=(), line=3, codes=None, first=None, severity="warning", name="p"):
    roots = [{"code": code, "severity": severity, "line": 3, "message": f"{code} it is"} for code in named]
    program = Program(Path(f"zoo/{name}.py"), name, root, frozenset([root] if root else []), line)
    return Seen(program, {"roots": roots, "codes": list(named) if codes is None else codes, "first_named": first or {}})


def test_a_fault_found_named_first_and_pointed_at():
    assert rates([seen("I002", named=["I002"], first={"I002": 0})], []).startswith("1 | 100 % | 100 % | 100 % | 100 %")


def test_each_way_to_fall_short():
    missed = seen("I002")
    second = seen("I002", named=["L001", "I002"], first={"L001": 0})
    elsewhere = seen("I002", named=["I002"], line=4, first={"I002": 2})
    assert rates([missed, second, elsewhere], []) == "3 | 67 % | 33 % | 0 % | 50 % | 0 | 0 | – | 2"


def test_information_is_no_alarm():
    quiet, loud = seen(named=["N001"], severity="info"), seen(named=["A001", "U001"])
    assert rates([], [quiet, loud]).split(" | ")[5:8] == ["2", "2", "50.0"]


def test_what_is_not_as_it_should_be_is_listed():
    text = report([seen("I002", named=["L001"], name="a")], [seen(named=["A001"], name="b")])
    assert "- a: expected I002 at line 3, named L001 at 3; missing I002" in text
    assert "- zoo/b.py: A001: A001 it is" in text
    assert "| A001 | 0 | 0 | 0 | 0 | – | 1 |" in text


def test_the_collections_are_read():
    faulty, working = programs()
    assert len(faulty) >= 10
    assert len(working) >= len(faulty) + 10
    assert all(program.root and program.line and program.root in program.codes for program in faulty)


def test_the_frozen_half_is_chosen_by_the_names_alone():
    names = {program.name for group in programs() for program in group}
    assert frozen() & names == {name for name in names if hashlib.sha1(name.encode()).digest()[-1] % 2 == 0}
