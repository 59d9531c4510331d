"""A site's identity: module path, operation, the user's source line, and a counter; the same in every step."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Hashable, Iterator
from types import CodeType, FrameType
from typing import Any

import torch

from unstuck.trace import Kind, Location, Site, Trace

TRAINERS = frozenset(
    """
    accelerate lightning lightning_fabric pytorch_lightning transformers trl peft timm ignite composer fastai
    skorch deepspeed torchtnt torchtune sentence_transformers diffusers jaxtyping beartype typeguard
    """.split()
)
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_OUR_USER_CODE = os.path.join(_OURS, "lm") + os.sep
_RUNNERS = frozenset(os.path.join(_OURS, *path) for path in (("capture", "script.py"), ("cli", "check.py")))
"""Above these there are only our own callers."""
_PURELIB = sysconfig.get_paths()["purelib"] + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep

USER, FRAMEWORK, INTERNAL, OUTERMOST = range(4)


def _origin_of(code: CodeType) -> int:
    """Tell whose code this is: the user's, a training framework's, or torch's, Python's and ours (or the end)."""
    file = code.co_filename
    if file in _RUNNERS:
        return OUTERMOST
    if file.startswith(("<frozen", _TORCH)):
        return INTERNAL
    if file.startswith(_OURS) and not file.startswith(_OUR_USER_CODE):
        return INTERNAL
    if file.startswith(_PURELIB):
        package = file[len(_PURELIB) :].split(os.sep, 1)[0].removesuffix(".py")
        return FRAMEWORK if package in TRAINERS else USER
    return INTERNAL if file.startswith(_STDLIB) and "site-packages" not in file else USER


class Locator:
    """Finds the user's frame above a torch call."""

    def __init__(self) -> None:
        self._origins: dict[CodeType, int] = {}

    def is_internal(self, code: CodeType) -> bool:
        """Tell whether code is torch's, Python's or ours: neither the user's nor a training framework's."""
        return _origin_of(code) in (INTERNAL, OUTERMOST)

    def frame(self, frame: FrameType | None) -> FrameType | None:
        """Return the innermost user frame at or above `frame`; the innermost framework frame when there is none."""
        fallback = None
        while frame is not None:
            origin = self._origins.get(frame.f_code)
            if origin is None:
                origin = self._origins[frame.f_code] = _origin_of(frame.f_code)
            if origin == USER:
                return frame
            if origin == OUTERMOST:
                break
            if origin == FRAMEWORK and fallback is None:
                fallback = frame
            frame = frame.f_back
        return fallback


def location_of(frame: FrameType | None) -> Location | None:
    """Return the source line a frame is at."""
    if frame is None:
        return None
    code = frame.f_code
    return Location(_file_of(code), frame.f_lineno, code.co_qualname)


def _file_of(code: CodeType) -> str:
    """Return the path of code's file; for a notebook's cell the name that its tracebacks give it ("In[3]")."""
    file = code.co_filename
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    known = getattr(getattr(shell, "compile", None), "format_code_name", None)
    label = None if known is None else known(file)
    if label is not None and file in linecache.cache:
        linecache.cache[label[1]] = linecache.cache[file]
        return str(label[1])
    return file if file.startswith("<") else os.path.abspath(file)


def locals_of(frame: FrameType) -> dict[str, Any]:
    """Return a copy of a frame's local variables, without leaving one behind.

    Before Python 3.13 reading a function's `f_locals` leaves a snapshot in the frame that keeps every tensor in it
    alive until the function returns (https://peps.python.org/pep-0667/).
    """
    scope = frame.f_locals
    copy = dict(scope)
    if type(scope) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        scope.clear()
    return copy


def variable_name(frame: FrameType | None, value: object) -> str:
    """Return the name under which the user's code holds `value` ("W1", "self.weight", "params[2]"), or ""."""
    while frame is not None:
        scopes = [locals_of(frame), frame.f_globals]
        for scope in scopes:
            for name, held in _names_in(scope):
                if held is value:
                    return name
        frame = frame.f_back
        if frame is not None and _origin_of(frame.f_code) != USER:
            return ""
    return ""


def _names_in(scope: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield plain variables first, then attributes of `self`, then entries of lists and dicts."""
    variables = [(name, held) for name, held in scope.items() if not name.startswith("__")]
    yield from ((name, held) for name, held in variables if isinstance(held, torch.Tensor))
    owner = scope.get("self")
    if owner is not None and hasattr(owner, "__dict__"):
        yield from ((f"{type(owner).__name__}.{name}", held) for name, held in vars(owner).items())
    for name, held in variables:
        if isinstance(held, list | tuple) and len(held) <= 1_000:
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(held))
        elif isinstance(held, dict) and len(held) <= 1_000:
            yield from ((f"{name}[{key!r}]", item) for key, item in held.items())


class SiteRegistry:
    """Gives out sites; the same key gives the same site."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._by_key: dict[Hashable, Site] = {}

    def get(self, key: Hashable) -> Site | None:
        """Return the site with this key, or None."""
        return self._by_key.get(key)

    def create(
        self,
        key: Hashable,
        kind: Kind,
        op: str,
        path: str,
        location: Location | None,
        ordinal: int = 0,
        module: str = "",
    ) -> Site:
        """Make a new site and enter it in the trace."""
        site = Site(len(self._trace.sites), kind, op, path, location, len(self._trace.sites), ordinal, module)
        self._trace.sites.append(site)
        self._by_key[key] = site
        return site


class Ordinals:
    """Counts how often a place was passed within one call of a module (or, outside modules, one step)."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}

    def next(self, place: Hashable) -> int:
        """Return 0 for the first passage, 1 for the second, …"""
        n = self._counts.get(place, 0)
        self._counts[place] = n + 1
        return n
