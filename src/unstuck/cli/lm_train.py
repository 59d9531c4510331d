"""`unstuck lm train`: train the language model on a word list, and save it.

Ctrl-C saves and ends with 130.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.cli.lm_common import Data, choice, loss_line, note, one_line_errors, reading_bar, use_threads
from unstuck.lm.activations import ACTIVATIONS
from unstuck.lm.checkpoint import holds_checkpoint, load_checkpoint, save_checkpoint
from unstuck.lm.corpus import corpus_of, open_corpus, open_words
from unstuck.lm.data import PARTS, SHIPPED, SPLITS
from unstuck.lm.errors import LmError, require_choice, require_whole
from unstuck.lm.evaluate import evaluate_rows, spread_rows
from unstuck.lm.examples import TARGETS
from unstuck.lm.files import require_writable
from unstuck.lm.interrupts import deferred_interrupt
from unstuck.lm.model import INITS, KINDS, NORMS, CharModel, ModelConfig
from unstuck.lm.recipe import OPTIMIZERS, RECIPES, SCHEDULES, Recipe
from unstuck.lm.tokens import cache_folder
from unstuck.lm.train import Batch, LossFn, Run
from unstuck.lm.train import train as train_run

HINT = " (-v says why)"  # of a report whose command has that option, as this one has not
REFRESH = 0.1  # seconds between two updates of the bar
STREAMED_FROM = 2**23  # bytes of a data file; a million lines of 8 in memory take 1.1 GiB (benchmarks/lm_large.py)
SYMBOLS_EVALUATED, WORDS_EVALUATED = 2**18, 2**15  # of a part, after training: all of a list of some 40,000 words
_MODEL_OPTIONS = tuple(field.name for field in fields(ModelConfig) if field.name != "symbols")
_RECIPE_OPTIONS = tuple(field.name for field in fields(Recipe))

Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the checkpoint.")]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run saved in DIR, bit for bit.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that stands in the --out folder.")]
RecipeName = Annotated[
    str | None, choice(RECIPES, "Where the training options start from. Default: fast; words for gru and transformer.")
]
Kind = Annotated[
    str | None,
    typer.Option("--model", metavar="|".join(KINDS), help="Kind of model; it sets the defaults below. Default: mlp."),
]
Context = Annotated[int | None, typer.Option(help="Symbols that the model sees. Default: 3 (mlp), 32.")]
Embedding = Annotated[
    int | None, typer.Option(help="Numbers in a symbol's embedding; a transformer's width. Default: 10 (mlp), 64.")
]
Hidden = Annotated[
    int | None,
    typer.Option(
        help="Units in a hidden layer; a transformer's feed-forward width. Default: 200 (mlp), 256 (gru), 128."
    ),
]
Depth = Annotated[int | None, typer.Option(help="Hidden layers or blocks. Default: 1 (mlp, gru), 2.")]
Activation = Annotated[str | None, choice(ACTIVATIONS, "Activation function. Default: tanh; gelu for transformer.")]
Init = Annotated[str | None, choice(INITS, "Initialisation of an mlp. Default: kaiming.")]
Norm = Annotated[str | None, choice(NORMS, "Normalisation of an mlp's pre-activations. Default: batch.")]
Residual = Annotated[
    bool | None,
    typer.Option(
        "--residual", show_default=False, help="Add an mlp's hidden layers, from the second, to their inputs."
    ),
]
Dropout = Annotated[
    float | None, typer.Option(help="Share of values dropped by a gru or transformer. Default: 0.2 (gru), 0.")
]
Heads = Annotated[int | None, typer.Option(help="A transformer's attention heads. Default: 2.")]
Optimizer = Annotated[str | None, choice(OPTIMIZERS, "Optimizer.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate of the schedule.")]
Schedule = Annotated[str | None, choice(SCHEDULES, "How the learning rate goes over the steps.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples in a batch; words for gru and transformer.")]
Steps = Annotated[int | None, typer.Option(help="Steps of the whole run; the schedule spans them.")]
StopAt = Annotated[int | None, typer.Option(help="Stop and save after this step; --resume goes on from there.")]
Targets = Annotated[
    str | None,
    choice(TARGETS, "Train on the symbol drawn, or on the counts of all symbols that follow its context."),
]
SplitBy = Annotated[
    str | None,
    choice(
        SPLITS,
        "Split 80/10/10 over distinct words, over lines as the lecture, or by each word's hash with the tokens on the "
        f"disk (default for files over {STREAMED_FROM >> 20} MiB).",
    ),
]
Lower = Annotated[bool | None, typer.Option("--lower", show_default=False, help="Take the words in lower case.")]
MinCount = Annotated[
    int | None, typer.Option(help="Leave out words with a character that the data hold fewer times. Default: 1.")
]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay.")]
NormMomentum = Annotated[float | None, typer.Option(help="Weight of a new batch in the running statistics.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights and batches. Default: 0.")]
SaveEvery = Annotated[int, typer.Option(help="Also save after every so many steps; 0: only at the end.")]
Threads = Annotated[int, typer.Option(help="Processor threads. A model this small is quickest on one.")]
Preflight = Annotated[bool, typer.Option(help="Check the model on its first batch before training.")]


def train(
    data: Data = None,
    out: Out = None,
    resume: Resume = None,
    overwrite: Overwrite = False,
    recipe: RecipeName = None,
    kind: Kind = None,
    context: Context = None,
    embedding: Embedding = None,
    hidden: Hidden = None,
    depth: Depth = None,
    activation: Activation = None,
    init: Init = None,
    norm: Norm = None,
    residual: Residual = None,
    dropout: Dropout = None,
    heads: Heads = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    schedule: Schedule = None,
    batch_size: BatchSize = None,
    steps: Steps = None,
    stop_at: StopAt = None,
    targets: Targets = None,
    split: SplitBy = None,
    lower: Lower = None,
    min_count: MinCount = None,
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
    with one_line_errors(), use_threads(threads):
        require_whole("--save-every", save_every, 0, 2**48)
        folder = _output_folder(out, resume, overwrite)
        run = _resumed(resume, data, given) if resume else _started(data, given)
        _check_stop(run, stop_at)
        _describe(run)
        if _train_and_save(run, folder, stop_at, save_every, preflight):
            raise typer.Exit(130)
        _print_losses(run)


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
    model_options = {key: value for key, value in given.items() if key in _MODEL_OPTIONS}
    kind = model_options.pop("kind", "mlp")
    config = ModelConfig.of(kind, 2, **model_options)  # checks the options before reading the data
    source = data or SHIPPED
    recipe = _recipe(source, config, given)
    if "norm_momentum" in given and config.norm != "batch":
        raise LmError(f"--norm-momentum does nothing with --norm {config.norm}: leave it out, or use --norm batch")
    with reading_bar(source) as on_bytes:
        corpus = open_corpus(source, config, recipe, on_bytes=on_bytes)
    return Run(replace(config, symbols=len(corpus.vocabulary)), recipe, corpus)


def _recipe(source: str | Path, config: ModelConfig, given: Mapping[str, Any]) -> Recipe:
    """The recipe that is named, or the model's own, with the options given and what these leave no choice in."""
    name = given.get("recipe", "words" if config.reads_words else "fast")
    require_choice("--recipe", name, RECIPES)
    recipe = replace(RECIPES[name], **{key: value for key, value in given.items() if key in _RECIPE_OPTIONS})
    if "split" not in given and Path(source).is_file() and Path(source).stat().st_size > STREAMED_FROM:
        recipe = replace(recipe, split="hash")
        note(f"{source} is large: its words are split by hash, and read from token files in {cache_folder()}")
    if recipe.targets == "counted" and (config.reads_words or recipe.split == "hash"):
        if "targets" in given:
            why = f"--model {config.kind}" if config.reads_words else "--split hash"
            raise LmError(f"--targets counted cannot be had with {why}: leave it out, or use --targets drawn")
        recipe = replace(recipe, targets="drawn")
    return recipe


