"""A callback for the trainer of transformers (https://huggingface.co/docs/transformers/main_classes/callback).

from unstuck.integrations.transformers import watch

watch(trainer)  # before trainer.train()
"""

from __future__ import annotations

import functools
from typing import Any

from unstuck.integrations.trainers import TrainerWatch
from unstuck.report import Report

try:
    from transformers import Trainer, TrainerCallback
except ImportError:
    raise ImportError("the transformers callback needs transformers; pip install 'unstuck[transformers]'") from None


class UnstuckCallback(TrainerCallback):
    """Watches `trainer.train`, adds vitals to what the trainer logs and prints the report when training ends.

    `watch(trainer)` adds it. Given as `Trainer(callbacks=[UnstuckCallback()])` it stands behind the loggers of
    `report_to`, so that only the trainer's own history has the vitals, and is not told of an exception: the watching
    of such a training ends with the next `train`, or with the process. Findings are raised as `FindingWarning`; with
    `stop_on_error` one of severity error ends the training as `control.should_training_stop` does.
    `print_report=False` leaves the printing to you: `callback.report` is the `Report`. Other options are those of
    `unstuck.watch`, and so are the errors that they raise.
    """

    _untold: UnstuckCallback | None = None  # the one that watches, where it will not be told of an exception

    def __init__(self, *, stop_on_error: bool = False, print_report: bool = True, **options: Any) -> None:
        super().__init__()
        self._watch = TrainerWatch(stop_on_error=stop_on_error, print_report=print_report, **options)
        self._is_told = False

    @property
    def report(self) -> Report | None:
        """What was found, so far while training goes on; None before."""
        return self._watch.report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Begin to watch."""
        left = UnstuckCallback._untold
        if left is not None and left._watch.step >= 0:  # its training has begun, and another one begins
            left._watch.end(failed=True)
        self._watch.first = state.is_world_process_zero
        model = kwargs.get("model")
        self._watch.begin(*([] if model is None else [model]), trained=state.global_step > 0)
        UnstuckCallback._untold = None if self._is_told else self

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop where that is asked for."""
        if self._watch.should_stop:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Add the vitals of the last sampled step to what is logged of the training."""
        if logs is not None and "loss" in logs:
            logs.update(self._watch.vitals)
            state.log_history[-1].update(self._watch.vitals)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """End the watching and report."""
        self._watch.end()


def watch(trainer: Trainer, **options: Any) -> UnstuckCallback:
    """Add an `UnstuckCallback` to a trainer, before its loggers, and return it; options are those of the callback.

    It is told of an exception or an interrupt that leaves `trainer.train`, ends the watching there and reports.
    """
    callback, train = UnstuckCallback(**options), trainer.train

    @functools.wraps(train)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return train(*args, **kwargs)
        except BaseException as error:
            callback._watch.end(error=error)
            raise

    trainer.train = told  # type: ignore[method-assign]
    callback._is_told = True
    trainer.callback_handler.callbacks.insert(0, callback)
    return callback
