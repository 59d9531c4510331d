from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from unstuck.lm import sample as module
from unstuck.lm.data import Vocabulary
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Corpus
from unstuck.lm.known import KnownWords
from unstuck.lm.model import KINDS, CharMLP, CharModel, ModelConfig, build_model
from unstuck.lm.sample import BLOCKS, Sampling, sample_words
from unstuck.lm.train import Run, train

AB = Vocabulary(("a", "b"))
BLOCK = BLOCKS["mlp"]


def biased(*logits: float) -> CharMLP:
    """A model of "a" and "b" that gives every context the same logits (boundary, a, b)."""
    model = build_model(ModelConfig(3, norm="none", hidden=2), torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor(logits))
    return model


def drawn(model: CharModel, n: int, vocabulary: Vocabulary = AB, seed: int = 0, **options: Any) -> list[str]:
    return list(sample_words(model, vocabulary, n, seed, Sampling(**options)))


@pytest.fixture
def trained(new_run: Callable[..., Run]) -> CharMLP:
    run = new_run()
    train(run)
    return run.model


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 5, "prefix": "ma"}], ids=str)
def test_a_seed_gives_the_same_words_however_many_are_asked_for(
    trained: CharMLP, corpus: Corpus, options: dict[str, Any]
) -> None:
    many = drawn(trained, BLOCK + 50, corpus.vocabulary, 3, **options)
    assert len(many) == BLOCK + 50
    for n in (1, 20, BLOCK, BLOCK + 1):
        assert drawn(trained, n, corpus.vocabulary, 3, **options) == many[:n]
    assert drawn(trained, 20, corpus.vocabulary, 4, **options) != many[:20]
    assert many[:50] != many[BLOCK:]


def test_the_words_do_not_depend_on_how_many_blocks_are_drawn_at_once(trained: CharMLP, corpus: Corpus) -> None:
    words = [list(sample_words(trained, corpus.vocabulary, 3 * BLOCK, workers=k)) for k in (1, 2, 5)]
    assert words[0] == words[1] == words[2]


def test_sampling_leaves_the_model_and_the_global_generator_alone(trained: CharMLP, corpus: Corpus) -> None:
    state, before = torch.get_rng_state(), {name: t.clone() for name, t in trained.state_dict().items()}
    drawn(trained, 5, corpus.vocabulary)
    assert torch.equal(torch.get_rng_state(), state)
    assert trained.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())


def test_words_are_neither_empty_nor_longer_than_asked() -> None:
    endless, eager = biased(-50, 0, 0), biased(50, 0, 0)
    assert {len(word) for word in drawn(endless, 10, longest=7)} == {7}
    assert {len(word) for word in drawn(eager, 10)} == {1}
    assert set("".join(drawn(endless, 10, longest=7))) == {"a", "b"}


def test_symbols_come_with_the_model_s_probabilities() -> None:
    words = drawn(biased(0.0, 0.0, 1.0), 20_000)
    end, a, b = torch.tensor([0.0, 0.0, 1.0]).softmax(0).tolist()
    first = Counter(word[0] for word in words)
    assert first["b"] / len(words) == pytest.approx(b / (a + b), abs=0.02)
    assert sum(len(word) == 1 for word in words) / len(words) == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_divides_the_logits(temperature: float) -> None:
    words = drawn(biased(0.0, 0.0, 1.0), 20_000, temperature=temperature)
    share = sum(word[0] == "b" for word in words) / len(words)
    assert share == pytest.approx(1 / (1 + math.exp(-1 / temperature)), abs=0.02)


def test_a_temperature_near_zero_takes_the_likeliest_symbol_and_a_huge_one_any() -> None:
    assert set(drawn(biased(0.0, 0.1, 0.2), 100, temperature=1e-30, longest=4)) == {"bbbb"}
    words = drawn(biased(0.0, 5.0, 1.0), 20_000, temperature=1e30)
    assert sum(word[0] == "b" for word in words) / len(words) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("temperature", [1e-46, 5e-324])
def test_a_temperature_that_no_float32_holds_takes_the_likeliest_symbol(temperature: float) -> None:
    assert set(drawn(biased(0.0, 0.2, 0.1), 100, temperature=temperature, longest=4)) == {"aaaa"}


