"""`unstuck lm`: train, evaluate and sample the character-level language model.

Results go to standard output, notes, errors and the progress bar to standard error. Bad input ends with one line and
exit code 2; Ctrl-C saves and ends with 130.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.cli.errors import fail
from unstuck.lm.activations import ACTIVATIONS
from unstuck.lm.checkpoint import Checkpoint, holds_checkpoint, load_checkpoint, save_checkpoint
from unstuck.lm.data import PARTS, SHIPPED, SPLITS, WordList, read_words
from unstuck.lm.errors import LmError, require_choice, require_whole
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import TARGETS, Corpus, Examples, build_corpus, examples_of
from unstuck.lm.files import require_writable
from unstuck.lm.interrupts import deferred_interrupt
from unstuck.lm.model import INITS, NORMS, CharMLP, ModelConfig
from unstuck.lm.norms import recalibrate as recalibrate_model
from unstuck.lm.recipe import OPTIMIZERS, RECIPES, SCHEDULES, Recipe
from unstuck.lm.sample import LONGEST, sample_words
from unstuck.lm.train import Batch, LossFn, Run
from unstuck.lm.train import train as train_run

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train, evaluate and sample the character-level language model.",
)

ALL = "all"
REFRESH = 0.1  # seconds between two updates of the bar
_MODEL_OPTIONS = tuple(field.name for field in fields(ModelConfig) if field.name != "symbols")
_RECIPE_OPTIONS = tuple(field.name for field in fields(Recipe))


def _choice(known: Any, text: str) -> Any:
    return typer.Option(metavar="|".join(known), help=text)


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `unstuck lm train --out DIR`.")]
Data = Annotated[Path | None, typer.Option(help="UTF-8 file, one word per line. Default: the shipped names.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the checkpoint.")]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run saved in DIR, bit for bit.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that stands in the --out folder.")]
RecipeName = Annotated[str | None, _choice(RECIPES, "Where the training options start from. Default: fast.")]
Context = Annotated[int | None, typer.Option(help="Symbols that the model sees. Default: 3.")]
Embedding = Annotated[int | None, typer.Option(help="Numbers in a symbol's embedding. Default: 10.")]
Hidden = Annotated[int | None, typer.Option(help="Units in a hidden layer. Default: 200.")]
Depth = Annotated[int | None, typer.Option(help="Hidden layers. Default: 1.")]
Activation = Annotated[str | None, _choice(ACTIVATIONS, "Activation function. Default: tanh.")]
Init = Annotated[str | None, _choice(INITS, "Initialisation. Default: kaiming.")]
Norm = Annotated[str | None, _choice(NORMS, "Normalisation of the pre-activations. Default: batch.")]
Optimizer = Annotated[str | None, _choice(OPTIMIZERS, "Optimizer.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate of the schedule.")]
Schedule = Annotated[str | None, _choice(SCHEDULES, "How the learning rate goes over the steps.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples in a batch.")]
Steps = Annotated[int | None, typer.Option(help="Steps of the whole run; the schedule spans them.")]
StopAt = Annotated[int | None, typer.Option(help="Stop and save after this step; --resume goes on from there.")]
Targets = Annotated[
    str | None,
    _choice(TARGETS, "Train on the symbol drawn, or on the counts of all symbols that follow its context."),
]
SplitBy = Annotated[str | None, _choice(SPLITS, "Split 80/10/10 over distinct words, or over lines as the lecture.")]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay.")]
NormMomentum = Annotated[float | None, typer.Option(help="Weight of a new batch in the running statistics.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights and batches. Default: 0.")]
SaveEvery = Annotated[int, typer.Option(help="Also save after every so many steps; 0: only at the end.")]
Threads = Annotated[int, typer.Option(help="Processor threads. A model this small is quickest on one.")]
Preflight = Annotated[bool, typer.Option(help="Check the model on its first batch before training.")]
Part = Annotated[str | None, _choice((*PARTS, ALL), "Which part. Default: val; for other data than trained on, all.")]
Recalibrate = Annotated[
    bool, typer.Option("--recalibrate", help="First measure BatchNorm's statistics over the whole training set.")
]
Count = Annotated[int, typer.Option("-n", "--count", help="How many words.")]
SampleSeed = Annotated[int, typer.Option("--seed", help="The same seed gives the same words.")]
MaxLength = Annotated[int, typer.Option(help="Cut a word at this many characters.")]


@app.command()
def train(
    data: Data = None,
    out: Out = None,
    resume: Resume = None,
    overwrite: Overwrite = False,
    recipe: RecipeName = None,
    context: Context = None,
    embedding: Embedding = None,
    hidden: Hidden = None,
    depth: Depth = None,
    activation: Activation = None,
    init: Init = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    schedule: Schedule = None,
    batch_size: BatchSize = None,
    steps: Steps = None,
    stop_at: StopAt = None,
    targets: Targets = None,
    split: SplitBy = None,
    weight_decay: WeightDecay = None,
    norm_momentum: NormMomentum = None,
    seed: Seed = None,
    save_every: SaveEvery = 10_000,
    threads: Threads = 1,
    preflight: Preflight = True,
) -> None:
    """Train a model on a list of words and save it.

    Ctrl-C saves the run as it is. Options left out are the recipe's.
    """
    values = locals()
    given = {name: values[name] for name in ("recipe", *_MODEL_OPTIONS, *_RECIPE_OPTIONS) if values[name] is not None}
    with _one_line_errors(), _threads(threads):
        require_whole("--save-every", save_every, 0, 2**48)
        folder = _output_folder(out, resume, overwrite)
        run = _resumed(resume, data, given) if resume else _started(data, given)
        _check_stop(run, stop_at)
        _describe(run)
        if _train_and_save(run, folder, stop_at, save_every, preflight):
            raise typer.Exit(130)
        _print_losses(run)


@app.command("eval")
def evaluate_checkpoint(
    folder: Folder, split: Part = None, data: Data = None, recalibrate: Recalibrate = False
) -> None:
    """Print a saved model's mean loss in nats on a part of its data, or on other data."""
    with _one_line_errors(), _threads(1):
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
            _note(f"{words.name} has changed since training: its parts are not those that the model was trained on")
        typer.echo(_loss_line(part, evaluate(model, examples), len(examples)))


