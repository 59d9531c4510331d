"""One configuration: defaults < [tool.unstuck] in pyproject.toml < environment < arguments."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "UNSTUCK_"
DEFAULT_OVERHEAD = 0.01  # 1 % of the training time
FAIL_ON = ("error", "warning", "never")


_BOTH = (
    "every and overhead{where} exclude each other: every=N samples each N-th step whatever that costs, overhead=SHARE "
    "as many as that allows; leave one of them out"
)


class ConfigError(ValueError):
    """A key nobody knows or a value nobody can use: one line saying what, where and what to do."""


@dataclass(frozen=True)
class Config:
    """What can be set.

    `overhead`: the share of the training time that watching may add. `every`: sample each N-th step instead. `select`
    and `ignore`: rule codes or prefixes to judge by and to leave out; `extend_select`: more of them to judge by.
    `fail_on`: the severity from which on a run counts as failed ("error", "warning" or "never"). `record`: whether
    `unstuck run` keeps each run below `.unstuck`; when one begins there, the oldest finished ones go that are more than
    `keep_runs`, or more than `keep_megabytes` (of 2^20 bytes) together. `thresholds`: rule code -> name -> value that
    replaces the rule's own. `per_site_ignores`: pattern for a site's label -> rule codes or prefixes that are silenced
    there. Raises ConfigError for values that cannot be used, and for both `every` and `overhead`.
    """

    every: int | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    overhead: float = DEFAULT_OVERHEAD
    extend_select: tuple[str, ...] = ()
    fail_on: str = "never"
    record: bool = True
    keep_runs: int = 50
    keep_megabytes: int = 1024
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    per_site_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.every is not None and (
            not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1
        ):
            raise ConfigError(f"every must be a whole number of at least 1, got {self.every!r}")
        if isinstance(self.overhead, bool) or not isinstance(self.overhead, int | float) or not 0 < self.overhead <= 1:
            raise ConfigError(
                f"overhead must be more than 0 and at most 100 %, got {self.overhead!r}; write for example 1% or 0.01"
            )
        if self.every is not None and self.overhead != DEFAULT_OVERHEAD:
            raise ConfigError(_BOTH.format(where=""))
        if self.fail_on not in FAIL_ON:
            raise ConfigError(f"fail-on must be one of {', '.join(FAIL_ON)}, got {self.fail_on!r}")
        if not isinstance(self.record, bool):
            raise ConfigError(f"record must be true or false, got {self.record!r}")
        for name in ("keep_runs", "keep_megabytes"):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ConfigError(f"{name.replace('_', '-')} must be a whole number of at least 1, got {number!r}")
        for name in ("select", "ignore", "extend_select"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"{name} must be a tuple of rule codes, got {getattr(self, name)!r}")


def load(folder: Path | None = None, environment: Mapping[str, str] | None = None, **arguments: Any) -> Config:
    """Build the configuration for a folder; arguments that are None are not set.

    The pyproject.toml is the nearest one in `folder` (default: the current one) or above. Environment variables are
    UNSTUCK_EVERY, UNSTUCK_OVERHEAD, UNSTUCK_SELECT, UNSTUCK_EXTEND_SELECT, UNSTUCK_IGNORE, UNSTUCK_FAIL_ON,
    UNSTUCK_RECORD, UNSTUCK_KEEP_RUNS, UNSTUCK_KEEP_MEGABYTES; lists are separated by commas, and the overhead is a
    number or a percentage ("0.01", "1%"). Of `every` and `overhead` the later source's counts. In the file, keys are
    written with hyphens or underscores. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    file = _pyproject(folder or Path.cwd())
    if file is not None:
        _add(values, _table(file), f"[tool.unstuck] in {file}")
    environment = os.environ if environment is None else environment
    from_environment = {
        name[len(PREFIX) :].lower(): text for name, text in environment.items() if name.startswith(PREFIX)
    }
    _add(values, from_environment, "the environment (UNSTUCK_…)")
    _add(values, {k: v for k, v in arguments.items() if v is not None}, "the arguments")
    return Config(**values)


