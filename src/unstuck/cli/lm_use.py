"""`unstuck lm eval` and `unstuck lm sample`: what a saved model predicts, and words drawn from it."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

from unstuck.cli.lm_common import Data, Folder, choice, loss_line, note, one_line_errors, use_threads
from unstuck.lm.checkpoint import Checkpoint, load_checkpoint
from unstuck.lm.data import PARTS, WordList, read_words
from unstuck.lm.errors import LmError, require_choice
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus, Examples, build_corpus, examples_of
from unstuck.lm.model import CharMLP
from unstuck.lm.norms import recalibrate as recalibrate_model
from unstuck.lm.sample import LONGEST, sample_words

ALL = "all"

Part = Annotated[str | None, choice((*PARTS, ALL), "Which part. Default: val; for other data than trained on, all.")]
Recalibrate = Annotated[
    bool, typer.Option("--recalibrate", help="First measure BatchNorm's statistics over the whole training set.")
]
Count = Annotated[int, typer.Option("-n", "--count", help="How many words.")]
SampleSeed = Annotated[int, typer.Option("--seed", help="The same seed gives the same words.")]
MaxLength = Annotated[int, typer.Option(help="Cut a word at this many characters.")]


def evaluate_checkpoint(
    folder: Folder, split: Part = None, data: Data = None, recalibrate: Recalibrate = False
) -> None:
    """Print a saved model's mean loss in nats on a part of its data, or on other data."""
    with one_line_errors(), use_threads(1):
        checkpoint = load_checkpoint(folder)
        words = read_words(data or checkpoint.source)
        trained_on = words.sha256 == checkpoint.sha256
        part = split or ("val" if trained_on or data is None else ALL)
        require_choice("--split", part, (*PARTS, ALL))
        examples = _examples(checkpoint, words, part)
        model = checkpoint.model()
        if recalibrate:
            recalibrate_model(model, _training_contexts(checkpoint, model, words))
        if not trained_on and data is None:
            note(f"{words.name} has changed since training: its parts are not those that the model was trained on")
        typer.echo(loss_line(part, evaluate(model, examples), len(examples)))


def sample(folder: Folder, count: Count = 20, seed: SampleSeed = 0, max_length: MaxLength = LONGEST) -> None:
    """Print words drawn from a saved model, one per line; the first k words do not depend on how many are asked for."""
    with one_line_errors(), use_threads(1):
        checkpoint = load_checkpoint(folder)
        for word in sample_words(checkpoint.model(), checkpoint.vocabulary, count, seed, max_length):
            typer.echo(word)


def _examples(checkpoint: Checkpoint, words: WordList, part: str) -> Examples:
    if part == ALL:
        checkpoint.vocabulary.require_known(words.words, words.name, words.lines)
        return examples_of(words.words, checkpoint.vocabulary, checkpoint.config.context)
    return _corpus(checkpoint, words).part(part)


def _corpus(checkpoint: Checkpoint, words: WordList) -> Corpus:
    return build_corpus(words, checkpoint.config.context, checkpoint.recipe.split, checkpoint.vocabulary)


def _training_contexts(checkpoint: Checkpoint, model: CharMLP, words: WordList) -> torch.Tensor:
    if model.config.norm != "batch":
        raise LmError(
            f"--recalibrate needs a model with BatchNorm, and this one has norm {model.config.norm}: leave it out"
        )
    if words.sha256 != checkpoint.sha256:
        words = read_words(checkpoint.source)
        checkpoint.require_same_data(words)
    return _corpus(checkpoint, words).train.contexts
