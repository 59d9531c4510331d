"""The record of a run and the questions rules ask of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace.journal import Journal, TableEntry
from unstuck.trace.sites import Edge, Key, Kind, Role, Site
from unstuck.trace.watching import Watching

Value = TypeVar("Value")
Series = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
Vector = npt.NDArray[np.float64]
Place = tuple[SummaryTable, int]
"""A summary's table and row."""

MAX_SAMPLED_STEPS = 1_000
MAX_BYTES = 24 << 20  # of summaries in memory; some 250 steps of a network of 100 places
MAX_LOSSES = 1 << 17  # values of the objective, one a step, some 100 bytes each
KEEP_FROM_START = 11
BYTES_A_ROW = 200  # of a table, for the objects about it (estimated)
SMALL_SCALE = 1 / 3  # of 1/√fan_in; torch's own default initialisation has 0.58 of it


class Signal(Enum):
    """What a rule may need; the value says what is missing when it was not seen."""

    STEPS = "a backward pass"
    START = "the first step of training"
    LOSS_VALUES = "the values of the loss"
    LOSS_CALL = "a call of a loss in torch.nn.functional with a known baseline"
    ACTIVATIONS = "an activation function that torch knows"
    WEIGHT_LAYERS = "a weight layer (a linear map, matmul or convolution with a parameter)"
    NORMS = "a normalisation layer"
    OUTPUT_GRADIENTS = "gradients at the outputs of layers"
    PARAMETER_GRADIENTS = "gradients of parameters"
    UPDATES = "parameters before and after an update"


@dataclass(frozen=True)
class LossCall:
    """A loss call at one step: value and baseline per term, in nats for likelihoods; baseline None where unknown."""

    step: int
    site: int
    value: float
    baseline: float | None


@dataclass
class Facts:
    """What is known of the run as a whole."""

    weights_loaded: bool = False
    backward_calls: int = 0
    optimizer_steps: int = 0
    skipped_updates: int = 0  # by AMP's GradScaler, after an overflow
    other_threads: bool = False  # backward calls or optimizer steps were made in threads that are not watched
    internal_error: str | None = None
    under_way: bool = False  # the run goes on: what shows in its first steps alone may pass
    watching: Watching = field(default_factory=Watching)  # what it cost


