"""`unstuck lm eval`, `score` and `sample`: what a saved model predicts, and words drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from unstuck.cli.lm_common import Data, Folder, choice, loss_line, note, one_line_errors, reading_bar, use_threads
from unstuck.lm.checkpoint import Checkpoint, load_checkpoint
from unstuck.lm.corpus import AnyCorpus, corpus_of, open_words, part_of
from unstuck.lm.data import PARTS, WordList, prepare, read_words
from unstuck.lm.errors import LmError, require_choice
from unstuck.lm.evaluate import BN_EVAL, evaluate, evaluate_by_batch
from unstuck.lm.examples import Part
from unstuck.lm.known import KnownWords
from unstuck.lm.model import CharModel
from unstuck.lm.norms import Contexts
from unstuck.lm.norms import recalibrate as recalibrate_model
from unstuck.lm.sample import LONGEST, Sampling, sample_words
from unstuck.lm.score import surprises
from unstuck.lm.streams import Sequences
from unstuck.lm.tokens import TokenFile, sha256_of

ALL = "all"
PRINTED = 1_000  # words at once

PartName = Annotated[
    str | None, choice((*PARTS, ALL), "Which part. Default: val; for other data than trained on, all.")
]
BnEval = Annotated[
    str | None,
    choice(
        BN_EVAL,
        "Which mean and variance BatchNorm uses: the running ones, those of the whole training set, or each batch's "
        "own, as in training. Default: running.",
    ),
]
Recalibrate = Annotated[bool, typer.Option("--recalibrate", help="The same as --bn-eval recalibrated.")]
Words = Annotated[list[str], typer.Argument(metavar="WORD...", help="Words to score.")]
Count = Annotated[int, typer.Option("-n", "--count", help="How many words.")]
SampleSeed = Annotated[int, typer.Option("--seed", help="The same seed gives the same words.")]
MaxLength = Annotated[int, typer.Option(help="Cut a word at this many characters.")]
Temperature = Annotated[float, typer.Option(help="Below 1 the likely symbols become likelier, above 1 less so.")]
TopK = Annotated[int, typer.Option(help="Draw among the so many likeliest symbols only; 0: among all.")]
Prefix = Annotated[str, typer.Option(help="How every word begins.")]
Unique = Annotated[bool, typer.Option("--unique", help="Only words that are not in the training part, each once.")]
Threads = Annotated[int, typer.Option(help="Blocks of words drawn at once. The words do not depend on it.")]


def evaluate_checkpoint(
    folder: Folder,
    split: PartName = None,
    data: Data = None,
    bn_eval: BnEval = None,
    recalibrate: Recalibrate = False,
) -> None:
    """Print a saved model's mean loss in nats on a part of its data, or on other data."""
    with one_line_errors(), use_threads(1):
        checkpoint = load_checkpoint(folder)
        statistics = _statistics(bn_eval, recalibrate)
        words = _words(checkpoint, data)
        trained_on = words.sha256 == checkpoint.sha256
        part = split or ("val" if trained_on or data is None else ALL)
        require_choice("--split", part, (*PARTS, ALL))
        examples = _examples(checkpoint, words, part)
        model = checkpoint.model()
        if statistics == "recalibrated":
            recalibrate_model(model, _training_contexts(checkpoint, model, words))
        if not trained_on and data is None:
            note(f"{words.name} has changed since training: its parts are not those that the model was trained on")
        if statistics == "batch":
            loss = evaluate_by_batch(model, examples, checkpoint.recipe.batch_size)
        else:
            loss = evaluate(model, examples)
        typer.echo(loss_line(part, loss, len(examples)))


def score(folder: Folder, words: Words) -> None:
    """Print how surprised a saved model is by each word, in nats per character (the word's end counts as one)."""
    with one_line_errors(), use_threads(1):
        checkpoint = load_checkpoint(folder)
        given = [word.strip().lower() if checkpoint.recipe.lower else word.strip() for word in words]
        if not all(given):
            raise LmError("an empty word cannot be scored: give words of at least one character")
        for word in given:
            checkpoint.vocabulary.require_typed(word, "the word")
        scored = surprises(checkpoint.model(), checkpoint.vocabulary, given, "the command line")
        width = max(map(len, given))
        for found in scored:
            each = "  ".join(
                f"{symbol} {nats:.2f}" for symbol, nats in zip((*found.word, "end"), found.symbols, strict=True)
            )
            typer.echo(f"{found.word:<{width}}  {found.mean:.4f} nats per character  ({each})")


