"""Where a verdict turns is found by moving a threshold, not by knowing what the rule measures."""

import pickle
import textwrap

import pytest
import torch
from zoo.evaluate import Program

from tools import margins
from unstuck.rules.data.one_class_labels import OneClassLabels
from unstuck.rules.norm.redundant_bias import RedundantBias
from unstuck.rules.norm.tiny_norm_batch import TinyNormBatch
from unstuck.stats.reference import summarise
from unstuck.trace import Edge, Kind, Role, Site, Trace

PROGRAM = """
    import torch
    from torch import nn

    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(6):
        x = torch.randn({rows}, 4)
        loss = nn.functional.mse_loss(network(x), x[:, :1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("final_loss", loss.item())
"""


def run(*sites):
    """A run of ten steps with these sites, each in every step."""
    trace = Trace()
    trace.sites.extend(sites)
    trace.facts.backward_calls = 10
    for step in range(10):
        trace.add_step(step)
    return trace


def batches(values, training=1.0):
    """A run whose batch normalisation has this many values a unit."""
    trace = run(Site(0, Kind.NORM, "batch_norm", "bn", None, 0))
    for step in trace.steps:
        trace.add_scalar(step, 0, "training", training)
        trace.add_scalar(step, 0, "values_per_unit", values)
    return trace


@pytest.mark.parametrize("values", [5.0, 7.9, 12.0, 500.0])
def test_the_value_at_which_a_verdict_turns_is_what_was_measured(values):
    assert margins.turn(TinyNormBatch, batches(values), "min_values") == pytest.approx(values, rel=2e-3)


def test_no_value_turns_what_other_conditions_decide():
    assert margins.turn(TinyNormBatch, batches(5.0, training=0.0), "min_values") is None


def test_a_rule_that_lacks_something_is_silent():
    assert not margins.fires(OneClassLabels, batches(5.0), {})


def test_a_rule_for_information_counts_with_what_it_says():
    layer = Site(0, Kind.WEIGHT_LAYER, "linear", "fc", None, 0, parameters=(2, 3))
    norm = Site(1, Kind.NORM, "batch_norm", "bn", None, 1)
    weight, bias = (
        Site(index, Kind.PARAMETER, "parameter", f"fc.{slot}", None, index, slot=slot, shape=shape, owner=0)
        for index, slot, shape in ((2, "weight", (4, 4)), (3, "bias", (4,)))
    )
    trace = run(layer, norm, weight, bias)
    trace.edges.add(Edge(0, 1, direct=True))
    trace.add_scalar(0, 1, "training", 1.0)
    for index, size in ((2, 1.0), (3, 0.01)):
        trace.add(0, index, Role.GRADIENT, summarise(torch.tensor([size, -size])))
    assert margins.fires(RedundantBias, trace, {})
    assert margins.turn(RedundantBias, trace, "max_gradient_share") == pytest.approx(0.01, rel=2e-3)


def test_the_nearest_program_stands_in_the_row():
    working = [("far", batches(200.0)), ("near", batches(20.0)), ("alarming", batches(7.0))]
    row = margins.rows(
        TinyNormBatch, [("plain", batches(2.0)), ("slight", batches(6.0)), ("missed", batches(9.0))], working
    )
    assert row == "| N002 `min_values` | 8 | 20 | near | 6 | slight |\n"
    assert margins.rows(TinyNormBatch, [], []) == "| N002 `min_values` | 8 | – | – | – | – |\n"


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A pair of the tuned half whose faulty record is there already, and one of the frozen half without any."""
    (tmp_path / "fixed.py").write_text(textwrap.dedent(PROGRAM.format(rows=48)))
    (tmp_path / "faulty--crates.pkl").write_bytes(pickle.dumps(batches(3.0)))
    missing = tmp_path / "missing" / "faulty.py"
    faulty = [
        Program(tmp_path / "faulty.py", "crates", "N002", frozenset({"N002"})),
        Program(missing, "barrels", "N002"),
    ]
    monkeypatch.setattr(margins, "programs", lambda: (faulty, [Program(tmp_path / "fixed.py", "crates")]))
    monkeypatch.setattr(margins, "frozen", lambda: {"barrels"})
    return tmp_path


def test_programs_without_a_record_are_run_once(zoo, capsys):
    for _ in range(2):
        assert margins.main(["n002", "--records", str(zoo)]) == 0
        assert capsys.readouterr().out.splitlines()[2:] == ["| N002 `min_values` | 8 | 48 | crates | 3 | crates |"]
        (zoo / "fixed.py").unlink(missing_ok=True)
    assert (zoo / "fixed--crates.pkl").exists()
