"""Watches a loop of Accelerate (https://huggingface.co/docs/accelerate/usage_guides/tracking).

from unstuck.integrations.accelerate import watch

with watch(accelerator):
    ...  # the loop, as it is
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unstuck.capture.session import StopTraining
from unstuck.integrations.trainers import TrainerWatch
from unstuck.integrations.vitals import PREFIX

if TYPE_CHECKING:
    from accelerate import Accelerator

STEP = f"{PREFIX}/step"  # the update's number where that is not the tracker's own


@contextmanager
def watch(
    accelerator: Accelerator, *, stop_on_error: bool = False, print_report: bool = True, **options: Any
) -> Iterator[TrainerWatch]:
    """Watch the loop inside the block, log vitals to the accelerator's trackers, report when the block ends.

    Findings are raised as `FindingWarning`; with `stop_on_error` one of severity error ends the loop: the program goes
    on after the block. The value of the block has the `report`. Other options are those of `unstuck.watch`, and so are
    the errors that they raise.
    """
    watching = TrainerWatch(
        stop_on_error=stop_on_error, print_report=print_report, first=accelerator.is_main_process, **options
    )

    def write(tracker: Any, vitals: dict[str, float]) -> None:
        if tracker.name == "wandb":  # whose step is the script's to count: a lower one than ours would be dropped
            tracker.log({**vitals, STEP: watching.step}, commit=False)
        else:
            tracker.log(vitals, step=watching.step)

    def log() -> None:
        watching.log(write, *accelerator.trackers)
        if watching.should_stop:
            watching.stop()

    watching.when_sampled = log
    models = map(accelerator.unwrap_model, getattr(accelerator, "_models", ()))
    watching.begin(*models)
    try:
        yield watching
    except StopTraining:
        if not watching.should_stop:
            raise
    except BaseException as error:
        watching.end(error=error)
        raise
    finally:
        watching.end()