def sample(
    folder: Folder,
    count: Count = 20,
    seed: SampleSeed = 0,
    max_length: MaxLength = LONGEST,
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    prefix: Prefix = "",
    unique: Unique = False,
    threads: Threads = 1,
) -> None:
    """Print words drawn from a saved model, one per line; the first k words do not depend on how many are asked for."""
    with one_line_errors(), use_threads(1):
        checkpoint = load_checkpoint(folder)
        sampling = Sampling(temperature, top_k, prefix.lower() if checkpoint.recipe.lower else prefix, max_length)
        known = _training_words(checkpoint) if unique else None
        words = sample_words(
            checkpoint.model(), checkpoint.vocabulary, count, seed, sampling, unlike=known, workers=threads
        )
        _print_words(words)


def _print_words(words: Iterator[str]) -> None:
    """A block of lines at a time, also those before an error."""
    block: list[str] = []
    try:
        for word in words:
            block.append(word)
            if len(block) == PRINTED:
                typer.echo("\n".join(block))
                block.clear()
    finally:
        if block:
            typer.echo("\n".join(block))


def _statistics(bn_eval: str | None, recalibrate: bool) -> str:
    if recalibrate and bn_eval not in (None, "recalibrated"):
        raise LmError(f"--recalibrate and --bn-eval {bn_eval} contradict each other: leave one out")
    chosen = "recalibrated" if recalibrate else bn_eval or "running"
    require_choice("--bn-eval", chosen, BN_EVAL)
    return chosen


def _words(checkpoint: Checkpoint, data: Path | None) -> WordList | TokenFile:
    """The words of a data file, prepared as those trained on were; `--min-count` is about those alone."""
    source = data or checkpoint.source
    recipe = checkpoint.recipe
    if recipe.split == "hash":
        with reading_bar(source) as on_bytes:
            if sha256_of(source, on_bytes) == checkpoint.sha256:
                return open_words(source, recipe, on_bytes)
        if data is None:
            raise LmError(
                f"{source} has changed since training, and its parts with it: evaluate it whole with --data {source}"
            )
    words = read_words(source)
    same = words.sha256 == checkpoint.sha256 or data is None
    return prepare(words, lower=recipe.lower, min_count=recipe.min_count if same else 1)


def _examples(checkpoint: Checkpoint, words: WordList | TokenFile, part: str) -> Part:
    if part == ALL:
        if isinstance(words, TokenFile):
            raise LmError("--split all needs the words in memory: evaluate train, val or test")
        checkpoint.vocabulary.require_known(words.words, words.name, words.lines)
        return part_of(words.words, checkpoint.vocabulary, checkpoint.config)
    if checkpoint.recipe.split == "hash" and isinstance(words, WordList):
        raise LmError(f"{words.name} was not trained on and has no parts: leave --split out, or use --split all")
    return _corpus(checkpoint, words).part(part)


def _corpus(checkpoint: Checkpoint, words: WordList | TokenFile) -> AnyCorpus:
    return corpus_of(words, checkpoint.config, checkpoint.recipe, checkpoint.vocabulary)


def _trained_on(checkpoint: Checkpoint, words: WordList | TokenFile | None = None) -> AnyCorpus:
    """The corpus that the model was trained on; raises LmError where it has changed."""
    if words is None or words.sha256 != checkpoint.sha256:
        words = open_words(checkpoint.source, checkpoint.recipe)
        checkpoint.require_same_data(words)
    return _corpus(checkpoint, words)


def _training_contexts(checkpoint: Checkpoint, model: CharModel, words: WordList | TokenFile) -> Contexts:
    if model.config.norm != "batch":
        raise LmError(
            f"--recalibrate needs a model with BatchNorm, and this one has norm {model.config.norm}: leave it out"
        )
    train = _trained_on(checkpoint, words).train
    assert not isinstance(train, Sequences)  # BatchNorm is the mlp's alone
    return train.contexts


def _training_words(checkpoint: Checkpoint) -> KnownWords:
    return KnownWords(_trained_on(checkpoint).train.tokens, len(checkpoint.vocabulary))
