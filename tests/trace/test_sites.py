"""What a place is called."""

from __future__ import annotations

import pytest

from unstuck.trace import Edge, Kind, Location, Site

HERE = Location("/home/user/project/train.py", 12, "step")


def site(kind=Kind.WEIGHT_LAYER, op="linear", path="", **fields) -> Site:
    return Site(3, kind, op, path, HERE, 3, **fields)


@pytest.mark.parametrize(
    ("place", "label"),
    [
        (site(path="blocks.0.fc"), "blocks.0.fc (linear)"),
        (site(op="__matmul__", variable="W1"), "W1 (__matmul__)"),
        (site(path="fc", variable="W1"), "fc (linear)"),
        (site(Kind.ACTIVATION, "tanh"), "tanh"),
        (site(Kind.ACTIVATION, "tanh", ordinal=1), "tanh #2"),
        (site(path="fc", ordinal=4), "fc (linear) #5"),
        (site(Kind.PARAMETER, "parameter", "fc.weight"), "fc.weight"),
        (site(Kind.PARAMETER, "parameter"), "parameter 3"),
        (site(Kind.PARAMETER, "parameter", "C", ordinal=1), "C"),
    ],
)
def test_label(place, label):
    assert place.label == label


def test_a_location_is_printed_as_file_and_line():
    assert str(HERE) == "train.py:12"
    assert str(Location("<stdin>", 1)) == "<stdin>:1"
    assert Location("a.py", 1).function == "<module>"


def test_kinds_and_roles_read_as_words():
    assert str(Kind.WEIGHT_LAYER) == "weight layer"


def test_edges_are_equal_by_what_they_connect():
    assert Edge(1, 2) == Edge(1, 2, direct=True) != Edge(1, 2, direct=False)
    assert len({Edge(1, 2), Edge(1, 2), Edge(2, 1)}) == 2
