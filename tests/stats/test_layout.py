"""How tensors are read: where they lie, in which order, and what has to be copied."""

import pytest
import torch

from unstuck.stats.layout import laid_out

x = torch.arange(4 * 6 * 2 * 5, dtype=torch.float32).reshape(4, 6, 2, 5)

CASES = {  # tensor, unit_dim, (outer, units, inner), whether it is copied
    "features last": (x, -1, (48, 5, 1), False),
    "channels first": (x, 1, (4, 6, 10), False),
    "units first": (x, 0, (1, 4, 60), False),
    "no units": (x, None, (1, 1, 240), False),
    "channels last": (x.contiguous(memory_format=torch.channels_last), 1, (40, 6, 1), False),
    "transposed": (x[0, 0].t(), 0, (2, 5, 1), False),
    "permuted": (x.permute(2, 3, 0, 1), 3, (4, 6, 10), False),
    "a part that is dense": (x[1:3], 1, (2, 6, 10), False),
    "a part with gaps": (x[:, ::2], 1, (4, 3, 10), True),
    "expanded": (x[:, :1].expand(4, 6, 2, 5), 1, (4, 6, 10), True),
    "a single number": (torch.tensor(3.0), 0, (1, 1, 1), False),
    "sizes of one": (x[:1, :, :1].contiguous(), 1, (1, 6, 5), False),
    "nothing": (x[:0], 1, (0, 6, 10), False),
}


@pytest.mark.parametrize("case", CASES)
def test_layouts(case):
    tensor, unit_dim, shape, copied = CASES[case]
    flat, found, was_copied = laid_out(tensor, unit_dim)
    assert (found, was_copied) == (shape, copied)
    assert (flat.dim(), flat.is_contiguous(), flat.numel()) == (1, True, tensor.numel())
    if copied is False and tensor.numel():
        assert flat.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("case", CASES)
def test_each_unit_has_its_own_elements(case):
    tensor, unit_dim, shape, _ = CASES[case]
    flat, _, _ = laid_out(tensor, unit_dim)
    if unit_dim is None or tensor.dim() == 0:
        assert flat.sort().values.equal(tensor.reshape(-1).sort().values)
        return
    rows = flat.reshape(shape).movedim(1, 0).reshape(shape[1], shape[0] * shape[2])
    expected = tensor.movedim(unit_dim, 0).reshape(shape[1], -1) if tensor.numel() else rows
    assert rows.sort(1).values.equal(expected.sort(1).values)


def test_a_pending_negation_is_carried_out():
    pending = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert pending.is_neg()
    flat, _, copied = laid_out(pending, None)
    assert (flat.tolist(), flat.is_neg(), copied) == ([-2.0, 4.0], False, True)


def test_no_gradient_is_recorded():
    assert not laid_out(torch.ones(3, requires_grad=True) * 2, 0)[0].requires_grad


@pytest.mark.parametrize("unit_dim", [2, -3])
def test_a_dimension_that_does_not_exist(unit_dim):
    with pytest.raises(IndexError, match=f"unit_dim {unit_dim} is out of range for a tensor of 2 dimensions"):
        laid_out(torch.ones(2, 3), unit_dim)
