import numpy as np
import pytest

from unstuck.rules.loop.unregistered_parameters import UnregisteredParameters
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(*, unregistered=1.0, gradient=1.0, update=0.0, trained=False, optimizer=True):
    """Two layers, the second one's weight and bias as told; the optimizer has the first one."""
    b = TraceBuilder()
    first = b.layer("inp", weight=normal(0.1, 4, 4))
    second = b.layer("Linear", weight=normal(0.1, 3, 4), bias=np.zeros(3))
    for index in second.parameters:
        site = b.trace.sites[index]
        site.location = second.location
        b.scalar(site, "unregistered", unregistered)
        b.record(site, Role.GRADIENT, normal(gradient, *site.shape))
        b.record(site, Role.UPDATE, normal(update, *site.shape))
    if optimizer:
        b.site(Kind.OPTIMIZER, "Adam").parameters = first.parameters + (second.parameters if trained else ())
    return b, second


class TestSilent:
    @pytest.mark.parametrize(
        "facts",
        [{"unregistered": 0.0}, {"gradient": 0.0}, {"update": 0.01}, {"trained": True}],
        ids=["registered", "without gradients", "updated by hand", "in an optimizer"],
    )
    def test_parameters_that_are(self, facts):
        check_silent(UnregisteredParameters, network(**facts)[0].trace)


class TestFires:
    def test_gradients_that_nobody_uses(self):
        b, layer = network()
        finding = check_fires(
            UnregisteredParameters,
            b.trace,
            at=layer,
            message="2 parameters used here (Linear.weight, …) get gradients, but parameters() of the network leaves "
            "them out and no optimizer has them",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (2.0, 0.0, (0, 9))
        assert [(e.name, e.value) for e in finding.evidence] == [("elements never trained", 15.0)]


def test_needs_gradients_and_an_optimizer():
    check_lacks(UnregisteredParameters, TraceBuilder().trace, "gradients of parameters")
    check_lacks(UnregisteredParameters, network(optimizer=False)[0].trace, "an update by an optimizer of torch")
