"""A finding without numbers is none."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from unstuck.findings import Evidence, Finding, Place, Severity
from unstuck.trace import Location


def finding(**fields) -> Finding:
    known = {
        "code": "A001",
        "name": "saturated",
        "severity": Severity.WARNING,
        "site": "tanh",
        "location": Location("/home/user/train.py", 3),
        "steps": (0, 9),
        "measured": 0.6,
        "threshold": 0.3,
        "unit": "1",
        "message": "60 % of the outputs are saturated",
    }
    return Finding(**{**known, **fields})


def test_numbers_of_any_sign_and_size_are_accepted():
    assert finding(measured=-1e300, threshold=0.0).measured == -1e300
    assert finding(steps=(4, 4)).steps == (4, 4)


@pytest.mark.parametrize("what", ["measured", "threshold"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(what, value):
    message = re.escape(f"A001: a finding needs numbers, but {what} is {value}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        finding(**{what: value})


def test_a_step_range_that_runs_backwards_is_refused():
    with pytest.raises(ValueError, match=r"^A001: the step range \(5, 4\) runs backwards$"):
        finding(steps=(5, 4))


def test_replacing_a_number_is_checked_as_well():
    with pytest.raises(ValueError, match="measured is nan"):
        dataclasses.replace(finding(), measured=math.nan)


def test_a_finding_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding().measured = 1.0


def test_severities_rise():
    assert list(Severity) == sorted(Severity) == [Severity.INFO, Severity.WARNING, Severity.ERROR]
    assert [str(severity) for severity in Severity] == ["info", "warning", "error"]


def test_evidence_is_a_pure_number_unless_it_has_a_unit():
    assert Evidence("std of the weights", 1.0).unit == "1"
    assert finding().evidence == finding().fixes == finding().explains == finding().related == ()


def test_the_other_places_of_a_fault_are_part_of_it():
    softmax = Place("softmax", Location("/home/user/train.py", 2))
    assert finding(related=(softmax,)).related == (softmax,)
    assert finding(related=(softmax,)) != finding()


def test_the_index_of_the_site_is_no_part_of_its_identity():
    assert finding(site_index=1) == finding(site_index=2)
