"""drop-softmax: the patch for L004."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.dropping import dropped
from unstuck.fixes.patches.patch import Patcher
from unstuck.fixes.patches.source import Source

FUNCTIONS = frozenset({"softmax"})
CLASSES = frozenset({"Softmax", "Softmax2d"})


class DropSoftmax(Patcher):
    """Hands the logits to cross-entropy, which has a softmax of its own.

    ## What it does
    Takes out the softmax whose output the loss was given: a call (`F.softmax(x, dim=1)`, `x.softmax(1)`,
    `self.softmax(x)`) gives way to what it was applied to; an `nn.Softmax` at the end of an `nn.Sequential` is removed,
    and one whose neighbours are taken by number becomes `nn.Identity()`. Where the file also needs the probabilities
    under a name of their own, the loss alone is changed.

    ## When it must not be used
    Where the output is wanted as probabilities elsewhere: compared with a number, rounded, sampled from, put through a
    logarithm, printed, or its largest value or mean taken. What of that is seen in the file makes the patch refuse;
    code in other files is not seen. The class with the largest output stays the same one. A checkpoint of the network
    that was trained so is not one of this network: train anew.

    ## References
    - torch.nn.functional.cross_entropy,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """

    name = "drop-softmax"
    code = "L004"
    summary = "hand the logits to the loss, which applies the softmax itself"
    changes_objective = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Take the softmax out; raises NoPatch where its form is not known or its output is needed."""
        return source.replaced(dropped(source, finding, FUNCTIONS, CLASSES))
