"""All rules, discovered from the modules below this package; there is no list to edit."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

import unstuck.rules
from unstuck.rules.rule import Rule


class UnknownRuleError(ValueError):
    """A code or prefix that names no rule."""


@cache
def all_rules() -> dict[str, type[Rule]]:
    """Return code → rule class, in the order of the codes.

    Raises RuntimeError when two modules claim one code.
    """
    found: dict[str, type[Rule]] = {}
    for module_info in pkgutil.walk_packages(unstuck.rules.__path__, "unstuck.rules."):
        module = importlib.import_module(module_info.name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Rule) and value.__module__ == module.__name__:
                if value is Rule:
                    continue
                if value.code in found:
                    raise RuntimeError(f"{value.__module__} and {found[value.code].__module__} both claim {value.code}")
                found[value.code] = value
    return dict(sorted(found.items()))


def get_rule(code: str) -> type[Rule]:
    """Return the rule with this code or name (any case); raises UnknownRuleError with the nearest match."""
    rules = all_rules()
    by_name = {rule.name: rule for rule in rules.values()}
    rule = rules.get(code.upper()) or by_name.get(code.lower())
    if rule is None:
        raise UnknownRuleError(_unknown(code, [*rules, *by_name]))
    return rule


def choose(
    select: Iterable[str] = (), ignore: Iterable[str] = (), extend_select: Iterable[str] = ()
) -> list[type[Rule]]:
    """Return the rules whose code starts with one of `select` or `extend_select`, and with none of `ignore`.

    All are selected when `select` is empty. Raises UnknownRuleError for an entry that matches no rule.
    """
    rules = all_rules()
    select, ignore, extend_select = ([s.upper() for s in codes] for codes in (select, ignore, extend_select))
    select = [*select, *extend_select] if select else []
    for prefix in [*select, *ignore, *extend_select]:
        if not prefix or not any(code.startswith(prefix) for code in rules):
            raise UnknownRuleError(_unknown(prefix, list(rules)))
    return [
        rule
        for code, rule in rules.items()
        if (not select or code.startswith(tuple(select))) and not code.startswith(tuple(ignore) or ("\0",))
    ]


def check_thresholds(thresholds: Mapping[str, Mapping[str, float]]) -> None:
    """Raise UnknownRuleError when a code names no rule, or a name none of its thresholds."""
    for code, values in thresholds.items():
        if code not in all_rules():
            raise UnknownRuleError(_unknown(code, list(all_rules())))
        known = all_rules()[code].thresholds()
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none to set'}"
                raise UnknownRuleError(f"{code} has no threshold {name!r}; {hint}")


def _unknown(code: str, known: list[str]) -> str:
    near = difflib.get_close_matches(code.upper(), [k for k in known if k.isupper()], 1, 0.5)
    near = near or difflib.get_close_matches(code.lower(), known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "see `unstuck rule --all`"
    return f"no rule is called {code!r}; {hint}"