@dataclass
class Trace:
    """Everything measured in one run.

    Filled by capture, read by rules and reports. `steps` holds the sampled steps in order; a step is one update of the
    parameters, counted from 0. Beyond `MAX_SAMPLED_STEPS` or `MAX_BYTES` every other sampled step after the first few
    is forgotten; of more than `MAX_LOSSES` values of the objective, every other one between the first and the latest.
    """

    sites: list[Site] = field(default_factory=list)
    edges: set[Edge] = field(default_factory=set)
    steps: list[int] = field(default_factory=list)
    objective: dict[int, float] = field(default_factory=dict)
    loss_calls: list[LossCall] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    journal: Journal | None = field(default=None, repr=False, compare=False)  # kept where there is one
    _summaries: dict[tuple[int, Role], dict[int, Place]] = field(default_factory=lambda: defaultdict(dict))
    _unsorted: list[TableEntry] = field(default_factory=list)
    _bytes: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # of the tables of each step
    _scalars: dict[tuple[int, str], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    _vectors: dict[tuple[int, str], dict[int, Vector]] = field(default_factory=lambda: defaultdict(dict))

    # -- filling ---------------------------------------------------------------------------------------------------

    def add_step(self, step: int) -> None:
        """Note that `step` was sampled."""
        if len(self.objective) > MAX_LOSSES:
            self._thin_losses()
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            if self.journal is not None:
                self.journal.steps.append(step)
            if len(self.steps) > MAX_SAMPLED_STEPS or (
                self.nbytes > MAX_BYTES and len(self.steps) > 2 * KEEP_FROM_START
            ):
                self._thin()

    @property
    def nbytes(self) -> int:
        """Memory that the kept summaries take, in bytes."""
        return sum(self._bytes.values())

    def add(self, step: int, site: int, role: Role, summary: TensorSummary) -> None:
        """Record a summary; a second one for the same step, site and role (a reused module) is merged in."""
        self.add_table(step, [(site, role)], SummaryTable.of([summary]))

    def add_table(
        self,
        step: int,
        keys: Sequence[Key],
        table: SummaryTable,
        rows: Sequence[int] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Record rows of a table, all of them when `rows` is None, each under its key.

        A row of -1 stands for a summary that there is not. With `replace` they take the place of earlier ones of that
        step. They are sorted in when the first question is asked: while the network trains, nothing waits for that.
        """
        entry = (step, keys, table, range(len(table)) if rows is None else rows, replace)
        self._unsorted.append(entry)
        if self.journal is not None:
            self.journal.tables.append(entry)
        self._bytes[step] += table.nbytes + BYTES_A_ROW * len(table)

    def _sort_in(self) -> None:
        for step, keys, table, rows, replaces in self._unsorted:
            for row, key in zip(rows, keys, strict=True):
                if row < 0:
                    continue
                series = self._summaries[key]
                earlier = None if replaces else series.get(step)
                if earlier is None:
                    series[step] = table, row
                else:
                    series[step] = SummaryTable.of([_summary(earlier).merge(table.summary(row))]), 0
        self._unsorted.clear()

    def add_scalar(self, step: int, site: int, name: str, value: float) -> None:
        """Record a number that is no tensor summary; the last one of a step stands."""
        self._scalars[site, name][step] = value
        if self.journal is not None:
            self.journal.scalars.append((step, site, name, value))

    def add_vector(self, step: int, site: int, name: str, values: npt.ArrayLike) -> None:
        """Record a few numbers that belong together (counts of classes, say), float64, shape (n,); the last stands."""
        self._vectors[site, name][step] = vector = np.asarray(values, dtype=np.float64)
        if self.journal is not None:
            self.journal.vectors.append((step, site, name, vector))

    def _thin_losses(self) -> None:
        """Forget every other loss but the first thousand and the last quarter."""
        steps = list(self.objective)
        for step in steps[1_000 : -MAX_LOSSES // 4 : 2]:
            del self.objective[step]
        if self.journal is not None:
            self.journal.losses_thinned = True

    def _thin(self) -> None:
        start, later = self.steps[:KEEP_FROM_START], self.steps[KEEP_FROM_START:]
        kept = set(start) | set(later[::2]) | {self.steps[-1]}
        dropped = set(self.steps) - kept
        self.steps = sorted(kept)
        if self.journal is not None:
            self.journal.dropped |= dropped
        self._sort_in()
        for step in dropped & self._bytes.keys():
            del self._bytes[step]
        for summaries in self._summaries.values():
            for step in dropped & summaries.keys():
                del summaries[step]
        for scalars in self._scalars.values():
            for step in dropped & scalars.keys():
                del scalars[step]
        for vectors in self._vectors.values():
            for step in dropped & vectors.keys():
                del vectors[step]
        self.loss_calls = [call for call in self.loss_calls if call.step in kept]

    # -- sites -----------------------------------------------------------------------------------------------------

    def of_kind(self, *kinds: Kind) -> list[Site]:
        """Return the sites of these kinds in execution order."""
        return sorted((site for site in self.sites if site.kind in kinds), key=lambda site: site.order)

    def parameters_of(self, site: Site) -> list[Site]:
        """Return the parameter sites of a weight layer or norm: weight first, then bias."""
        return [self.sites[index] for index in site.parameters]

    def consumers(self, site: Site, *, direct: bool = True) -> list[Site]:
        """Return the sites that take this one's output (directly, or through any operation with direct=False)."""
        indices = {e.consumer for e in self.edges if e.producer == site.index and (e.direct or not direct)}
        return sorted((self.sites[i] for i in indices), key=lambda s: s.order)

    def producers(self, site: Site, *, direct: bool = True) -> list[Site]:
        """Return the sites whose outputs made this one's input."""
        indices = {e.producer for e in self.edges if e.consumer == site.index and (e.direct or not direct)}
        return sorted((self.sites[i] for i in indices), key=lambda s: s.order)

    # -- numbers ---------------------------------------------------------------------------------------------------

    def _series(self, site: Site, role: Role) -> dict[int, Place]:
        self._sort_in()
        return self._summaries.get((site.index, role), {})

    def summary(self, site: Site, role: Role, step: int | None = None) -> TensorSummary | None:
        """Return the summary at one step; at the start of training (step 0) when no step is named."""
        place = self._series(site, role).get(0 if step is None else step)
        return None if place is None else _summary(place)

    def summaries(self, site: Site, role: Role) -> list[tuple[int, TensorSummary]]:
        """Return all (step, summary) of a site and role, in order."""
        return [(step, _summary(place)) for step, place in sorted(self._series(site, role).items(), key=_step)]

    def steps_of(self, site: Site, role: Role) -> list[int]:
        """Return the steps at which a site and role were summarised, in order."""
        return sorted(self._series(site, role))

    def merged(self, site: Site, role: Role, steps: Iterable[int] | None = None) -> TensorSummary:
        """Return the summary of several sampled steps together (of all when `steps` is None)."""
        series = self._series(site, role)
        wanted = series.keys() if steps is None else [step for step in steps if step in series]
        merged = TensorSummary.empty()
        for step in wanted:
            merged = merged.merge(_summary(series[step]))
        return merged

    def series(self, site: Site, role: Role, statistic: str) -> Series:
        """Return (steps, values) of one property of `TensorSummary`, for example "std" or "outside_fraction"."""
        pairs = sorted(self._series(site, role).items(), key=_step)
        values = [getattr(table.summary(row, histogram=False), statistic) for _, (table, row) in pairs]
        return np.array([step for step, _ in pairs], dtype=np.int64), np.array(values, dtype=np.float64)

    def scalar(self, site: Site, name: str, step: int = 0) -> float | None:
        """Return a recorded scalar, or None."""
        return self._scalars.get((site.index, name), {}).get(step)

    def scalars(self, site: Site, name: str) -> list[tuple[int, float]]:
        """Return all (step, value) of a recorded scalar, in order."""
        return sorted(self._scalars.get((site.index, name), {}).items())

    def scalar_names(self, site: Site) -> list[str]:
        """Return the names of the scalars that a site has, in the order in which they were first recorded."""
        return [name for (index, name), values in self._scalars.items() if index == site.index and values]

    def vector(self, site: Site, name: str, step: int = 0) -> Vector | None:
        """Return a recorded vector, or None."""
        return self._vectors.get((site.index, name), {}).get(step)

    def vectors(self, site: Site, name: str) -> list[tuple[int, Vector]]:
        """Return all (step, values) of a recorded vector, in order."""
        return sorted(self._vectors.get((site.index, name), {}).items(), key=lambda pair: pair[0])

    def update_to_data(self, site: Site) -> Series:
        """Return (steps, rms(update) / rms(value)) of a parameter.

        A weight much smaller than the initialisation scale 1/√fan_in is measured by a third of that scale, so that a
        layer which starts at or near zero is not judged by how little it holds. Steps without any scale are left out.
        """
        pairs = [(step, self.update_to_data_at(site, step)) for step in self.steps_of(site, Role.UPDATE)]
        known = [(step, ratio) for step, ratio in pairs if ratio is not None]
        return np.array([s for s, _ in known], dtype=np.int64), np.array([r for _, r in known], dtype=np.float64)

    def update_to_data_at(self, site: Site, step: int) -> float | None:
        """Return the ratio of `update_to_data` at one step; None where there is none."""
        owner = self.sites[site.owner] if site.owner is not None else None
        floor = SMALL_SCALE / math.sqrt(owner.fan_in) if owner and owner.fan_in and site.slot == "weight" else 0.0
        update, value = self.summary(site, Role.UPDATE, step), self.summary(site, Role.VALUE, step)
        if update is None or value is None or max(value.rms, floor) <= 0 or not math.isfinite(update.rms):
            return None
        return update.rms / max(value.rms, floor)

    def dead_units(self, site: Site, steps: Iterable[int] | None = None) -> npt.NDArray[np.bool_] | None:
        """Return which units of an activation were outside the responsive interval in every element of `steps`.

        None when the number of units changed between steps or was never recorded.
        """
        units = self.merged(site, Role.INPUT, steps).units
        return None if units is None else units.saturated

    def loss_at_start(self) -> list[LossCall]:
        """Return the loss calls of step 0."""
        return [call for call in self.loss_calls if call.step == 0]

    # -- what was seen ---------------------------------------------------------------------------------------------

    def has(self, signal: Signal) -> bool:
        """Tell whether the run gave what `signal` names."""
        match signal:
            case Signal.STEPS:
                return self.facts.backward_calls > 0
            case Signal.START:
                return 0 in self.steps
            case Signal.LOSS_VALUES:
                return bool(self.objective)
            case Signal.LOSS_CALL:
                return any(call.baseline is not None for call in self.loss_calls)
            case Signal.ACTIVATIONS:
                return any(self._with_role(Kind.ACTIVATION, Role.INPUT))
            case Signal.WEIGHT_LAYERS:
                return bool(self.of_kind(Kind.WEIGHT_LAYER))
            case Signal.NORMS:
                return bool(self.of_kind(Kind.NORM))
            case Signal.OUTPUT_GRADIENTS:
                self._sort_in()
                return any(role is Role.OUTPUT_GRADIENT for _, role in self._summaries)
            case Signal.PARAMETER_GRADIENTS:
                return any(self._with_role(Kind.PARAMETER, Role.GRADIENT))
            case Signal.UPDATES:
                return any(self._with_role(Kind.PARAMETER, Role.UPDATE))

    def _with_role(self, kind: Kind, role: Role) -> Iterator[Site]:
        return (site for site in self.sites if site.kind is kind and self._series(site, role))

    def snapshot(self) -> Trace:
        """Return a copy that shares nothing mutable with this one; used to freeze a running trace for a report."""
        copy = replace(
            self, sites=[replace(site) for site in self.sites], edges=set(self.edges), steps=list(self.steps)
        )
        copy.journal = None
        copy.objective = dict(self.objective)
        copy.loss_calls = list(self.loss_calls)
        copy.facts = replace(self.facts)
        self._sort_in()
        copy._bytes = defaultdict(int, self._bytes)
        copy._unsorted = []
        copy._summaries = defaultdict(dict, {k: dict(v) for k, v in self._summaries.items()})
        copy._scalars = defaultdict(dict, {k: dict(v) for k, v in self._scalars.items()})
        copy._vectors = defaultdict(dict, {k: dict(v) for k, v in self._vectors.items()})
        return copy

    def until(self, step: int) -> Trace:
        """Return a copy that knows only of steps up to `step`, as a run ended after it would have left it.

        Facts about the run as a whole (whether weights were loaded, say) and the sites stay as they are.
        """
        copy = self._only(lambda known: known <= step)
        copy.facts.backward_calls = min(copy.facts.backward_calls, step + 1)
        copy.facts.optimizer_steps = min(copy.facts.optimizer_steps, step + 1)
        return copy

    def between(self, begin: int, end: int | None = None, *, as_start: bool = False) -> Trace:
        """Return a copy that knows only of the steps from `begin` on and, where there is an `end`, before it.

        The same holds of facts and sites as in `until`. The start of training is not known to it, unless `begin` is 0;
        with `as_start`, training began anew at `begin`, which becomes step 0.
        """
        last = math.inf if end is None else end
        return self._only(lambda known: begin <= known < last, earlier=begin if as_start else 0)

    def _only(self, wanted: Callable[[int], bool], earlier: int = 0) -> Trace:
        """Return a copy with the steps that are wanted, all numbered `earlier` lower."""

        def kept(values: Mapping[int, Value]) -> dict[int, Value]:
            return {known - earlier: value for known, value in values.items() if wanted(known)}

        copy = self.snapshot()
        copy.steps = [known - earlier for known in copy.steps if wanted(known)]
        copy.objective = kept(copy.objective)
        copy.loss_calls = [replace(call, step=call.step - earlier) for call in copy.loss_calls if wanted(call.step)]
        copy._bytes = defaultdict(int, kept(copy._bytes))
        copy._summaries = defaultdict(dict, {key: kept(series) for key, series in copy._summaries.items()})
        copy._scalars = defaultdict(dict, {key: kept(series) for key, series in copy._scalars.items()})
        copy._vectors = defaultdict(dict, {key: kept(series) for key, series in copy._vectors.items()})
        return copy


def _summary(place: Place) -> TensorSummary:
    table, row = place
    return table.summary(row)


def _step(item: tuple[int, Place]) -> int:
    return item[0]