@app.command()
def sample(folder: Folder, count: Count = 20, seed: SampleSeed = 0, max_length: MaxLength = LONGEST) -> None:
    """Print words drawn from a saved model, one per line; the first k words do not depend on how many are asked for."""
    with _one_line_errors(), _threads(1):
        checkpoint = load_checkpoint(folder)
        for word in sample_words(checkpoint.model(), checkpoint.vocabulary, count, seed, max_length):
            typer.echo(word)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except LmError as error:
        fail(error)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch on `count` threads within the block: the last bits of a run depend on it."""
    require_whole("--threads", count, 1, 1024)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _note(text: str) -> None:
    typer.echo(f"unstuck: note: {text}", err=True)


def _output_folder(out: Path | None, resume: Path | None, overwrite: bool) -> Path:
    """Where to save, found to be writable before any work is done."""
    folder = out or resume
    if folder is None:
        raise LmError("no output folder: give one with --out DIR")
    if resume and not holds_checkpoint(resume):
        load_checkpoint(resume)  # raises, and says what is missing
    if folder != resume and holds_checkpoint(folder) and not overwrite:
        raise LmError(
            f"output folder {folder} holds a checkpoint: go on with --resume {folder}, "
            "replace it with --overwrite, or choose another --out"
        )
    require_writable(folder)
    return folder


def _started(data: Path | None, given: Mapping[str, Any]) -> Run:
    name = given.get("recipe", "fast")
    require_choice("--recipe", name, RECIPES)
    recipe = replace(RECIPES[name], **{key: value for key, value in given.items() if key in _RECIPE_OPTIONS})
    model_options = {key: value for key, value in given.items() if key in _MODEL_OPTIONS}
    config = ModelConfig(symbols=2, **model_options)  # checks the options before the data are read
    if "norm_momentum" in given and config.norm != "batch":
        raise LmError(f"--norm-momentum does nothing with --norm {config.norm}: leave it out, or use --norm batch")
    corpus = build_corpus(read_words(data or SHIPPED), config.context, recipe.split)
    return Run(replace(config, symbols=len(corpus.vocabulary)), recipe, corpus)


def _resumed(folder: Path, data: Path | None, given: Mapping[str, Any]) -> Run:
    if given:
        option = "--" + next(iter(given)).replace("_", "-")
        raise LmError(f"{option} cannot be given with --resume: the run goes on as it began; leave it out")
    checkpoint = load_checkpoint(folder)
    words = read_words(data or checkpoint.source)
    checkpoint.require_same_data(words)
    run = Run.resume(checkpoint, _corpus(checkpoint, words))
    if run.step == run.recipe.steps:
        raise LmError(f"the run in {folder} has done all its {run.step:,} steps: start a new one with more --steps")
    return run


def _check_stop(run: Run, stop_at: int | None) -> None:
    if stop_at is not None and not run.step < stop_at <= run.recipe.steps:
        raise LmError(
            f"--stop-at is {stop_at}: give a step after {run.step} and up to the run's last, {run.recipe.steps}"
        )


def _describe(run: Run) -> None:
    corpus, config = run.corpus, run.config
    sizes = " / ".join(f"{len(corpus.part(part)):,}" for part in PARTS)
    typer.echo(
        f"data: {corpus.words.name}, {len(corpus.words.words):,} words, {config.symbols} symbols, "
        f"{sizes} examples (train / val / test)"
    )
    if corpus.split.leaked:
        _note(
            f"{corpus.split.leaked:,} of {len(corpus.split.val):,} validation words also stand in training, "
            "as the file repeats them: --split words keeps them apart"
        )
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    typer.echo(
        f"model: {config.depth} × {config.hidden} {config.activation}, {config.init} init, norm {config.norm}, "
        f"{parameters:,} parameters"
    )


def _train_and_save(run: Run, folder: Path, stop_at: int | None, save_every: int, preflight: bool) -> bool:
    """Train, save, report; returns whether Ctrl-C ended it."""
    begin, start = run.step, time.perf_counter()
    with deferred_interrupt() as interrupt, _Bar(run, stop_at) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step, loss)
            if save_every and step % save_every == 0:
                save_checkpoint(folder, run.checkpoint())

        train_run(
            run,
            stop_at=stop_at,
            on_first_batch=_preflight if preflight else None,
            on_step=on_step,
            should_stop=lambda: interrupt.asked,
        )
        save_checkpoint(folder, run.checkpoint())
    seconds = time.perf_counter() - start
    done = run.step - begin
    typer.echo(f"trained {done:,} steps in {seconds:.1f} s ({done / seconds:,.0f} steps/s)")
    state = "interrupted" if interrupt.asked else "stopped" if run.step < run.recipe.steps else "finished"
    typer.echo(f"{state} at step {run.step:,} of {run.recipe.steps:,}, saved to {folder}")
    if state != "finished":
        typer.echo(f"go on with: unstuck lm train --resume {folder}")
    return interrupt.asked


def _preflight(model: CharMLP, batch: Batch, loss_fn: LossFn) -> None:
    import unstuck

    typer.echo(unstuck.check(model, batch, loss_fn).render())


def _print_losses(run: Run) -> None:
    for part in ("train", "val"):
        examples = run.corpus.part(part)
        typer.echo(_loss_line(part, evaluate(run.model, examples), len(examples)))


def _loss_line(part: str, loss: float, count: int) -> str:
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return f"{part}: loss {loss:.4f} nats (perplexity {perplexity:.3f}) over {count:,} examples"


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


class _Bar:
    """A progress bar with loss, rate and time left; silent where standard error is no terminal."""

    def __init__(self, run: Run, stop_at: int | None) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} steps/s"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.progress.add_task(
            "", total=stop_at or run.recipe.steps, completed=run.step, loss=0.0, rate=0.0
        )
        self.losses: list[float] = []
        self.begin, self.start = run.step, time.perf_counter()
        self.shown = self.start

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, step: int, loss: float) -> None:
        """Note a step's loss; redraw when it is time. The first call shows the bar."""
        self.losses.append(loss)
        now = time.perf_counter()
        if now - self.shown < REFRESH:
            return
        self.progress.start()
        mean = sum(self.losses) / len(self.losses)
        self.progress.update(self.task, completed=step, loss=mean, rate=(step - self.begin) / (now - self.start))
        self.losses.clear()
        self.shown = now
