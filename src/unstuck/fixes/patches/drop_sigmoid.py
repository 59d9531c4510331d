"""drop-sigmoid: the patch for L008."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.dropping import dropped, place_before
from unstuck.fixes.patches.losses import exchanged
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source
from unstuck.fixes.patches.uses import probability_use, threshold_at_half

FUNCTIONS = frozenset({"sigmoid", "sigmoid_", "expit"})
CLASSES = frozenset({"Sigmoid"})


class DropSigmoid(Patcher):
    """Leaves one sigmoid between the last layer and the loss.

    ## What it does
    Hands the logits to the loss, which has a sigmoid of its own: a call (`torch.sigmoid(x)`, `x.sigmoid()`,
    `self.sigmoid(x)`) gives way to what it was applied to; an `nn.Sigmoid` at the end of an `nn.Sequential` is removed,
    and one whose neighbours are taken by number becomes `nn.Identity()`. Where the file takes the output for
    probabilities (`> 0.5`, `round()`, a logarithm), the sigmoid stays and the loss becomes the one that takes
    probabilities, `binary_cross_entropy` (`nn.BCELoss`): the same number, so that no prediction changes its meaning.

    ## When it must not be used
    Where code in another file takes the output for probabilities: it is not seen. Refused where that code is in this
    file and the loss has a `pos_weight`, which `binary_cross_entropy` does not take, or stands under autocast, where
    it is not allowed.

    ## References
    - torch.nn.functional.binary_cross_entropy_with_logits,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    - torch.nn.BCELoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html
    - Prefer binary_cross_entropy_with_logits over binary_cross_entropy, https://docs.pytorch.org/docs/stable/amp.html
    """

    name = "drop-sigmoid"
    code = "L008"
    summary = "leave one sigmoid between the last layer and the loss"
    changes_objective = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Take the sigmoid out, or use the loss for probabilities where the file needs them."""
        place_before(finding, "sigmoid")
        line = finding.location.line if finding.location else 0
        wanted = probability_use(source, line) or threshold_at_half(source)
        if wanted is None:
            return source.replaced(dropped(source, finding, FUNCTIONS, CLASSES))
        if any(_is_autocast(item) for call in source.calls_at(line) for item in _withs(source, call)):
            raise NoPatch(f"line {wanted} wants probabilities, which no loss takes under autocast")
        old = ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss")
        new = ("binary_cross_entropy", "BCELoss")
        try:
            return source.replaced(exchanged(source, finding, old, new, without=frozenset({"pos_weight"})))
        except NoPatch as reason:
            raise NoPatch(f"line {wanted} takes the output for probabilities, and {reason}") from None


def _withs(source: Source, call: cst.Call) -> list[cst.WithItem]:
    return [item for outer in source.around(call) if isinstance(outer, cst.With) for item in outer.items]


def _is_autocast(item: cst.WithItem) -> bool:
    return isinstance(item.item, cst.Call) and called(item.item) == "autocast"
