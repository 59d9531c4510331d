"""What evaluation passes showed: the questions that several rules ask of passes without gradients."""

from __future__ import annotations

from unstuck.trace import Kind, Site, Trace

MC_PASSES = 3  # passes over one tensor in one step; loss and accuracy taken apart make two, Monte Carlo dropout many
NOT_SEEN = "batch normalisation or dropout in a pass without gradients after training began"
TRAINED = (Kind.NORM, Kind.DROPOUT, Kind.ATTENTION)


def evaluations(trace: Trace, *ops: str) -> list[Site]:
    """Return the sites of evaluation passes, only those of some operations if any are named."""
    return [site for site in trace.of_kind(Kind.EVALUATION) if not ops or site.op in ops]


def twin(trace: Trace, site: Site) -> Site | None:
    """Return the site of training passes that stands for the same call as one of evaluation passes, or None."""
    same = [s for s in trace.of_kind(*TRAINED) if s.op == site.op and s.path == site.path]
    if not site.path:
        same = [s for s in same if s.location == site.location]
    return next((s for s in same if s.location == site.location), same[0] if same else None)


def repeated(trace: Trace, site: Site, step: int) -> bool:
    """Tell whether the network was run on one tensor again and again: Monte Carlo estimates, which want the noise."""
    return (trace.scalar(site, "repeats", step) or 0.0) + 1 >= MC_PASSES


def on(trace: Trace, site: Site, name: str, step: int) -> bool:
    """Tell whether a switch ("training", "own_training", "root_training") was on at a step."""
    return trace.scalar(site, name, step) == 1.0


def copied(trace: Trace, site: Site) -> Site | None:
    """Return the trained site at the same place of a like network, for one of a network that has not run in training.

    Such a network is a copy whose weights are averaged, say; the name of its class, and of a wrapper's attribute, stand
    before the path.
    """
    if twin(trace, site) is not None:
        return None
    inner = site.path.partition(".")[2].removeprefix("module.")
    for other in trace.of_kind(*TRAINED):
        if inner and other.op == site.op and inner in (other.path, other.path.partition(".")[2]):
            return other
    return None
