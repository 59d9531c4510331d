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
from unstuck.trace import Trace

FIRST_CHECKS = (0, 4, 9)  # steps; from then on at each doubling and half-way between, on the next sampled step
REWIND_STEPS = 150  # for which a copy of the start is kept: the first check after step 100, where limits are full

Judge = Callable[[Trace], Sequence[Finding]]


class InflightRepairer(ForwardRepairer):
    """Applies safe remedies, and with `unsafe` the others too; `judge` says what is wrong by a trace.

    `judged_from` is the first step that the network, as it was last mended, has made; `restarted` says whether its
    training began anew there, so that it is to be judged as the start of training.
    """

    def __init__(self, judge: Judge, *, unsafe: bool) -> None:
        wanted = Applicability.UNSAFE if unsafe else Applicability.SAFE
        names = [
            name for name, remedy in all_remedies().items() if remedy.applicability in (wanted, Applicability.SAFE)
        ]
        super().__init__(names)
        self.judged_from = 0
        self.restarted = False
        self._judge = judge
        self._start: Snapshot | None = None
        self._next_check = 0
        self._tried: set[tuple[str, str]] = set()
        self._rewound = False  # in the check under way
        self._rescaled_since = False  # the check before

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
        if step > REWIND_STEPS:
            self._start = None
        if self._rescaled_since:
            self.judged_from, self._rescaled_since = step, False
        if step < self._next_check:
            return
        self._next_check = next((check for check in FIRST_CHECKS if check > step), step + max(1, step // 2))
        findings = self._judge(self.mended(network.trace))
        self._rewound, mended, earlier = False, False, len(self.applied)
        for cause in group([finding for finding in findings if finding.severity > Severity.INFO]):
            done = [self._treat(network, step, finding, at_start=mended) for finding in (cause.root, *cause.also)]
            mended = mended or any(done)
            if mended and not self._rewound:
                break  # what else is found may follow from that; faults of the start are mended together
        if mended:
            self.judged_from, self.restarted = step + 1, self._rewound
        if self._rewound:
            self.applied[earlier:] = [replace(fix, restarted=True) for fix in self.applied[earlier:]]
            self._start = Snapshot(network.models, tensors=network.parameters)

    def mended(self, trace: Trace) -> Trace:
        """Return the record of the network as it was last mended."""
        return trace.since(self.judged_from, as_start=self.restarted) if self.judged_from else trace.snapshot()

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
                self._apply(remedy, network, step, finding)
            except Withheld as reason:
                text = f"{name} at {finding.location or finding.site}: {reason}"
                self.withheld.extend([text] if text not in self.withheld else [])
            else:
                return name in self.names
        return False

    def _apply(self, remedy: Remedy, network: LiveNetwork, step: int, finding: Finding) -> None:
        if remedy.name not in self.names:
            text = f"{remedy.name} at {finding.location or finding.site}"
            self.available.extend([text] if text not in self.available else [])
            return
        if remedy.applicability is Applicability.UNSAFE and network.trace.facts.weights_loaded:
            raise Withheld(LOADED)
        optimizers, pretrained = network.optimizers, network.trace.facts.weights_loaded
        rewind = self._rewinding(network, step)

        def rescale(aims: Mapping[int, Target]) -> list[Fix]:
            self._targets.update(aims)
            network.watch_step(step + 1)
            return []

        patient = Patient(
            network, network.models, optimizers, rescale=rescale, rewind=rewind, step=step + 1, pretrained=pretrained
        )
        self.applied.extend(remedy.apply(patient, finding))

    def _rescaled(self, output: LayerOutput, fix: Fix | None) -> None:
        """The start that a later remedy may go back to has the layer as it was rescaled."""
        if fix is None:
            return
        self.applied.append(replace(fix, step=output.step, restarted=self._rewound))
        self._rescaled_since = True
        if self._start is not None:
            self._start.renew((output.weight, *output.biases))

    def _rewinding(self, network: LiveNetwork, step: int) -> Callable[[], None]:
        def rewind() -> None:
            if self._start is None:
                raise Withheld(f"what was learned is spoilt, and the start is not kept beyond {REWIND_STEPS} steps")
            if self._rewound:
                return
            self._rewound = True
            self._start.restore_values()
            for optimizer in network.optimizers:
                optimizer.state.clear()
            network.watch_step(step + 1)

        return rewind
