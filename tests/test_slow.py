"""Which of the tests marked slow are run."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from slow import SLOW_PARTS, pytest_collection_modifyitems


def chosen(how: str = "part", markexpr: str = "", args: tuple[str, ...] = ("tests",)) -> tuple[set[str], set[str]]:
    """Names of the quick and of the slow tests that are left of forty each."""
    items: list[Any] = [
        SimpleNamespace(nodeid=f"{kind}{number}", get_closest_marker=lambda _, slow=kind == "slow": slow or None)
        for kind in ("quick", "slow")
        for number in range(40)
    ]
    told: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: told.extend(items))
    option = SimpleNamespace(markexpr=markexpr)
    config: Any = SimpleNamespace(getoption=lambda _: how, option=option, args=args, hook=hook)
    pytest_collection_modifyitems(config, items)
    assert len(items) + len(told) == 80
    names = {item.nodeid for item in items}
    return {name for name in names if name.startswith("quick")}, {name for name in names if name.startswith("slow")}


@pytest.mark.parametrize("how", ["all", "part", "none"])
def test_quick_ones_are_all_run(how):
    assert len(chosen(how)[0]) == 40


def test_a_third_of_the_slow_ones_always_the_same():
    slow = chosen()[1]
    assert slow == {f"slow{n}" for n in range(40) if zlib.crc32(f"slow{n}".encode()) % SLOW_PARTS == 0}
    assert 5 < len(slow) < 25


def test_all_or_none_on_demand():
    assert len(chosen("all")[1]) == 40
    assert not chosen("none")[1]


@pytest.mark.parametrize("asked", [{"markexpr": "slow"}, {"args": ("tests/test_a.py::test_b",)}])
def test_those_that_are_asked_for_by_name_or_mark(asked):
    assert len(chosen(**asked)[1]) == 40