def _resumed(folder: Path, data: Path | None, given: Mapping[str, Any]) -> Run:
    if given:
        name = next(iter(given))
        option = "--model" if name == "kind" else "--" + name.replace("_", "-")
        raise LmError(f"{option} cannot be given with --resume: the run goes on as it began; leave it out")
    checkpoint = load_checkpoint(folder)
    source = data or checkpoint.source
    with reading_bar(source) as on_bytes:
        words = open_words(source, checkpoint.recipe, on_bytes)
    checkpoint.require_same_data(words)
    run = Run.resume(checkpoint, corpus_of(words, checkpoint.config, checkpoint.recipe, checkpoint.vocabulary))
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
        f"data: {corpus.words.name}, {corpus.words.count:,} words, {config.symbols} symbols, "
        f"{sizes} examples (train / val / test)"
    )
    if corpus.leaked:
        val = int((corpus.val.tokens == 0).sum())
        note(
            f"{corpus.leaked:,} of {val:,} validation words also stand in training, "
            "as the file repeats them: --split words keeps them apart"
        )
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    typer.echo(f"model: {_shape(config)}, {parameters:,} parameters")


def _shape(config: ModelConfig) -> str:
    size = f"{config.depth} × {config.hidden}"
    if config.kind == "gru":
        return f"gru, {size}, context {config.context}, dropout {config.dropout:g}"
    if config.kind == "transformer":
        return (
            f"transformer, {config.depth} × ({config.embedding} wide, {config.heads} heads, {config.hidden} "
            f"{config.activation}), context {config.context}, dropout {config.dropout:g}"
        )
    residual = ", residual" if config.residual else ""
    return f"{size} {config.activation}{residual}, {config.init} init, norm {config.norm}"


