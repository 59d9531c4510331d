"""Values from a file as the dataclasses they are to be: what is not of the declared type is refused."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
LARGEST = 2**63 - 1  # of whole numbers: SQLite and numpy know no larger ones


def build(kind: type[Kind], data: object) -> Kind:
    """Return a dataclass made of a mapping of its fields, or of a list of their values, as JSON knows them.

    Fields with defaults may be missing. Raises TypeError and ValueError for anything else than their types declare.
    """
    declared: Any = kind  # mypy: types can be hashed
    hints = _hints(declared)
    if isinstance(data, list):
        data = dict(zip(hints, data, strict=len(data) > len(hints)))
    if not isinstance(data, dict):
        raise TypeError(f"{kind.__name__} is given as {_shown(data)}")
    if unknown := data.keys() - hints.keys():
        raise ValueError(f"{kind.__name__} has no {min(map(str, unknown))[:50]!r}")
    if missing := [name for name in _needed(declared) if name not in data]:
        raise ValueError(f"{kind.__name__} lacks {missing[0]!r}")
    return kind(**{name: typed(hints[name], value) for name, value in data.items()})


def typed(hint: Any, value: Any) -> Any:
    """Return a value as a type hint has it: lists as tuples, texts as enumerations; raises TypeError or ValueError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (one for one in arguments if one is not type(None))
        return typed(hint, value)
    if origin is tuple:
        return _items(arguments, value, hint)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise TypeError(f"{_shown(value)} is no {hint}")
        return {typed(arguments[0], key): typed(arguments[1], one) for key, one in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    if issubclass(hint, Enum):
        return hint(value)
    return _plain(hint, value)


def _items(hints: Sequence[Any], value: object, hint: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{_shown(value)} is no {hint}")
    kinds = [hints[0]] * len(value) if hints[1:] == (...,) else hints
    return tuple(typed(kind, one) for kind, one in zip(kinds, value, strict=True))


def _plain(hint: type, value: Any) -> Any:
    wanted: tuple[type, ...] = (int, float) if hint is float else (hint,)
    if not isinstance(value, wanted) or isinstance(value, bool) != (hint is bool):
        raise TypeError(f"{_shown(value)} is no {hint.__name__}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{_shown(value)} is too large")
    return value


def _shown(value: object) -> str:
    return f"{str(value)[:50]!r}" if not isinstance(value, int) or abs(value) <= LARGEST else "a number"


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _needed(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING)
