"""`unstuck lm`: the character-level language model's commands.

Results go to standard output, notes, errors and the progress bar to standard error. Bad input ends with one line and
exit code 2.
"""

from __future__ import annotations

import typer

from unstuck.cli import lm_ladder, lm_train, lm_use

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train, evaluate and sample the character-level language model.",
)

app.command("train")(lm_train.train)
app.command("eval")(lm_use.evaluate_checkpoint)
app.command("score")(lm_use.score)
app.command("sample")(lm_use.sample)
app.command("ladder")(lm_ladder.ladder)
