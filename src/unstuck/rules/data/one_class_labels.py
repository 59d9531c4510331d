"""D005. After https://karpathy.github.io/2019/04/25/recipe/ ("become one with the data")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import is_trained
from unstuck.rules.labels import Batch, labelled
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Signal, Site, Trace

MIN_BATCHES = 8  # sampled batches; fewer may come from one corner of the data
MIN_LABELS = 256  # in them; a class with a share of 2 % is missed by chance once in 170 such samples
SURE_LABELS = 1_000  # in them, for an error; a class with a share of 1 % is missed by chance once in 23,000
MIN_CLASSES = 2  # among the labels, for there to be anything to learn


class OneClassLabels(Rule):
    """All labels that the training was given are of one class.

    ## What it does
    Counts the labels of `cross_entropy` and `nll_loss`, and takes the extremes of those of the binary losses, over all
    sampled steps. It fires when all are the same in at least 8 batches with at least 256 labels together; from 1,000
    labels on the finding is an error. Losses on the output of one layer are taken together.

    ## Why is this bad
    The network learns to answer with that class whatever it is given. The loss falls to zero, which looks like
    success, and nothing is learned about the difference between the classes.

    ## Evidence
    The class, the number of labels and of batches.

    ## Stays silent on
    Batches of one; binary targets other than 0 and 1; losses on one discriminator which is given real examples in one
    call and fake ones in another; similarities between examples, whose label is a position (contrastive losses);
    layers that are not trained, such as those of a fixed discriminator.

    ## Example
        labels = scores.long()  # all between 0 and 1, so that every label is 0

    ## Fix
    Count the labels where they are made. Look for a cast that rounds down, a threshold that nothing passes, and a
    split made before shuffling.

    ## References
    - A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/
    """

    code = "D005"
    name = "one-class-labels"
    stage = Stage.DATA
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("A002", "A003", "G001", "G004", "L003", "L013", "U001", "U002", "U003")
    min_batches = Threshold(MIN_BATCHES, "sampled batches")
    min_labels = Threshold(MIN_LABELS, "labels in them")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs labels in enough batches."""
        if missing := super().lacking(trace):
            return missing
        if any(len(batches) >= self.min_batches for _, _, batches in labelled(trace)):
            return None
        return f"labels of a classification loss at {self.min_batches:g} sampled steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge all losses on the output of a layer together."""
        by_head: dict[int, list[tuple[Site, list[Batch]]]] = defaultdict(list)
        for loss, head, batches in labelled(trace):
            by_head[head.index].append((loss, batches))
        for index, losses in by_head.items():
            batches = [batch for _, own in losses for batch in own]
            classes = frozenset[int]().union(*(batch.classes for batch in batches))
            labels = sum(batch.number for batch in batches)
            if len(classes) >= MIN_CLASSES or len(batches) < self.min_batches or labels < self.min_labels:
                continue
            if np.median([batch.number for batch in batches]) < 2 or not is_trained(trace, trace.sites[index]):
                continue
            steps = [batch.step for batch in batches]
            only = min(classes)
            yield self.finding(
                losses[0][0],
                steps=(min(steps), max(steps)),
                measured=1.0,
                threshold=float(MIN_CLASSES),
                unit="classes",
                message=f"all {labels} labels that were sampled, in {len(batches)} batches, are of class {only}",
                evidence=(
                    Evidence("class", float(only)),
                    Evidence("labels", float(labels), "labels"),
                    Evidence("batches", float(len(batches)), "batches"),
                ),
                severity=Severity.ERROR if labels >= SURE_LABELS else Severity.WARNING,
            )
