import dataclasses
import math

import pytest

from unstuck.fixes.fix import Applicability, Fix, Proof
from unstuck.trace import Location

MADE = Fix(
    "shrink-output-layer",
    "L001",
    Applicability.UNSAFE,
    "W2, b2",
    Location("/home/user/train.py", 57),
    "starting loss (baseline 3.2958)",
    "nat",
    27.88164,
    3.29712,
)


def test_it_reads_as_one_line():
    assert str(MADE) == (
        "shrink-output-layer: W2, b2 at train.py:57: starting loss (baseline 3.2958) 27.88 → 3.297 nat"
    )


def test_a_pure_number_has_no_unit_and_no_place_is_named_where_there_is_none():
    made = dataclasses.replace(MADE, unit="1", location=None, statistic="std", before=5.0, after=1.0)
    assert str(made) == "shrink-output-layer: W2, b2: std 5 → 1"


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MADE.after = 0.0


def test_applicabilities():
    assert [a.value for a in Applicability] == ["safe", "unsafe", "display"]


def test_where_only_the_absence_of_the_finding_was_seen():
    proof = Proof(200, 2.5, 1.25, gone=True)
    assert str(dataclasses.replace(MADE, after=None, proof=proof)).endswith("27.88 → none")


@pytest.mark.parametrize("proof", [None, Proof(200, 2.5, 1.25, gone=False)])
def test_where_nothing_was_seen_afterwards(proof):
    assert str(dataclasses.replace(MADE, after=None, proof=proof)).endswith("27.88 → not measured again")


def test_unless_said_otherwise_it_was_kept_before_the_first_step_and_is_not_proven():
    assert (MADE.step, MADE.proof, MADE.kept, MADE.why, MADE.snippet) == (0, None, True, "", "")
    assert not MADE.restarted


@pytest.mark.parametrize(("gone", "said"), [(True, "the finding is gone"), (False, "the finding is still made")])
def test_a_proof_reads_as_one_line(gone, said):
    assert str(Proof(200, 1.23456, 0.1, gone)) == f"loss after 200 steps 1.235 → 0.1, {said}"
    assert str(Proof(1, math.inf, 2.0, gone)) == f"loss after 1 step inf → 2, {said}"
