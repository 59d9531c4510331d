"""Fills the trace from the calls of one thread while a step is sampled."""

from __future__ import annotations

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.graph import Origin, Origins, Replay, tensors_in
from unstuck.capture.intervention import Intervention
from unstuck.capture.modules import ModuleTracker
from unstuck.capture.optimizers import Optimizers
from unstuck.capture.order import StepOrder
from unstuck.capture.parameters import Parameters, unscaled
from unstuck.capture.site import Locator, SiteRegistry, location_of
from unstuck.capture.wrappers import local, several_processes
from unstuck.stats.queue import SummaryQueue
from unstuck.stats.table import SummaryTable
from unstuck.trace import Edge, Kind, Role, Site, Trace
from unstuck.trace.sites import Key

THOROUGH_SAMPLES = 64  # from which on one in eight is looked at by probes that need some samples, not all
OFTEN = 16  # calls of a site in one pass, from which on each has numbers of its own

STATELESS = frozenset({Kind.ACTIVATION, Kind.SOFTMAX, Kind.DROPOUT})  # as modules that several layers may share


class Passage:
    """One call of a site in the pass under way; `fired` once backward has brought a gradient to its output."""

    __slots__ = ("fired", "hooked", "output")

    def __init__(self) -> None:
        self.hooked = False
        self.fired = False
        self.output: tuple[int, weakref.ref[Tensor]] | None = None  # the queue's ticket for it, and the tensor


