import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.ranks.fingerprints import CHUNK, fingerprints

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.int8, torch.bool]


def naive(x):
    """By Python's whole numbers, one element after the other."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = x.contiguous().reshape(-1).view(sizes[x.element_size()]).tolist()
    low, total = (1 << 64) - 1, len(bits)

    def signed(value):
        value &= low
        return value - (1 << 64) if value >> 63 else value

    def weight(place):
        mixed = signed(place * -7046029254386353131)
        return signed((mixed ^ (mixed >> 29)) * -4658895280553007687) | 1

    for begin in range(0, len(bits), CHUNK):
        part = sum(value * weight(n + 1) for n, value in enumerate(bits[begin : begin + CHUNK]))
        total += part * ((begin // CHUNK + 1) * 0x9E3779B97F4A7C15 | 1)
    return total & low


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_as_with_whole_numbers_of_any_size(dtype):
    x = torch.randn(7, 11, dtype=torch.float64).to(dtype)
    assert fingerprints([x]) == [naive(x)]


def test_more_than_a_chunk():
    x = torch.randn(CHUNK + 9)
    assert fingerprints([x]) == [naive(x)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_tensors_are_equal_however_they_lie(dtype):
    x = (10 * torch.randn(6, 4)).to(dtype)
    assert fingerprints([x, x.clone(), x.t().contiguous().t()]) == [fingerprints([x])[0]] * 3


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2 * CHUNK - 1), st.integers(0, 31))
def test_one_bit_anywhere_shows(place, bit):
    x = torch.ones(2 * CHUNK)
    changed = x.clone()
    changed.view(torch.int32)[place] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)
    one, two = fingerprints([x, changed])
    assert one != two


def test_what_moments_do_not_tell_shows():
    x = torch.arange(8.0)
    assert len(set(fingerprints([x, x.flip(0), x.roll(1), torch.arange(9.0)]))) == 4


def test_zeros_of_different_length_and_none():
    assert len(set(fingerprints([torch.zeros(0), torch.zeros(1), torch.zeros(2)]))) == 3