def _train_and_save(run: Run, folder: Path, stop_at: int | None, save_every: int, preflight: bool) -> bool:
    """Train, save, report; returns whether Ctrl-C ended it."""
    begin, start = run.step, time.perf_counter()
    with deferred_interrupt() as interrupt, _Bar(run, stop_at) as bar:

        def check(model: CharModel, batch: Batch, loss_fn: LossFn) -> None:
            nonlocal start
            _preflight(model, batch, loss_fn)
            start = bar.start = time.perf_counter()  # no rate counts the check

        def on_step(step: int, loss: float) -> None:
            bar.update(step, loss)
            if save_every and step % save_every == 0:
                save_checkpoint(folder, run.checkpoint())

        train_run(
            run,
            stop_at=stop_at,
            on_first_batch=check if preflight else None,
            on_step=on_step,
            should_stop=lambda: interrupt.asked,
        )
        save_checkpoint(folder, run.checkpoint())
    seconds = time.perf_counter() - start
    done = run.step - begin
    typer.echo(f"trained {done:,} step{'s' if done != 1 else ''} in {seconds:.1f} s ({done / seconds:,.0f} steps/s)")
    state = "interrupted" if interrupt.asked else "stopped" if run.step < run.recipe.steps else "finished"
    typer.echo(f"{state} at step {run.step:,} of {run.recipe.steps:,}, saved to {folder}")
    if state != "finished":
        typer.echo(f"go on with: unstuck lm train --resume {folder}")
    return interrupt.asked


def _preflight(model: CharModel, batch: Batch, loss_fn: LossFn) -> None:
    import unstuck

    typer.echo(unstuck.check(model, batch, loss_fn).render().replace(HINT, ""))


def _print_losses(run: Run) -> None:
    for part in ("train", "val"):
        examples = run.corpus.part(part)
        most = WORDS_EVALUATED if run.config.reads_words else SYMBOLS_EVALUATED
        loss, count = evaluate_rows(run.model, examples, spread_rows(examples, most))
        typer.echo(loss_line(part, loss, count))


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