class Recorder:
    """What the handlers of calls share: sites, origins, parameters, and the numbers of the pass under way.

    Numbers of a forward pass wait until its backward pass has ended; a pass that never gets one leaves nothing behind,
    and calls that backward did not reach, of sites that it does reach otherwise (an evaluation without `no_grad`
    between two training passes), are left out.
    """

    def __init__(
        self,
        trace: Trace,
        modules: ModuleTracker,
        guard: Callable[..., Any],
        intervention: Intervention | None = None,
    ) -> None:
        self.trace = trace
        self.modules = modules
        self.guard = guard
        self.intervention = intervention
        self.locator = Locator()
        self.sites = SiteRegistry(trace)
        self.origins = Origins()
        self.parameters = Parameters(trace, self.sites, modules, self.locator)
        self.optimizers = Optimizers(trace, self.sites, self.parameters, self.locator)
        self.order = StepOrder(trace)
        self.passed = 0  # calls of sites since watching began
        self._objectives: dict[int, list[float]] = {}  # of each backward call's place in one step
        self._first_passes: dict[int, frozenset[int]] = {}  # the sites of the first pass for each such place
        self._objectives_of = -1
        self.running_means: dict[int, weakref.ref[Tensor]] = {}
        self.running: Site | None = None  # the site of the activation or loss call that is being made
        self.made: Site | None = None  # the site that stands for the call which was made last, if any does
        self.step = 0
        self.thorough = True  # whether also the probes that look seldom are shown this step
        self._begun = 0  # samples so far
        self.in_backward = False
        self.loss_scale = 1.0  # by which AMP has multiplied the loss, and so all gradients of this backward pass
        self.log: list[Site] | None = None  # the sites of a checkpointed function in its first pass
        self.replayed: Iterator[Site] | None = None  # those sites while it is run again, within backward
        self.queue = SummaryQueue()
        self._measured: list[tuple[int, Site, Role, Passage | None]] = []  # tickets of the queue
        self._later: list[tuple[Callable[[int], None], Site | None, Passage | None]] = []
        self._calls: Counter[int] = Counter()  # of each site in the pass under way
        self._places: Counter[Hashable] = Counter()  # how many sites share a module, an operation and a line
        self._reached: set[int] = set()  # sites to which a backward pass has come, in any step
        self._passages: dict[int, Passage] = {}
        self._edges: set[tuple[int, int, bool]] = set()  # those of the trace, quicker to compare
        self.note_call: Callable[[TorchCall, Any, Site | None], None] | None = None  # is shown each call, if set
        self.notes: dict[str, Any] = {}  # what probes keep of one call for a later one of the same pass

    # -- steps -----------------------------------------------------------------------------------------------------

    def begin(self, step: int) -> None:
        """Start recording the forward pass of a step."""
        self._begun += 1
        self.thorough = self._begun <= THOROUGH_SAMPLES or self._begun % 8 == 0
        self.step = step
        self.parameters.used.clear()
        self.new_pass()

    def new_pass(self) -> None:
        """Start recording another forward pass of the same step (accumulated gradients)."""
        self.queue.clear()
        self._measured.clear()
        self._later.clear()
        self._passages.clear()
        self._calls.clear()
        self.notes.clear()
        self.origins.clear()
        self.modules.new_step()
        self.in_backward = False
        self.loss_scale = 1.0

    def backward_begins(self, step: int) -> None:
        """The pass turns out to be one of training, for `step`."""
        self.step = step
        self.in_backward = True

    def note_backward(self, value: float | None) -> Site:
        """Note the place of a backward call and return it.

        The vector `objectives` has the value of each such call of a step; the scalar `alike` says whether their forward
        passes went through the same sites (1 or 0).
        """
        location = location_of(self.locator.frame(sys._getframe()))
        key = ("backward", location)
        site = self.sites.get(key) or self.sites.create(key, Kind.BACKWARD, "backward", "", location)
        if self._objectives_of != self.step:
            self._objectives_of, self._objectives, self._first_passes = self.step, {}, {}
        values = self._objectives.setdefault(site.index, [])
        values.append(math.nan if value is None else value)
        self.trace.add_vector(self.step, site.index, "objectives", values)
        alike = self._first_passes.setdefault(site.index, self.passing) == self.passing
        alike = alike and self.trace.scalar(site, "alike", self.step) != 0.0
        self.trace.add_scalar(self.step, site.index, "alike", float(alike))
        return site

    @property
    def passing(self) -> frozenset[int]:
        """The sites that the pass under way has come through."""
        return frozenset(self._calls)

    def commit(self, step: int) -> None:
        """Enter what the forward pass gave into the trace: its backward pass is over."""
        for index, calls in self._calls.items():
            if calls > 1:
                self.trace.add_scalar(step, index, "calls", calls)
        passed = [(site, passage) for _, site, _, passage in self._measured if passage is not None]
        now = {site.index for site, passage in passed if passage.fired}
        now |= {site.index for _, site, passage in self._later if site and passage and passage.fired}
        self._reached |= now
        losses = any(self.trace.sites[index].kind is Kind.LOSS for index in now)

        def counts(site: Site | None, passage: Passage | None) -> bool:
            missed = passage is not None and passage.hooked and not passage.fired
            elsewhere = site is not None and (site.index in self._reached or (losses and site.kind is Kind.LOSS))
            return not (missed and elsewhere)

        for write, site, passage in self._later:
            if counts(site, passage):
                write(step)
        kept = [(ticket, (site.index, role)) for ticket, site, role, passage in self._measured if counts(site, passage)]
        table, rows = self.queue.take([ticket for ticket, _ in kept])
        known = [(row, key) for row, (_, key) in zip(rows, kept, strict=True) if row >= 0]
        self.trace.add_table(step, [key for _, key in known], table, [row for row, _ in known])
        self._note_calls(step, table, known)
        self._measured.clear()
        self._later.clear()
        self.notes.clear()  # no tensor of the pass is kept

    def _note_calls(self, step: int, table: SummaryTable, known: list[tuple[int, Key]]) -> None:
        """Enter the rms at each call of sites that are called often, in order of execution: time steps of a loop."""
        often = {index for index, calls in self._calls.items() if calls >= OFTEN}
        each: dict[Key, list[float]] = {}
        for row, key in known if often else ():
            if key[0] in often and key[1] in (Role.OUTPUT, Role.OUTPUT_GRADIENT):
                summary = table.summary(row, histogram=False)
                each.setdefault(key, []).append(math.inf if summary.nonfinite else summary.rms)
        for (index, role), values in each.items():
            if role is Role.OUTPUT_GRADIENT:
                self.trace.add_vector(step, index, "gradient_by_call", values[::-1])  # the last call's came first
            else:
                self.trace.add_vector(step, index, "output_by_call", values)

    def later(self, write: Callable[[int], None], site: Site | None = None) -> None:
        """Run `write(step)` when the pass's backward has ended; it tells of the latest call of `site`."""
        if self.replayed is None:
            self._later.append((write, site, self._passages.get(site.index) if site else None))

    # -- sites -----------------------------------------------------------------------------------------------------

    def site(self, kind: Kind, op: str, source: object = None) -> Site:
        """Return the site of the call that is being made, counting this passage of its place.

        `source` is the input of operations that have no parameters of their own: the layer before them is part of
        their identity, so that a dropped layer shifts nobody's place, and an `nn.ReLU()` that several layers share has
        a place behind each.
        """
        site = self._replay(kind, op) or self._site(kind, op, source)
        if self.log is not None:
            self.log.append(site)
        self.made = site
        self._passages[site.index] = Passage()
        self._calls[site.index] += 1
        self.passed += 1
        return site

    def _replay(self, kind: Kind, op: str) -> Site | None:
        """Return the site that a call had in the first pass of a checkpointed function that is being run again."""
        return next((site for site in self.replayed or () if site.kind is kind and site.op == op), None)

    def _layers_behind(self, tensor: object) -> tuple[int, ...]:
        """Return the sites right before `tensor`: what tells `gelu(block(x))` of one turn of a loop from the next."""
        origin = self.origins.of(tensor)
        return origin.sites if origin is not None and origin.direct else ()

    def _site(self, kind: Kind, op: str, source: object) -> Site:
        here = self.modules.current
        line: Hashable = None
        behind = self._layers_behind(source) if kind in STATELESS or not here.from_torch else ()
        if not here.from_torch:
            user = self.locator.frame(sys._getframe())
            line = None if user is None else (user.f_code.co_filename, user.f_lineno)
        place = (here.path, op, line)
        key = (place, behind, here.ordinals.next((op, line, behind)))
        site = self.sites.get(key)
        if site is None:
            location = location_of(self.locator.frame(sys._getframe()))
            site = self.sites.create(key, kind, op, here.path, location, self._places[place], here.kind)
            self._places[place] += 1
        return site

    def connect(self, site: Site, *inputs: Any) -> None:
        """Note what made the inputs of a site."""
        for tensor in tensors_in(inputs):
            origin = self.origins.of(tensor)
            if origin is None:
                continue
            for producer in origin.sites:
                edge = (producer, site.index, origin.direct)
                if edge not in self._edges and producer != site.index:
                    self._edges.add(edge)
                    self.trace.edges.add(Edge(*edge))

    def measure_input(self, site: Site, x: Tensor, unit_dim: int, before: Origin | None) -> None:
        """Record the pre-activation `x` of an activation function; `before` tells what made it.

        The output of the layer right before is the same tensor, and is summarised once for both.
        """
        if self.replayed is not None:
            return
        ticket = self._output_ticket(x, before)
        seen = local(x)
        if ticket is None or not self.queue.refine(ticket, seen, unit_dim, site.interval):
            self.queue.settle()
            ticket = self.queue.add(seen, unit_dim=unit_dim, interval=site.interval)
        self._measured.append((ticket, site, Role.INPUT, self._passages.get(site.index)))

    def measure_data(self, site: Site, x: Tensor, unit_dim: int | None) -> None:
        """Record what a layer or a loss is given, with its features along `unit_dim` (None: without them).

        Without features, the output of the layer right before is the same tensor, and is summarised once for both.
        """
        ticket = self._same_memory(x, self.origins.of(x)) if unit_dim is None else None
        if ticket is None:
            ticket = self.queue.add(local(x), unit_dim=unit_dim)
        self._measured.append((ticket, site, Role.INPUT, self._passages.get(site.index)))

    def _same_memory(self, x: Tensor, origin: Origin | None) -> int | None:
        """Return the ticket of the output of which `x` is a view of all elements, as it was made."""
        if origin is None or not origin.direct or len(origin.sites) != 1:
            return None
        passage = self._passages.get(origin.sites[0])
        if passage is None or passage.output is None:
            return None
        ticket, reference = passage.output
        output = reference()
        same = output is not None and output.data_ptr() == x.data_ptr() and output.numel() == x.numel()
        return ticket if same and output is not None and output._version == 0 else None

    def _output_ticket(self, x: Tensor, origin: Origin | None) -> int | None:
        if origin is None or not origin.direct or len(origin.sites) != 1:
            return None
        passage = self._passages.get(origin.sites[0])
        output = passage.output if passage is not None else None
        if output is None or output[1]() is not x:
            return None
        return output[0]

    def watch_output(self, site: Site, out: Tensor) -> None:
        """Record an output, and its gradient when backward brings one."""
        if not out.is_floating_point():
            return
        passage = self._passages.get(site.index)
        if self.replayed is None:
            ticket = self.queue.add(local(out), defer=True)
            self._measured.append((ticket, site, Role.OUTPUT, passage))
            if passage is not None:
                passage.output = ticket, weakref.ref(out)
        self.watch_gradient(site, out)

    def renew_output(self, site: Site, out: Tensor) -> None:
        """Let `out` stand for what a site was seen to make last: its parameters have been changed since."""
        for number, (_, seen, role, passage) in reversed(list(enumerate(self._measured))):
            if seen is site and role is Role.OUTPUT:
                self._measured[number] = self.queue.add(local(out)), site, role, passage
                return

    def watch_gradient(self, site: Site, out: Tensor, *, record: bool = True) -> None:
        """Notice, and record if asked, the gradient that backward brings to an output."""
        passage = self._passages.get(site.index)
        if not out.requires_grad or passage is None:
            return
        passage.hooked = True
        out.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: self.guard(self._output_gradient, site, passage, grad if record else None)
        )

    def _output_gradient(self, site: Site, passage: Passage, grad: Tensor | None) -> None:
        if not self.in_backward:
            return
        passage.fired = True
        if grad is not None:
            own = grad if self.loss_scale == 1.0 else unscaled(grad, self.loss_scale)
            self._measured.append((self.queue.add(local(own)), site, Role.OUTPUT_GRADIENT, None))

    # -- where training begins -------------------------------------------------------------------------------------

    @property
    def at_start(self) -> bool:
        """Whether the pass under way is the first of the training, or of the training as it was begun again."""
        return self.step == self.parameters.start

    # -- repeatable calls ------------------------------------------------------------------------------------------

    @property
    def repairing(self) -> bool:
        """Whether calls must be kept repeatable: only at step 0, for a repairer.

        Not among several processes: each would repair by its own batch, and their copies would no longer be equal.
        """
        wanted = self.intervention is not None and self.step == 0 and self.replayed is None
        return wanted and not several_processes()

    @property
    def awaited(self) -> bool:
        """Whether a repairer waits for the output of some layer."""
        repairer = self.intervention
        return repairer is not None and repairer.armed and self.replayed is None and not several_processes()

    def repair_after_pass(self, network: object) -> None:
        """Let the repairer do what needs a whole pass to be known."""
        if self.intervention is not None:
            self.intervention.after_first_pass(network)

    def repair_after_update(self, network: object, step: int) -> None:
        """Let the repairer act between two steps."""
        if self.intervention is not None and not several_processes():
            self.intervention.after_update(network, step)

    def replay(self, call: TorchCall, position: int | None = None, parent: Replay | None = None) -> Replay | None:
        """Keep a call (after those of `parent`, whose result is its argument `position`) when repairs are on."""
        if not self.repairing or (position is not None and parent is None):
            return None
        return Replay(call, position, parent)

    def extended(self, origin: Origin, call: TorchCall, position: int, unit_dim: int | None = None) -> Origin:
        """Return the origin of what `call` made of its argument `position`, which came from `origin`."""
        replay = self.replay(call, position, origin.replay)
        dim = origin.unit_dim if unit_dim is None else unit_dim
        return Origin(origin.sites, origin.direct, unit_dim=dim, replay=replay)
