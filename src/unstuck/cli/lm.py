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
)

app.command("train")(lm_train.train)
app.command("eval", short_help="Print a saved model's loss on a part of its data.")(lm_use.evaluate_checkpoint)
app.command("score", short_help="Print how surprising each word is to a saved model.")(lm_use.score)
app.command("sample", short_help="Print words drawn from a saved model.")(lm_use.sample)
app.command("ladder", short_help="Train the lecture's five stages with many seeds; compare.")(lm_ladder.ladder)
