"""Which module stands where, and putting another in its place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.session import Session
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.structure import Seat, join_optimizer, leave, seat_of


def patient(*models: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...] = ()) -> Patient:
    return Patient(Session(), models, optimizers)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.ModuleDict({"a": nn.Linear(3, 3)}))


class TestSeatOf:
    def test_nobodys_parameter(self):
        with pytest.raises(Withheld, match=r"^its parameters belong to no module$"):
            seat_of(patient(net()), torch.ones(1))

    def test_a_parameter_of_two_modules(self):
        model = net()
        model[2]["a"].bias = model[0].bias
        with pytest.raises(Withheld, match=r"^its parameters belong to two modules$"):
            seat_of(patient(model), model[0].bias)

    def test_a_module_in_two_places(self):
        model = net()
        model.append(model[0])
        with pytest.raises(Withheld, match=r"^it stands in 2 places of the model$"):
            seat_of(patient(model), model[0].weight)

    def test_the_model_itself(self):
        model = nn.Linear(2, 2)
        with pytest.raises(Withheld, match=r"^it is the model itself$"):
            seat_of(patient(model), model.weight)

    def test_it_is_found_at_any_depth_and_in_any_model(self):
        one, other = net(), net()
        seat = seat_of(patient(one, other), other[2]["a"].bias)
        assert (seat.parent, seat.name, seat.module, seat.path) == (other[2], "a", other[2]["a"], "2.a")
        assert seat_of(patient(one), one[0].weight).path == "0"

    def test_a_buffer_has_a_seat_too(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        assert seat_of(patient(model), model[1].running_mean).path == "1"


class TestSeat:
    def test_where_another_module_stands_by_now(self):
        model = net()
        seat = seat_of(patient(model), model[0].weight)
        model[0] = other = nn.Identity()
        with pytest.raises(Withheld, match=r"^0 is not where it was$"):
            seat.put(nn.Linear(2, 3))
        assert model[0] is other

    def test_put(self):
        model = net()
        seat_of(patient(model), model[0].weight).put(new := nn.Identity())
        assert model[0] is new

    @pytest.mark.parametrize("training", [True, False])
    def test_in_a_sequence_it_becomes_the_next_entry(self, training):
        model = net().train(training)
        seat_of(patient(model), model[0].weight).insert_after(new := nn.Dropout())
        assert [type(m).__name__ for m in model] == ["Linear", "Dropout", "ReLU", "ModuleDict"]
        assert model[1] is new
        assert new.training is training

    @pytest.mark.parametrize("training", [True, False])
    def test_elsewhere_both_become_a_sequence(self, training):
        model = net().train(training)
        old = model[2]["a"]
        seat_of(patient(model), old.weight).insert_after(new := nn.Dropout())
        assert type(model[2]["a"]) is nn.Sequential
        assert list(model[2]["a"]) == [old, new]
        assert model[2]["a"].training is new.training is training

    def test_where_no_entry_is_wanted_the_others_keep_their_numbers(self):
        model = net()
        seat_of(patient(model), model[0].weight).insert_after(nn.Tanh(), entry=False)
        assert [type(m).__name__ for m in model] == ["Sequential", "ReLU", "ModuleDict"]

    def test_a_sequence_with_names_or_of_a_class_of_ones_own_keeps_its_entries(self):
        class Own(nn.Sequential):
            pass

        for model in (nn.Sequential(), Own()):
            model.add_module("first" if type(model) is nn.Sequential else "0", nn.Linear(2, 2))
            model.add_module("second", nn.ReLU())
            seat_of(patient(model), model[0].weight).insert_after(nn.Tanh())
            assert [type(m).__name__ for m in model] == ["Sequential", "ReLU"]

    def test_it_is_plain_data(self):
        model = net()
        assert Seat(model, "0", model[0], "0") == seat_of(patient(model), model[0].weight)


OPTIMIZERS = [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, 0.1, amsgrad=True)]


@pytest.mark.parametrize("make", OPTIMIZERS)
class TestOptimizer:
    def trained(self, make) -> tuple[nn.Sequential, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        optimizer = make([{"params": model[0].parameters(), "lr": 0.5}, {"params": list(model[1].parameters())}])
        self.step(model, optimizer)
        return model, optimizer

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        F.mse_loss(model(torch.ones(4, 2)), torch.zeros(4, 1)).backward()
        optimizer.step()

    def test_new_parameters_join_the_group_of_their_layer(self, make):
        model, optimizer = self.trained(make)
        norm = nn.LayerNorm(3)
        join_optimizer(patient(model, optimizers=(optimizer,)), norm, model[0].weight)
        assert [len(group["params"]) for group in optimizer.param_groups] == [4, 2]
        model.insert(1, norm)
        self.step(model, optimizer)
        assert not torch.equal(norm.bias, torch.zeros(3))
        assert norm.weight in optimizer.state

    def test_those_of_a_layer_that_no_optimizer_updates_join_none(self, make):
        model, optimizer = self.trained(make)
        join_optimizer(patient(model, optimizers=(optimizer,)), nn.LayerNorm(3), nn.Linear(1, 1).weight)
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]

    def test_dropped_ones_leave_it_with_what_it_had_gathered(self, make):
        model, optimizer = self.trained(make)
        bias = model[0].bias
        model[0].bias = None
        leave(patient(model, optimizers=(optimizer,)), [bias])
        assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
        assert bias not in optimizer.state
        assert len(optimizer.state_dict()["state"]) == 3  # torch fails on state of parameters in no group
        self.step(model, optimizer)

    def test_a_parameter_that_nobody_updates_leaves_nothing(self, make):
        model, optimizer = self.trained(make)
        leave(patient(model, optimizers=(optimizer,)), [nn.Linear(1, 1).bias])
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
