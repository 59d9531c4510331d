"""unstuck finds out why a neural network won't train, points at the line, and gets it training."""

from typing import Any

from unstuck._version import __version__
from unstuck.api import Run, check, explain, fix, watch
from unstuck.config import Config
from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.fold_norm import fold_norms
from unstuck.fixes.learning_rate import suggest_lr
from unstuck.fixes.recalibrate import recalibrate
from unstuck.report import Report
from unstuck.trainable import assert_trainable

__all__ = [
    "Config",
    "Finding",
    "Fix",
    "Report",
    "Run",
    "__version__",
    "assert_trainable",
    "check",
    "explain",
    "fix",
    "fold_norms",
    "recalibrate",
    "suggest_lr",
    "watch",
]


def load_ipython_extension(shell: Any) -> None:
    """Make `%load_ext unstuck` work: registers the cell magic `%%unstuck`."""
    from unstuck.integrations.ipython import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Undo `load_ipython_extension`."""
    from unstuck.integrations.ipython import unload_ipython_extension as unload

    unload(shell)
