"""rescale-residual-branches: let each block add little to the residual stream."""

from __future__ import annotations

import math

from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.rules.residual import Block, streams
from unstuck.trace import Kind, Site, Trace


class RescaleResidualBranches(Remedy):
    """Scale what each residual block adds, so that all of them together add about as much as the stream holds.

    ## What it does
    Finds the blocks of the stream (the additions to one tensor), and for each the last parameters of its branch: the
    weights and bias of a linear map or convolution, or the gain and bias of a normalisation. All are multiplied by
    1/√(2·blocks), and where branches are larger than the stream they start from, also by 1/b. A growth g of the std
    from the first of n blocks to the last is that of branches b times as large as the stream,
    b² = g^(2/(n-1)) - 1, and branches of 1/√(2n) leave one of about e^(1/4) = 1.3. In flight the training goes back
    to where it began.

    Measured on six blocks whose branches are several times as large as the stream: a growth of 1680 became 12.4 by
    1/√(2·blocks) alone, 1.30 by both.

    ## When it must not be used
    On loaded weights; where branches share their parameters or end in something without any: refused.

    ## References
    Fixup Initialization, https://arxiv.org/abs/1901.09321; GPT-2, section 2.3, on 1/√N for residual layers,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """

    name = "rescale-residual-branches"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Scale the ends of all branches of the stream that the finding names."""
        blocks = next((b for b in streams(patient.trace) if b[0].site.index == finding.site_index), None)
        if blocks is None:
            raise Withheld(f"the stream that begins at {finding.site} is not known any more")
        ends: dict[int, tuple[str, Tensor]] = {}
        for block in blocks:
            ends.update(_parameters(patient, block))
        patient.rewind()
        factor = factor_for(finding.measured, len(blocks))
        for _, parameter in ends.values():
            parameter.data.mul_(factor)
            patient.forget_moments(parameter)
        names = [name for name, _ in ends.values()]
        return [
            self.fix(
                finding,
                site=f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names),
                statistic="growth of the residual stream's std",
                snippet="\n".join(snippet.multiplied(snippet.parameters(patient.trace, names), factor)),
                step=patient.step,
            )
        ]


def factor_for(growth: float, blocks: int) -> float:
    """Return what to multiply branches with when a stream's std has grown `growth`-fold from the first to the last.

    Branches that are not correlated with the stream and b times as large (in std) multiply it by √(1 + b²) each; they
    come to 1/√(2·blocks) of it, or less where they are small. `blocks` is above 1.
    """
    size = math.sqrt(math.expm1(2.0 * math.log(max(1.0, growth)) / (blocks - 1)))
    return 1.0 / (max(1.0, size) * math.sqrt(2.0 * blocks))


def branch_ends(trace: Trace, block: Block) -> list[Site]:
    """Return the last sites with parameters on a block's branch: layers and normalisations that have some."""
    pending = [trace.sites[index] for index in sorted(block.branch)]
    seen: set[int] = set()
    found: list[Site] = []
    while pending:
        site = pending.pop()
        if site.index in seen or site.index in block.stream:
            continue
        seen.add(site.index)
        if site.kind is Kind.WEIGHT_LAYER or (site.kind is Kind.NORM and site.parameters):
            found.append(site)
        else:
            pending.extend(trace.producers(site, direct=False))
    return found


def _parameters(patient: Patient, block: Block) -> dict[int, tuple[str, Tensor]]:
    """Return the parameters at the end of a block's branch, by the index of their site."""
    sites = branch_ends(patient.trace, block)
    if not sites:
        raise Withheld(f"the branch at {block.site.location or block.site.label} ends in nothing that has weights")
    found: dict[int, tuple[str, Tensor]] = {}
    for site in sites:
        for index in site.parameters:
            parameter, label = patient.network.parameter(index), patient.trace.sites[index].label
            if parameter is None:
                raise Withheld(f"the parameters of {site.label} are gone")
            if patient.network.uses(parameter) != 1:
                raise Withheld(f"{label} is used in another place as well")
            if not parameter.requires_grad:
                raise Withheld(f"{label} is frozen")
            found[index] = label, parameter
    return found
