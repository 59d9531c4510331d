"""All remedies by name: every subclass of Remedy in a module of this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from unstuck import fixes
from unstuck.fixes.remedy import Remedy


@cache
def all_remedies() -> dict[str, type[Remedy]]:
    """Return the remedies by name, sorted. Raises ValueError when two share a name."""
    found: dict[str, type[Remedy]] = {}
    for module in pkgutil.iter_modules(fixes.__path__, f"{fixes.__name__}."):
        if module.ispkg:
            continue
        for remedy in vars(importlib.import_module(module.name)).values():
            own = inspect.isclass(remedy) and issubclass(remedy, Remedy) and remedy.__module__ == module.name
            if own and not inspect.isabstract(remedy):
                if remedy.name in found:
                    raise ValueError(f"two remedies are named {remedy.name}")
                found[remedy.name] = remedy
    return dict(sorted(found.items()))
