from __future__ import annotations

import math
from typing import Any, get_type_hints

import pytest
import torch
from jaxtyping import jaxtyped
from torch.nn import functional as F

from unstuck.lm.model import KINDS, CharModel, ModelConfig, blank_model, build_model


def build(kind: str, seed: int = 0, **options: Any) -> CharModel:
    return build_model(ModelConfig.of(kind, 27, **options), torch.Generator().manual_seed(seed)).eval()


def symbols(*shape: int) -> torch.Tensor:
    return torch.randint(27, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [1, 8])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_shapes_are_those_of_the_annotations(kind: str, context: int, depth: int) -> None:
    model = build(kind, context=context, depth=depth)
    given = symbols(5, context)
    with jaxtyped("context"):  # type: ignore[no-untyped-call]
        hints = get_type_hints(type(model).forward)
        assert isinstance(given, hints["contexts" if kind == "mlp" else "symbols"])
        assert isinstance(model(given), hints["return"])
    assert model(given).shape == ((5, 27) if kind == "mlp" else (5, context, 27))
    assert model.next_logits(given, context).shape == (5, 27)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_place_sees_what_stands_before_it_and_nothing_after(kind: str) -> None:
    model = build(kind, context=8)
    model.output.weight.data.mul_(100)
    one = symbols(4, 8)
    other = one.clone()
    other[:, 5] = (one[:, 5] + 1) % 27
    with torch.no_grad():
        a, b = model(one), model(other)
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert (a[:, 5:] - b[:, 5:]).abs().amax((0, 2)).min() > 1e-4


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_the_next_symbol_is_that_of_the_last_place_whatever_stands_before_the_word(kind: str) -> None:
    model = build(kind, context=8)
    window = symbols(4, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.next_logits(window, 3), model(window[:, 5:])[:, -1])
        changed = window.clone()
        changed[:, :5] = 0
        torch.testing.assert_close(model.next_logits(window, 3), model.next_logits(changed, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_fixes_the_model_and_the_global_generator_is_left_alone(kind: str) -> None:
    before = torch.get_rng_state()
    first, again, other = build(kind, 1), build(kind, 1), build(kind, 2)
    blank_model(ModelConfig.of(kind, 27))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.output.weight, other.output.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_starts_at_ln_27_with_finite_parameters(kind: str) -> None:
    model = build(kind)
    logits = model(symbols(64, model.config.context)).flatten(0, -2)
    loss = F.cross_entropy(logits, torch.arange(len(logits)) % 27).item()
    assert loss == pytest.approx(math.log(27), abs=0.05)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_the_gru_is_the_one_of_its_paper_as_torch_has_it() -> None:
    model = build("gru", embedding=5, hidden=6, dropout=0.0)
    word = symbols(1, 7)
    w, u, b, c = (p.detach() for p in model.hidden.parameters())
    h = torch.zeros(6)
    with torch.no_grad():
        expected = []
        for one in word[0]:
            x = w @ model.embedding.weight[one] + b
            y = u @ h + c
            r, z = torch.sigmoid(x[:6] + y[:6]), torch.sigmoid(x[6:12] + y[6:12])
            n = torch.tanh(x[12:] + r * y[12:])
            h = (1 - z) * n + z * h
            expected.append(model.output.weight @ h + model.output.bias)
        torch.testing.assert_close(model(word)[0], torch.stack(expected))


def test_attention_is_the_softmax_of_its_paper() -> None:
    model = build("transformer", embedding=12, heads=3, depth=1)
    attention = model.blocks[0].attention
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attention(x)
        taken = torch.zeros(2, 5, 12)
        q, k, v = attention.queries_keys_values(x).split(12, dim=2)
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            for place in range(5):
                scores = (q[:, place, None, part] * k[:, : place + 1, part]).sum(2) / math.sqrt(4)
                taken[:, place, part] = (scores.softmax(1)[:, :, None] * v[:, : place + 1, part]).sum(1)
        torch.testing.assert_close(found, attention.output(taken))


def test_the_norms_stand_before_the_sub_layers_so_that_a_silent_block_changes_nothing() -> None:
    block = build("transformer", depth=2).blocks[1]
    x = 100 * torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = block(x)
        for layer in (block.attention.output, block.down):
            layer.weight.zero_()
        assert torch.equal(block(x), x)
        assert not torch.equal(before, x)


def test_the_initial_scales_are_those_documented() -> None:
    gru = build("gru", hidden=400)
    transformer = build("transformer", embedding=128, hidden=512, depth=4)
    block = transformer.blocks[2]
    for weight, expected in (
        (gru.embedding.weight, 1.0),
        (gru.hidden.weight_ih_l0, 1 / 8),
        (gru.hidden.weight_hh_l0, 1 / 20),
        (gru.output.weight, 0.01 / 20),
        (transformer.embedding.weight, 1.0),
        (transformer.place.weight, 1.0),
        (block.attention.queries_keys_values.weight, 1 / math.sqrt(128)),
        (block.attention.output.weight, 1 / math.sqrt(8 * 128)),
        (block.up.weight, 1 / math.sqrt(128)),
        (block.down.weight, 1 / math.sqrt(8 * 512)),
        (transformer.output.weight, 0.01 / math.sqrt(128)),
    ):
        assert weight.std().item() == pytest.approx(expected, rel=0.05)
    for model in (gru, transformer):
        assert not any(p.any() for name, p in model.named_parameters() if "bias" in name)


def test_a_residual_layer_adds_what_it_makes_to_what_it_is_given() -> None:
    plain, residual = (build("mlp", depth=3, norm="none", residual=on) for on in (False, True))
    assert [layer.residual for layer in residual.layers] == [False, True, True]
    x = plain.embed(symbols(4, 3))
    with torch.no_grad():
        for one, other in zip(plain.layers, residual.layers, strict=True):
            expected = one(x) + (x if other.residual else 0)
            torch.testing.assert_close(other(x), expected)
            x = expected
