"""Blobs: what is not one is refused; numbers come back bit for bit."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import made, summary

from unstuck.stats.table import SummaryTable
from unstuck.trace import Role
from unstuck.trace.journal import Journal
from unstuck.trace.packing import PackingError, StepNumbers, by_step, pack, to_arrays, unit_cap, unpack


def sealed(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little") + body


def with_header(entries, rest: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return sealed(len(header).to_bytes(4, "little") + header + rest)


class TestRefused:
    @pytest.mark.parametrize("length", [0, 3, 7, 8, 20, -1])
    def test_a_part_of_a_blob(self, length):
        with pytest.raises(PackingError, match="checksum"):
            unpack(pack({"a": np.arange(5.0)})[:length])

    @given(st.integers(0, 1 << 30), st.integers(1, 255))
    def test_a_changed_byte(self, at, by):
        blob = bytearray(pack({"a": np.arange(5.0)}))
        blob[at % len(blob)] ^= by
        with pytest.raises(PackingError):
            unpack(bytes(blob))

    @pytest.mark.parametrize(
        "blob",
        [
            with_header([["a", "|O", [1]]], b"12345678"),
            with_header([["a", "<U4", [1]]], b"12345678"),
            with_header([["a", "<f8", [9]]], b"12345678"),
            with_header([["a", "<f8", [-1]]], b"12345678"),
            with_header([["a", "<f8", "x"]]),
            with_header([["a", "nonsense", [1]]]),
            with_header([["a", "(2,3 4)f8", [1]]]),
            with_header([["a"]]),
            with_header(7),
            sealed(b"\xff\xff\xff\xff{}"),
        ],
    )
    def test_what_pack_does_not_make(self, blob):
        with pytest.raises(PackingError):
            unpack(blob)

    @pytest.mark.parametrize("shape", ["::error::x\n::stop-commands::y", "\x1b[31m" * 900])
    def test_is_said_in_one_printable_line(self, shape):
        with pytest.raises(PackingError, match="no array has the shape") as error:
            unpack(with_header([["a", "<f8", shape]]))
        assert str(error.value).isprintable()
        assert len(str(error.value)) <= 200


def test_numbers_come_back_bit_for_bit():
    arrays = {
        "floats": np.array([[np.nan, -np.inf, -0.0], [1e-320, 1e308, 0.1]]),
        "none": np.zeros((2, 0), dtype=np.float32),
        "flags": np.array([True, False]),
        "counts": np.array([1 << 62, -1]),
        "turned": np.arange(6, dtype=np.uint16).reshape(2, 3).T,
    }
    found = unpack(pack(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_numbers_of_dropped_steps_are_left_out():
    journal = Journal(scalars=[(3, 0, "a", 1.0), (4, 0, "a", 2.0), (3, 0, "b", 3.0)], dropped={4})
    found = by_step(journal, made(5).loss_calls)
    assert sorted(found) == [0, 1, 2, 3]
    assert [name for _, _, name, _ in found[3].scalars] == ["a", "b"]
    assert [call.step for call in found[3].loss_calls] == [3]


class TestUnits:
    lengths = (10, 200, 40)

    @pytest.fixture
    def numbers(self):
        rng = np.random.default_rng(0)
        table = SummaryTable.of([summary(rng, units) for units in self.lengths])
        keys = [(site, Role.INPUT) for site in range(3)]
        return StepNumbers(tables=[(0, keys, table, range(3), False)])

    @pytest.mark.parametrize(
        ("limit", "kept"), [(0, ()), (36 * 10, (10,)), (36 * 50, (10, 40)), (36 * 249, (10, 40)), (36 * 250, lengths)]
    )
    def test_the_rows_with_the_most_lose_theirs(self, numbers, limit, kept):
        arrays = to_arrays(numbers, lambda _: 0, unit_cap(numbers, limit))
        assert [n for n, has in zip(self.lengths, arrays["table_has_units"], strict=True) if has] == sorted(
            kept, key=self.lengths.index
        )
        assert arrays["table_unit_sums"].shape == (2, sum(kept))
        assert arrays["table_unit_starts"][-1] == sum(kept)

    def test_where_all_fit_later_rows_may_have_more(self, numbers):
        assert unit_cap(numbers, 1 << 20) > 1 << 40
