"""What single rules need to know beyond the summaries, each file for one question.

A module in here has `LOOKS`, a dict from names of torch operations ("softmax", "linear") to a `Look`: a function that
is shown each such call of a sampled training pass after the handlers of `forward.py` have seen it. It may write
numbers to the trace through `recorder.later`, and must leave tensors, graph and random state alone. A module with
`SELDOM = True` answers a question that some samples suffice for: once there are many (`Recorder.thorough`), it is shown
one in eight. There is no list of modules to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Site

Look = Callable[[Recorder, TorchCall, Any, Site | None], None]
"""Called with the recorder, the call, what it returned, and the site that stands for the call, if any."""


@cache
def looks(thorough: bool = True) -> dict[str, tuple[Look, ...]]:
    """Return, by operation, what looks at its calls; without those that look seldom unless `thorough`."""
    found: dict[str, list[Look]] = defaultdict(list)
    for info in pkgutil.iter_modules(__path__, __name__ + "."):
        module = importlib.import_module(info.name)
        if thorough or not getattr(module, "SELDOM", False):
            for op, look in getattr(module, "LOOKS", {}).items():
                found[op].append(look)
    return {op: tuple(those) for op, those in found.items()}
