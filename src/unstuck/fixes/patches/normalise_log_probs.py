"""normalise-log-probs: the patch for L005."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding, Place
from unstuck.fixes.patches.calls import Changes, Form, called, in_place_of, renamed
from unstuck.fixes.patches.dropping import find_applied
from unstuck.fixes.patches.losses import exchanged
from unstuck.fixes.patches.made import constructor, path_and_op
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source
from unstuck.fixes.patches.uses import probability_use

MASKS = frozenset({"masked_fill", "masked_fill_"})


class NormaliseLogProbs(Patcher):
    """Gives `nll_loss` log-probabilities, or the loss that makes them itself.

    ## What it does
    Where the network ends without a softmax, `nll_loss` becomes `cross_entropy` (`nn.NLLLoss` becomes
    `nn.CrossEntropyLoss`), which is `log_softmax` and `nll_loss` in one. Where it ends in a softmax, that becomes
    `log_softmax`. Where entries are struck out with `masked_fill` after the `log_softmax`, the `log_softmax` is taken
    after them, so that what is left sums to 1.

    ## When it must not be used
    Where the scores are normalised elsewhere on purpose (a normaliser added to the loss). Where the file also takes the
    softmax's output for probabilities, the softmax is left alone. With `cross_entropy` the network's output stays a
    raw score: who reads it as log-probability has to take `log_softmax` first.

    ## References
    - torch.nn.NLLLoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html
    - torch.nn.CrossEntropyLoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
    """

    name = "normalise-log-probs"
    code = "L005"
    summary = "give nll_loss log-probabilities, or use cross_entropy, which makes them itself"
    changes_objective = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Normalise after masks, else make a softmax a log-softmax, else use cross-entropy."""
        for place in finding.related:
            own = place.location and finding.location and place.location.file == finding.location.file
            op = path_and_op(place.site)[1]
            changes = _masked(source, place) if own and op == "log_softmax" else None
            if op == "softmax":
                if not own:
                    raise NoPatch("the softmax stands in another file")
                wanted = probability_use(source, finding.location.line) if finding.location else None
                if wanted is not None:
                    raise NoPatch(f"line {wanted} takes the output for probabilities: hand the loss their logarithm")
                changes = _logarithm(source, place)
            if changes is not None:
                return source.replaced(changes)
        old, new = ("nll_loss", "NLLLoss"), ("cross_entropy", "CrossEntropyLoss")
        return source.replaced(exchanged(source, finding, old, new))


def _logarithm(source: Source, place: Place) -> Changes:
    """Make a softmax a log-softmax."""
    line = place.location.line if place.location else 0
    found = find_applied(source, line, {"softmax"}, {"Softmax"})
    if found is None or found.made is not None:
        return renamed(
            source, [found.made if found and found.made else constructor(source, place, {"Softmax"})], "LogSoftmax"
        )
    return renamed(source, [found.call], "log_softmax")


def _masked(source: Source, place: Place) -> Changes | None:
    """Return the changes that strike out before a log-softmax what is struck out of its output; None if nothing is."""
    line = place.location.line if place.location else 0
    found = find_applied(source, line, {"log_softmax"}, {"LogSoftmax"})
    method = source.parent(found.call) if found else None
    mask = source.parent(method) if isinstance(method, cst.Attribute) else None
    if found is None or not isinstance(mask, cst.Call) or called(mask) not in MASKS or mask.func is not method:
        return None
    operand = in_place_of(source, found.call, found.operand)
    out_of_place = method.with_changes(value=operand, attr=cst.Name("masked_fill"))
    inner = mask.with_changes(func=out_of_place, lpar=[], rpar=[])
    if found.form is Form.METHOD:
        call = found.call.with_changes(func=cst.ensure_type(found.call.func, cst.Attribute).with_changes(value=inner))
    else:
        at = next(at for at, given in enumerate(found.call.args) if given.value is found.operand)
        args = list(found.call.args)
        args[at] = args[at].with_changes(value=inner)
        call = found.call.with_changes(args=args)
    return {mask: call.with_changes(lpar=mask.lpar, rpar=mask.rpar)}
