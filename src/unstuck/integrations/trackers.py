"""`unstuck.watch(log_to=…)`: the numbers of each site at the sampled steps, and the report, for experiment trackers.

Each has a file of its own, whose package is imported when it is named. What a tracker cannot take is said once on
standard error; watching and training go on without it.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unstuck.api import Run
from unstuck.config import ConfigError
from unstuck.integrations.vitals import site_scalars, site_summaries
from unstuck.ranks import own_rank
from unstuck.report import Report, style
from unstuck.stats.summary import TensorSummary

NAMES = ("mlflow", "tensorboard", "trackio", "wandb")


class Tracker(Protocol):
    """Where numbers go; any method may raise anything."""

    def step(self, step: int, scalars: dict[str, float], summaries: dict[str, TensorSummary]) -> None:
        """Take the numbers of one sampled step; steps come in rising order."""

    def report(self, report: Report, files: Sequence[Path]) -> None:
        """Take the report, rendered to files (HTML where that can be made, else text) that are gone afterwards."""

    def close(self) -> None:
        """Write what is left, and end what was begun for this run alone."""


def followers(log_to: object) -> list[TrackerFollower]:
    """Return what follows a run for the trackers that `log_to` names or is; none in other processes than the first.

    Raises ConfigError for a name or object that is no tracker known, and for a package that is missing.
    """
    several = log_to if isinstance(log_to, list | tuple) else [log_to]
    opened = [_tracker(one) for one in several]
    if own_rank() > 0:
        return []
    return [TrackerFollower(name, open_) for name, open_ in opened]


class TrackerFollower:
    """Gives a tracker what is new at each sampled step, and the report at the end; see `unstuck.api.Follower`."""

    def __init__(self, name: str, open_: Callable[[str], Tracker]) -> None:
        self.name = name
        self.failure: str | None = None
        self._open = open_
        self._tracker: Tracker | None = None
        self._last = -1

    def sampled(self, run: Run) -> None:
        """Log the sampled steps that are new."""
        self._safely(self._log, run)

    def ended(self, run: Run) -> None:
        """Log the last step and the report, and close the tracker, also after a failure."""
        self._safely(self._log, run)
        if self._tracker is not None:
            self._safely(self._deliver, run)
            self.failure, failure = None, self.failure
            self._safely(self._tracker.close)
            self.failure = failure or self.failure

    def _log(self, run: Run) -> None:
        trace = run.session.trace
        for step in [step for step in trace.steps if step > self._last]:
            self._last = step
            scalars, summaries = site_scalars(trace, step), site_summaries(trace, step)
            if summaries:
                self._opened(run).step(step, scalars, summaries)

    def _deliver(self, run: Run) -> None:
        report = run.report()
        with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
            html = style.installed()
            file = Path(folder) / ("report.html" if html else "report.txt")
            file.write_text(report.render("html" if html else "text", verbose=True), encoding="utf-8")
            self._opened(run).report(report, [file])

    def _opened(self, run: Run) -> Tracker:
        if self._tracker is None:
            begun = time.perf_counter()
            self._tracker = self._open(run.title)
            run.session.set_apart(time.perf_counter() - begun)
        return self._tracker

    def _safely(self, function: Callable[..., object], *args: object) -> None:
        if self.failure is not None:
            return
        python, numpy = random.getstate(), np.random.get_state()  # trackers draw names from them
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001  (whatever a tracker raises, the training goes on)
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failure = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
            print(  # noqa: T201
                f"unstuck: cannot go on logging to {self.name}: {self.failure}; "
                "watching and training go on, and the report has all numbers",
                file=sys.stderr,
            )
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _tracker(wanted: object) -> tuple[str, Callable[[str], Tracker]]:
    """Return a tracker's name and what opens it for a run of some title."""
    name = wanted if isinstance(wanted, str) else _package(wanted)
    if name not in NAMES:
        what = repr(wanted) if isinstance(wanted, str) else f"a {type(wanted).__module__}.{type(wanted).__qualname__}"
        raise ConfigError(
            f"log_to: {what} is no tracker that is known; choose from {', '.join(map(repr, NAMES))}, "
            "or give a run of wandb, mlflow or trackio, or a SummaryWriter"
        )
    given: Any = None if isinstance(wanted, str) else wanted
    try:
        return name, _opener(name, given)
    except ImportError as error:
        raise ConfigError(
            f"log_to={name!r} needs a package that is not installed ({error}); pip install 'unstuck[{name}]'"
        ) from None


def _opener(name: str, given: Any) -> Callable[[str], Tracker]:
    match name:
        case "wandb":
            from unstuck.integrations.wandb import WandbTracker

            return lambda title: WandbTracker(given, title)
        case "mlflow":
            from unstuck.integrations.mlflow import MlflowTracker

            return lambda title: MlflowTracker(given, title)
        case "trackio":
            from unstuck.integrations.trackio import TrackioTracker

            return lambda title: TrackioTracker(given, title)
        case _:
            import torch.utils.tensorboard  # noqa: F401  (which needs the package tensorboard)

            from unstuck.integrations.tensorboard import TensorBoardTracker

            return lambda _: TensorBoardTracker(given)


def _package(thing: object) -> str:
    """Return the name of the tracker whose package an object's class comes from, or nothing."""
    for one in type(thing).__mro__:
        if one.__module__.startswith("torch.utils.tensorboard"):
            return "tensorboard"
        if one.__module__.partition(".")[0] in ("wandb", "mlflow", "trackio"):
            return one.__module__.partition(".")[0]
    return ""
