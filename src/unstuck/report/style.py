"""What all charts share: Altair where it is installed, colours, sizes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

BLUE, ORANGE, GREEN, RED, GREY = "#2f7fd6", "#c9670c", "#1f9163", "#d8453b", "#7b828c"
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
"""Each keeps a contrast of 3 : 1 on a white page and on a dark one."""
PAGES = ("#ffffff", "#15181d")
"""The backgrounds of the light page and of the dark one."""
GREYS = {"domain": [0, 0.999, 1], "range": ["#000000", "#8c8c8c", "#ffffff"]}
"""The scale of a map of units: only what is wholly saturated is white."""
WIDTH, HEIGHT = 640, 260
MISSING = 'charts need Altair and vl-convert: pip install "unstuck[html]"'


def altair() -> Any:
    """Return the module; raises ImportError, saying what to install, where it or vl-convert is missing."""
    try:
        import altair
        import vl_convert  # noqa: F401  (which Altair needs to write files)
    except ImportError as error:
        raise ImportError(MISSING) from error
    return altair


def installed() -> bool:
    """Tell whether charts can be drawn here, importing nothing."""
    return all(find_spec(name) is not None for name in ("altair", "vl_convert"))


def unvalidated() -> AbstractContextManager[None]:
    """Return a context in which Altair does not hold each row of data against its schema: most of a chart's time."""
    from altair.utils.schemapi import debug_mode

    return debug_mode(False)


def values(rows: list[dict[str, Any]]) -> Any:
    """Return rows as the data of a chart."""
    return altair().Data(values=rows)
