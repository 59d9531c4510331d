"""Repairs while an unmodified script trains: in the first forward pass, and between two steps.

After some sampled steps the record so far is judged; where a root cause has a remedy that can be applied in flight, it
is applied. Findings made before that speak of a network that is no more: from then on the run is judged by the steps
since. A fault that has spoilt what was learned so far (updates far too large, say) is mended by going back to the
parameters the training began with, of which a copy is kept during the first steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from unstuck.capture.intervention import LayerOutput
from unstuck.findings import Finding, Severity
from unstuck.fixes.catalogue import all_remedies
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.fold_bias import fold_redundant
from unstuck.fixes.forward import ForwardRepairer
from unstuck.fixes.remedy import LOADED, LiveNetwork, Patient, Remedy, Withheld
from unstuck.fixes.state import Snapshot
from unstuck.fixes.targets import Target
from unstuck.rules.causes import group
from unstuck.trace import Stretch, Trace

FIRST_CHECKS = (0, 4, 9)  # steps; from then on at each doubling and half-way between, on the next sampled step
REWIND_STEPS = 150  # then what was learned is not given up: the first check after step 100, where limits are full
KEPT_STEPS = 500  # the same for faulty initialisations, which go on to cost: basket-items wins 92 % back at 320 of 600
WATCHED_AFTER = 5  # steps after each mending: as many as the rules about updates want for a median (U001)

Judge = Callable[[Trace], Sequence[Finding]]


class InflightRepairer(ForwardRepairer):
    """Applies safe remedies, and with `unsafe` the others too; `judge` says what is wrong by a trace.

    `stretches` are the parts of the run between one mending and the next, the last one still under way.
    """

    def __init__(self, judge: Judge, *, unsafe: bool) -> None:
        wanted = Applicability.UNSAFE if unsafe else Applicability.SAFE
        names = [
            name for name, remedy in all_remedies().items() if remedy.applicability in (wanted, Applicability.SAFE)
        ]
        super().__init__(names)
        self.stretches = [Stretch()]
        self._judge = judge
        self._start: Snapshot | None = None
        self._next_check = 0
        self._tried: set[tuple[str, str]] = set()
        self._rewound = False  # in the check under way

    def after_first_pass(self, network: LiveNetwork) -> None:
        """Fold redundant biases, now that all that takes a layer's output is known; keep a copy of the start."""
        super().after_first_pass(network)
        self.applied.extend(fold_redundant(network))
        if self._may_rewind():
            self._start = Snapshot(network.models, tensors=network.parameters)

    def _may_rewind(self) -> bool:
        return any(all_remedies()[name].rewinds for name in self.names)

    def after_update(self, network: LiveNetwork, step: int) -> None:
        """Judge the run so far, when a check is due, and mend the first root cause that can be."""
        if step > KEPT_STEPS:
            self._start = None
        if step < self._next_check or step < self.stretches[-1].begin:
            return
        self._next_check = next((check for check in FIRST_CHECKS if check > step), step + max(1, step // 2))
        seen = self.stretches[-1].of(network.trace)
        seen.facts.under_way = True
        findings = self._judge(seen)
        self._rewound, earlier, settled = False, len(self.applied), set[str]()
        for cause in group([finding for finding in findings if finding.severity > Severity.INFO]):
            own = (cause.root, *cause.also)
            done = [self._treat(network, step, finding, at_start=bool(settled)) for finding in own]
            if any(done):
                settled.update(finding.code for finding in (*own, *cause.symptoms))
            if settled and not self._rewound:
                break  # what else is found may follow from that; faults of the start are mended together
        if settled:
            self._begin_stretch(network, tuple(sorted(settled)))
        if self._rewound:
            self.applied[earlier:] = [replace(fix, restarted=True) for fix in self.applied[earlier:]]
            self._start = Snapshot(network.models, tensors=network.parameters)

    def _begin_stretch(self, network: LiveNetwork, settled: tuple[str, ...]) -> None:
        """Judge the run anew from the next pass on, of which enough is watched to tell whether the mending helped."""
        begin = network.next_pass
        self.stretches[-1] = replace(self.stretches[-1], end=begin, settled=settled)
        self.stretches.append(Stretch(begin, restarted=self._rewound))
        for step in range(begin, begin + WATCHED_AFTER):
            network.watch_step(step)

    def _treat(self, network: LiveNetwork, step: int, finding: Finding, *, at_start: bool) -> bool:
        """Apply the first remedy of a finding that can be applied now; tell whether one was.

        With `at_start` only those of the initialisation are.
        """
        for name in finding.fixes:
            remedy = all_remedies()[name]()
            if at_start and not remedy.initialises:
                continue
            key = name, f"step {step}" if remedy.repeats else finding.site
            if key in self._tried or not remedy.in_flight:
                continue
            self._tried.add(key)
            try:
                self._apply(remedy, network, finding)
            except Withheld as reason:
                text = f"{name} at {finding.location or finding.site}: {reason}"
                self.withheld.extend([text] if text not in self.withheld else [])
            else:
                return name in self.names
        return False

    def _apply(self, remedy: Remedy, network: LiveNetwork, finding: Finding) -> None:
        if remedy.name not in self.names:
            text = f"{remedy.name} at {finding.location or finding.site}"
            self.available.extend([text] if text not in self.available else [])
            return
        if remedy.applicability is Applicability.UNSAFE and network.trace.facts.weights_loaded:
            raise Withheld(LOADED)
        optimizers, pretrained = network.optimizers, network.trace.facts.weights_loaded
        rewind = self._rewinding(network, KEPT_STEPS if remedy.initialises else REWIND_STEPS)

        def rescale(aims: Mapping[int, Target]) -> list[Fix]:
            self._targets.update(aims)
            network.watch_step(network.next_pass)
            return []

        patient = Patient(
            network,
            network.models,
            optimizers,
            rescale=rescale,
            rewind=rewind,
            step=network.next_pass,
            pretrained=pretrained,
        )
        self.applied.extend(remedy.apply(patient, finding))

    def _rescaled(self, output: LayerOutput, fix: Fix | None) -> None:
        """The start that a later remedy may go back to has the layer as it was rescaled."""
        if fix is None:
            return
        self.applied.append(replace(fix, step=output.step, restarted=self._rewound))
        self.stretches[-1] = replace(self.stretches[-1], begin=output.step)
        if self._start is not None:
            self._start.renew((output.weight, *output.biases))

    def _rewinding(self, network: LiveNetwork, steps: int) -> Callable[[], None]:
        def rewind() -> None:
            if self._start is None or network.next_pass > steps + 1:
                raise Withheld(f"what was learned is spoilt, and the start is not gone back to after {steps} steps")
            if self._rewound:
                return
            self._rewound = True
            self._start.restore_values()
            for optimizer in network.optimizers:
                optimizer.state.clear()
            network.begin_again()

        return rewind
