"""A callback for Lightning's trainer (https://lightning.ai/docs/pytorch/stable/extensions/callbacks.html).

from unstuck.integrations.lightning import UnstuckCallback

trainer = Trainer(callbacks=[UnstuckCallback()])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unstuck.integrations.trainers import TrainerWatch
from unstuck.report import Report

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError:
            raise ImportError("the Lightning callback needs lightning; pip install 'unstuck[lightning]'") from None


class UnstuckCallback(Callback):
    """Watches `trainer.fit`, logs vitals to the trainer's loggers and prints the report when training ends.

    Findings are raised as `FindingWarning`; with `stop_on_error` one of severity error ends the training as
    `trainer.should_stop` does. `print_report=False` leaves the printing to you: `callback.report` is the `Report`.
    Other options are those of `unstuck.watch`, and so are the errors that they raise.
    """

    def __init__(self, *, stop_on_error: bool = False, print_report: bool = True, **options: Any) -> None:
        super().__init__()
        self._watch = TrainerWatch(stop_on_error=stop_on_error, print_report=print_report, **options)

    @property
    def report(self) -> Report | None:
        """What was found, so far while training goes on; None before."""
        return self._watch.report

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch."""
        self._watch.first = trainer.is_global_zero
        self._watch.begin(pl_module, trained=trainer.global_step > 0 or trainer.ckpt_path is not None)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Log the vitals of a newly sampled step; stop where that is asked for."""
        step = trainer.global_step
        self._watch.log(lambda logger, vitals: logger.log_metrics(vitals, step=step), *trainer.loggers)
        if self._watch.should_stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the watching and report."""
        self._watch.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the watching and report, also of a training that failed or was interrupted."""
        self._watch.end(error=exception)