def test_only_the_top_k_symbols_are_drawn_and_an_empty_word_never() -> None:
    assert set(drawn(biased(0.0, 1.0, 2.0), 500, top_k=1, longest=3)) == {"bbb"}
    assert set("".join(drawn(biased(0.0, 1.0, 2.0), 500, top_k=2, longest=3))) == {"a", "b"}
    assert drawn(biased(2.0, 1.0, 0.0), 50, top_k=1) == ["a"] * 50  # the boundary is the likeliest, not at first
    model = biased(0.0, 1.0, 2.0)
    assert drawn(model, 50, top_k=3) == drawn(model, 50, top_k=99) == drawn(model, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_opens_every_word_and_is_read_by_the_model(kind: str) -> None:
    options = {"heads": 1} if kind == "transformer" else {}
    config = ModelConfig.of(kind, 3, context=4, embedding=4, hidden=4, **options)
    model = build_model(config, torch.Generator().manual_seed(0)).eval()
    model.output.weight.data.mul_(300)
    words = drawn(model, 4000, prefix="ab", longest=3)
    assert all(word.startswith("ab") for word in words)
    window = torch.tensor([[0, 0, 1, 2]])
    with torch.no_grad():
        expected = model.next_logits(window, 3).softmax(1)[0].tolist()
    found = Counter(word[2:] for word in words)
    assert [found[end] / 4000 for end in ("", "a", "b")] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_model_of_words_reads_at_most_its_context(kind: str) -> None:
    options = {"heads": 2} if kind == "transformer" else {}
    config = ModelConfig.of(kind, 3, context=4, embedding=8, hidden=8, **options)
    model = build_model(config, torch.Generator().manual_seed(1))
    assert {len(word) for word in drawn(model, 40, longest=9)} <= set(range(1, 10))


def test_new_words_are_not_among_those_known_and_come_once() -> None:
    model = biased(-1.0, 0.0, 0.0)
    known = KnownWords(AB.encode(["a", "bb", "aba"]), 3)
    everything = {"".join(p) for k in range(1, 4) for p in product("ab", repeat=k)}
    new = list(sample_words(model, AB, 11, sampling=Sampling(longest=3), unlike=known))
    assert len(new) == len(set(new))
    assert set(new) == everything - {"a", "bb", "aba"}
    assert list(sample_words(model, AB, 4, sampling=Sampling(longest=3), unlike=known)) == new[:4]


def test_a_search_for_new_words_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3000)
    nothing = KnownWords(AB.encode([]), 3)
    with pytest.raises(LmError) as caught:
        list(sample_words(biased(0.0, 0.0, 0.0), AB, 3, sampling=Sampling(longest=1), unlike=nothing))
    assert str(caught.value) == (
        "only 2 different new words were found, and then none in 3,000 tries: "
        "ask for fewer words, raise --temperature, or raise --max-length (now 1)"
    )


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "ask for fewer words, or raise --temperature"),
        ({"top_k": 1}, "ask for fewer words, or raise --top-k (now 1)"),
        (
            {"top_k": 2, "prefix": "a"},
            "ask for fewer words, raise --top-k (now 2), raise --temperature, or shorten --prefix",
        ),
    ],
    ids=str,
)
def test_the_advice_names_the_options_in_force(
    options: dict[str, Any], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3000)
    known = KnownWords(AB.encode(["a", "b", "aa", "bb", "ab", "ba", "aaa"]), 3)
    likely = biased(50.0, 0.0, 0.0)  # one letter, or the prefix, and the end
    with pytest.raises(LmError) as caught:
        list(sample_words(likely, AB, 3, sampling=Sampling(**options), unlike=known))
    assert str(caught.value).endswith(f"none in 3,000 tries: {advice}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "--count is 0: give a whole number from 1 to 1000000000"),
        ({"n": 1, "seed": -1}, "--seed is -1: give a whole number from 0 to 9223372036854775807"),
        ({"n": 1, "longest": 0}, "--max-length is 0: give a whole number from 1 to 100000"),
        ({"n": 1, "temperature": 0.0}, "--temperature is 0.0: give a number above 0"),
        ({"n": 1, "temperature": math.nan}, "--temperature is nan: give a number above 0"),
        ({"n": 1, "top_k": -1}, "--top-k is -1: give a whole number from 0 to 2147483648"),
        (
            {"n": 1, "prefix": "aba", "longest": 3},
            "--prefix has 3 characters and --max-length is 3: shorten the one or raise the other",
        ),
        (
            {"n": 1, "prefix": "aé"},
            "--prefix 'aé': the model does not know 'é' (U+00E9): leave it out, or use a model trained on words that "
            "have it",
        ),
        ({"n": 1, "prefix": "Ba"}, "--prefix 'Ba': the model does not know 'B' (U+0042): write 'ba'"),
        (
            {"n": 1, "prefix": "BAÉ"},
            "--prefix 'BAÉ': the model does not know 'B' (U+0042) and 'A' (U+0041) and 'É' (U+00C9): leave it out, or "
            "use a model trained on words that have it",
        ),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LmError) as caught:
        drawn(biased(0, 0, 0), **options)
    assert str(caught.value) == message
