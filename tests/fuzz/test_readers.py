"""Damaged files: every reader takes them or refuses them by the one-line error that it documents.

`python -m tools.fuzz --cases 100000` runs the same cases by the thousands.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.fuzz import mutations
from tools.fuzz.targets import TARGETS

EXAMPLES = {"report": 10, "page": 2, "run": 60}  # of the others 100; a damaged run is judged when it can be read


@pytest.mark.filterwarnings("ignore")  # of numpy, about the numbers in damaged runs
@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_taken_or_refused(name):
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES.get(name, 100), derandomize=True)
    @given(st.integers(0, 1 << 32))
    def attempts(seed):
        with tempfile.TemporaryDirectory() as folder:
            target.attempt(seed, Path(folder))

    attempts()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_damaged_is_taken(name, tmp_path):
    target = TARGETS[name]
    for data in target.valid():
        (tmp_path / target.file).write_bytes(data)
        target.read(tmp_path / target.file)


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_its_number(name):
    first, second = (TARGETS[name].damaged(7) for _ in range(2))
    assert first == second
    assert len({TARGETS[name].damaged(seed) for seed in range(20)}) > 10


def test_a_crash_is_seen(tmp_path):
    def crash(_: Path) -> None:
        raise ZeroDivisionError

    broken = TARGETS["words"].__class__("x", "x", lambda: [b"a"], mutations.mutate_bytes, crash, (ValueError,))
    with pytest.raises(ZeroDivisionError):
        broken.attempt(0, tmp_path)


def test_blobs_are_damaged_below_their_checksum():
    import numpy as np

    from unstuck.trace.packing import pack, unpack

    whole = pack({"a": np.arange(9.0)})
    damaged = [mutations.mutate_blob(Random(seed), whole) for seed in range(40)]
    read = 0
    for blob in damaged:
        try:
            unpack(blob)
        except ValueError as error:
            read += "checksum" not in str(error)
        else:
            read += 1
    assert read == len(damaged)