def _add(values: dict[str, Any], source: Mapping[str, Any], where: str) -> None:
    """Let a later source's settings replace those of earlier ones; `every` and `overhead` replace each other."""
    checked = _checked(source, where)
    if "every" in checked and "overhead" in checked:
        raise ConfigError(_BOTH.format(where=f" in {where}"))
    for key, other in (("every", "overhead"), ("overhead", "every")):
        if key in checked:
            values.pop(other, None)
    values.update(checked)


def _pyproject(folder: Path) -> Path | None:
    for parent in [folder, *folder.resolve().parents]:
        if (parent / "pyproject.toml").is_file():
            return parent / "pyproject.toml"
    return None


def _table(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {file}: {error}; mend the file") from None
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    tool = data.get("tool", {})
    table = tool.get("unstuck", {}) if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f"[tool.unstuck] in {file} must be a table")
    return table


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(Config)}
    checked = {}
    for written, value in values.items():
        key = written.replace("-", "_")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            shown = {name: name.replace("_", "-") if "-" in written else name for name in known}
            hint = f"did you mean {shown[near[0]]}?" if near else f"known: {', '.join(sorted(shown.values()))}"
            raise ConfigError(f"unknown key {written!r} in {where}; {hint}")
        read: Callable[[str, Any, str], Any] = _READERS.get(key, _codes)
        try:
            checked[key] = read(key, _in_64_bits(value), where)
        except RecursionError:
            raise ConfigError(f"{key} in {where} is a nest of lists or tables; write a plain value") from None
        except OverflowError:
            raise ConfigError(f"{key} in {where} holds a whole number beyond 64 bits; write a smaller one") from None
    return checked


def _in_64_bits(value: Any) -> Any:
    """Return the value; raises OverflowError for whole numbers that TOML has none of, though its reader takes them."""
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _in_64_bits(part)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError
    return value


def _number(key: str, value: Any, where: str) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        whole: int = _in_64_bits(int(value))
        return whole
    except (TypeError, ValueError):
        raise ConfigError(f"{key} in {where} must be a whole number, got {value!r}") from None


def _share(key: str, value: Any, where: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip().removesuffix("%")) / 100
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{key} in {where} must be a share of the training time such as 1% or 0.01, got {value!r}"
        ) from None


def _codes(key: str, value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{key} in {where} must be a list of rule codes, got {value!r}")
    return tuple(value)


def _switch(key: str, value: Any, where: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    found = value if isinstance(value, bool) else known.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(f"{key} in {where} must be true or false, got {value!r}")
    return found


def _level(key: str, value: Any, where: str) -> str:
    if value not in FAIL_ON:
        raise ConfigError(f"{key.replace('_', '-')} in {where} must be one of {', '.join(FAIL_ON)}, got {value!r}")
    return str(value)


def _thresholds(key: str, value: Any, where: str) -> dict[str, dict[str, float]]:
    example = "write for example U001 = { max_ratio = 0.05 }"
    if not isinstance(value, Mapping) or not all(isinstance(values, Mapping) for values in value.values()):
        raise ConfigError(f"{key} in {where} must be a table of rules, got {value!r}; {example}")
    for code, values in value.items():
        for name, number in values.items():
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ConfigError(f"{key} in {where}: {code}.{name} must be a number, got {number!r}; {example}")
    return {code: {name: float(number) for name, number in values.items()} for code, values in value.items()}


def _per_site(key: str, value: Any, where: str) -> dict[str, tuple[str, ...]]:
    key = key.replace("_", "-")
    if not isinstance(value, Mapping):
        example = 'write for example "blocks.*.fc*" = ["A001"]'
        raise ConfigError(f"{key} in {where} must be a table of patterns, got {value!r}; {example}")
    return {pattern: _codes(f"{key}.{pattern!r}", codes, where) for pattern, codes in value.items()}


_READERS: dict[str, Callable[[str, Any, str], Any]] = {
    "every": _number,
    "overhead": _share,
    "fail_on": _level,
    "record": _switch,
    "keep_runs": _number,
    "keep_megabytes": _number,
    "thresholds": _thresholds,
    "per_site_ignores": _per_site,
}
