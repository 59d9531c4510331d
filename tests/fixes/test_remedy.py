"""What a remedy may see and touch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unstuck.capture.session import Session
from unstuck.findings import Finding, Severity
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.trace import Kind, Location

FOUND = Finding(
    "I002", "unscaled-weights", Severity.WARNING, "0 (linear)", Location("/t.py", 3), (0, 0), 5.0, 1.0, "nat", "wide"
)


class Net(nn.Module):
    """Two uses of one weight, a layer of its own, a frozen one, a norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.own, self.tied, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.frozen.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.own(x)))
        return self.frozen(torch.tanh(self.tied(h))) @ self.tied.weight


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def patient(net) -> Patient:
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    with Session() as session:
        net(torch.randn(6, 4)).sum().backward()
        optimizer.step()
    return Patient(session, [net], [optimizer])


def at(patient: Patient, path: str) -> Finding:
    (site,) = [site for site in patient.trace.of_kind(Kind.WEIGHT_LAYER) if site.path == path and site.op == "linear"]
    return Finding("I002", "x", Severity.WARNING, "", None, (0, 0), 1.0, 1.0, "1", "", site_index=site.index)


class TestLayer:
    def test_a_finding_without_a_place(self, patient):
        with pytest.raises(Withheld, match=r"^the finding names no layer$"):
            patient.layer(FOUND)

    def test_a_place_without_parameters(self, patient):
        site = patient.trace.of_kind(Kind.ACTIVATION)[0]
        with pytest.raises(Withheld, match=rf"^{site.label.replace('(', '.').replace(')', '.')} has no weights$"):
            patient.layer_at(site)

    def test_a_weight_that_is_used_twice(self, patient):
        with pytest.raises(Withheld, match=r"^tied.weight is used in another place as well$"):
            patient.layer(at(patient, "tied"))

    def test_a_frozen_weight(self, patient):
        with pytest.raises(Withheld, match=r"^frozen.weight is frozen$"):
            patient.layer(at(patient, "frozen"))

    def test_parameters_that_are_gone(self, patient, net):
        found = at(patient, "own")
        net.own = None
        patient.optimizers[0].param_groups.clear()
        patient.optimizers[0].state.clear()
        with pytest.raises(Withheld, match=r"^the parameters of own .linear. are gone$"):
            patient.layer(found)

    def test_a_layer_of_its_own(self, patient, net):
        layer = patient.layer(at(patient, "own"))
        assert layer.weight is net.own.weight
        assert [id(bias) for bias in layer.biases] == [id(net.own.bias)]
        assert layer.names == "own.weight, own.bias"


class TestPatient:
    def test_holders(self, patient, net):
        net.second = net.own
        assert [(m, n, p) for m, n, p in patient.holders(net.own.bias)] == [(net.own, "bias", "own.bias")]
        assert [p for _, _, p in patient.holders(net.norm.running_mean)] == ["norm.running_mean"]
        assert list(patient.holders(torch.ones(1))) == []

    def test_in_flight_is_without_a_forward_pass_of_ones_own(self, patient, net):
        assert patient.in_flight
        assert not Patient(patient.network, forward=net).in_flight

    @pytest.mark.parametrize(
        ("inputs", "size"),
        [
            (torch.zeros(5, 2), 5),
            ((torch.zeros(5, 2), torch.zeros(3)), 5),
            ({"scale": torch.ones(()), "x": [torch.zeros(7, 2)]}, 7),
            (torch.ones(()), 1),
            ("text", 1),
        ],
    )
    def test_batch_size_by_the_batch_at_hand(self, patient, inputs, size):
        assert Patient(patient.network, batches=[(inputs, None)]).batch_size == size

    def test_batch_size_as_it_was_seen(self, patient):
        assert patient.batch_size == 6
        assert Patient(Session()).batch_size == 1

    def test_moments_are_forgotten_where_they_are_told_to_be(self, patient, net):
        state = patient.optimizers[0].state[net.own.weight]
        before, step = state["exp_avg"].clone(), state["step"].clone()
        mask = torch.zeros(4, 4, dtype=torch.bool)
        mask[1] = True
        patient.forget_moments(net.own.weight, mask)
        assert not state["exp_avg"][1].any()
        assert not state["exp_avg_sq"][1].any()
        assert torch.equal(state["exp_avg"][[0, 2, 3]], before[[0, 2, 3]])
        patient.forget_moments(net.own.weight)
        assert not state["exp_avg"].any()
        assert torch.equal(state["step"], step)
        assert patient.optimizers[0].state[net.own.bias]["exp_avg"].any()

    def test_moments_of_what_no_optimizer_knows(self, patient):
        patient.forget_moments(torch.ones(3))
        assert len(patient.optimizers[0].state) == 6

    def test_what_is_installed_is_undone_when_the_watching_ends(self):
        done: list[str] = []
        with Session() as session:
            Patient(session).while_watched(lambda: done.append("begun") or (lambda: done.append("ended")))
            assert done == ["begun"]
        assert done == ["begun", "ended"]

    def test_its_random_numbers_are_the_same_each_time(self, patient):
        draws = [torch.rand(3, generator=Patient(patient.network).generator) for _ in range(2)]
        assert torch.equal(*draws)

    def test_nothing_to_go_back_to(self, patient):
        assert patient.rewind() is None


class Odd(Remedy):
    """Do something odd.

    ## What it does
    Nothing.
    """

    name = "odd-one"

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        return [self.fix(finding)]


class TestRemedy:
    def test_it_needs_an_apply(self):
        with pytest.raises(TypeError, match="abstract"):
            type("None_", (Remedy,), {})()

    def test_a_fix_takes_from_the_finding_what_is_not_given(self, patient):
        (fix,) = Odd().apply(patient, FOUND)
        assert fix == Fix(
            "odd-one", "I002", Applicability.UNSAFE, "0 (linear)", FOUND.location, "unscaled weights", "nat", 5.0, None
        )

    def test_and_what_is_given_as_it_is(self):
        fix = Odd().fix(FOUND, site="W", statistic="std", before=0.0, after=2.0, unit="", snippet="W *= 2", step=3)
        assert (fix.site, fix.statistic, fix.before, fix.after) == ("W", "std", 0.0, 2.0)
        assert (fix.unit, fix.snippet, fix.step, fix.kept, fix.proof) == ("", "W *= 2", 3, True, None)

    def test_documentation_is_the_docstring(self):
        assert Odd.documentation() == "Do something odd.\n\n## What it does\nNothing."
