"""Regions without gradients: what is noted of norms and dropout there, and that watching them changes nothing."""

import functools
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from unstuck.capture.evaluation import MAX_PASSES
from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(3))
Y = torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(3))
NEVER_AGAIN = 1000  # sample no step after the first ten

OFF = functools.partial(torch.set_grad_enabled, False)
REGIONS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode, "set_grad_enabled": OFF}
each_region = pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)


class Net(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(p)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.drop(torch.tanh(self.norm(self.fc(x)))))


def watched(evaluate, steps=3, model=None, schedule=None, before=lambda: None):
    """Train, evaluate after each step, and return the trace."""
    torch.manual_seed(0)
    model = model or Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Session(schedule) as session:
        before()
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            evaluate(model)
    assert session.trace.facts.internal_error is None
    return session.trace


def sites(trace):
    return [(site.op, site.path) for site in trace.of_kind(Kind.EVALUATION)]


def numbers(trace, op, step):
    (site,) = [s for s in trace.of_kind(Kind.EVALUATION) if s.op == op]
    return {name: series[step] for (index, name), series in trace._scalars.items() if index == site.index}


def score(model):
    return F.cross_entropy(model(X), Y)


class TestWhatIsNoted:
    @each_region
    @pytest.mark.parametrize("mode", [True, False])
    def test_modes_and_probability(self, region, mode):
        def evaluate(model):
            model.train(mode)
            with region():
                score(model)
            model.train()

        trace = watched(evaluate)
        assert sites(trace) == [("batch_norm", "norm"), ("dropout", "drop")]
        for op in ("batch_norm", "dropout"):
            seen = numbers(trace, op, 2)
            assert (seen["training"], seen["own_training"], seen["root_training"]) == (mode,) * 3
            assert (seen["losses"], seen["comparisons"], seen["passes"], seen["repeats"]) == (1, 0, 1, 0)
            assert seen["entered"] == 2
        assert numbers(trace, "dropout", 2)["p"] == 0.5

    def test_running_statistics_beside_those_of_the_batches(self):
        expected = {}

        def evaluate(model):
            model.eval()
            with torch.no_grad():
                model(X + 1)
                model(X + 2)
                inputs = torch.cat([model.fc(X + 1), model.fc(X + 2)])
                scale = (model.norm.running_var + model.norm.eps).sqrt()
                expected["shift"] = ((inputs.mean(0) - model.norm.running_mean) / scale).abs().median().item()
                ratio = ((inputs.var(0, correction=0) + 1e-5) / (model.norm.running_var + 1e-5)).log().abs()
                expected["ratio"] = ratio.median().exp().item()
            model.train()

        seen = numbers(watched(evaluate, steps=1), "batch_norm", 1)
        assert seen["mean_shift"] == pytest.approx(expected["shift"], rel=1e-4)
        assert seen["variance_ratio"] == pytest.approx(expected["ratio"], rel=1e-4)
        assert (seen["elements"], seen["initial_statistics"]) == (64, 0)

    @pytest.mark.parametrize("steps", [3, FIRST_STEPS + 3])
    def test_a_copy_that_never_trained(self, steps):
        copy = Net().eval()

        def evaluate(_model):
            if steps == 3 or len(seen) >= FIRST_STEPS:
                with torch.no_grad():
                    copy(X)
            seen.append(1)

        seen = []
        trace = watched(evaluate, steps, schedule=Schedule(NEVER_AGAIN))
        assert sites(trace) == [("batch_norm", "Net.norm"), ("dropout", "Net.drop")]
        seen = numbers(trace, "batch_norm", steps)
        assert (seen["initial_statistics"], seen["root_training"]) == (1, 0)

    def test_comparisons_and_repeated_passes(self):
        def evaluate(model):
            with torch.no_grad():
                votes = torch.stack([model(X) for _ in range(5)]).mean(0)
                (votes.argmax(1) == Y).float().mean()

        seen = numbers(watched(evaluate), "dropout", 1)
        assert (seen["comparisons"], seen["repeats"], seen["passes"]) == (1, 4, 5)

    def test_dropout_as_a_function_in_a_module_in_eval_mode(self):
        class Always(Net):
            def forward(self, x):
                x = nn.Dropout(0.3)(self.fc(x))
                return self.out(F.dropout(x, 0.2))

        def evaluate(model):
            model.eval()
            with torch.no_grad():
                model(X)
            model.train()

        trace = watched(evaluate, model=Always())
        dropouts = trace.of_kind(Kind.EVALUATION)
        assert sorted(trace.scalar(site, "p", 1) for site in dropouts) == pytest.approx([0.2, 0.3])
        for site in dropouts:  # one made on the spot counts as part of the module that made it
            assert [trace.scalar(site, name, 1) for name in ("training", "own_training")] == [1, 0]

    def test_the_line_is_that_of_the_call(self):
        def evaluate(model):
            with torch.no_grad():
                score(model)

        (norm, drop) = watched(evaluate).of_kind(Kind.EVALUATION)
        assert norm.location.function == drop.location.function == "Net.forward"

    def test_attention_without_a_module(self):
        q = torch.randn(1, 2, 3, 4)

        def evaluate(_model):
            with torch.no_grad():
                F.scaled_dot_product_attention(q, q, q, dropout_p=0.1)

        seen = numbers(watched(evaluate), "scaled_dot_product_attention", 1)
        assert (seen["p"], seen["training"]) == (0.1, 1)


class TestWhichRegions:
    def test_the_first_four_of_a_place_and_each_doubling(self):
        trace = watched(lambda model: _evaluate(model), steps=40)
        (site,) = [s for s in trace.of_kind(Kind.EVALUATION) if s.op == "dropout"]
        assert [count for _, count in trace.scalars(site, "entered")] == [1, 2, 3, 4, 8, 16, 32]

    def test_none_before_training(self):
        model = Net()
        trace = watched(lambda _: None, model=model, before=lambda: _evaluate(model))
        assert sites(trace) == []

    def test_with_gradients_nothing_is_an_evaluation(self):
        def evaluate(model):
            score(model)
            with torch.set_grad_enabled(True):
                score(model)
            with torch.no_grad(), torch.enable_grad():
                score(model)

        assert sites(watched(evaluate)) == []

    def test_nested_regions_are_one(self):
        def evaluate(model):
            with torch.no_grad():
                score(model)
                with torch.inference_mode():
                    score(model)
                _evaluate(model)
                score(model)

        seen = numbers(watched(evaluate), "dropout", 1)
        assert (seen["losses"], seen["passes"]) == (4, 4)

    def test_recalibration_by_torch_itself_is_left_alone(self):
        def evaluate(model):
            torch.optim.swa_utils.update_bn([X], model)

        assert sites(watched(evaluate)) == []

    def test_a_long_region_is_looked_at_for_a_while(self):
        stacks = []

        def evaluate(model):
            with torch.no_grad():
                for _ in range(MAX_PASSES + 5):
                    stacks.append(len(_get_current_function_mode_stack()))
                    model(X.clone())

        trace = watched(evaluate, steps=1, schedule=Schedule(NEVER_AGAIN))
        assert numbers(trace, "dropout", 1)["passes"] == MAX_PASSES + 1
        assert stacks[-1] == stacks[0] - 1

    def test_other_threads_are_not_looked_at(self):
        def evaluate(model):
            thread = threading.Thread(target=_evaluate, args=(model,))
            thread.start()
            thread.join()

        assert sites(watched(evaluate)) == []

    def test_an_optimizer_written_by_the_user(self):
        class Sgd(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(0.1 * p.grad)
                        F.dropout(p, 0.5)

        model = Net()
        optimizer = Sgd(model.parameters(), 0.1)
        with Session() as session:
            for _ in range(3):
                optimizer.zero_grad()
                score(model).backward()
                optimizer.step()
        assert sites(session.trace) == []
        assert session.steps == 3


@torch.no_grad()
def _evaluate(model):
    return score(model)


class TestNothingIsDisturbed:
    def state(self):
        return (
            *(
                vars(owner)[name]
                for owner in (torch.no_grad, torch.inference_mode)
                for name in ("__enter__", "__exit__")
            ),
            torch.set_grad_enabled.__enter__,
            torch.overrides.has_torch_function,
            dict(nn.modules.module._global_forward_hooks),
            dict(nn.modules.module._global_forward_pre_hooks),
            list(_get_current_function_mode_stack()),
        )

    @pytest.mark.parametrize("leave", ["normally", "by an exception", "inside a region"])
    def test_everything_is_undone(self, leave):
        before = self.state()
        model, session = Net(), Session()
        session.start()
        score(model).backward()
        try:
            with torch.no_grad():
                assert self.state() != before
                score(model)
                if leave == "by an exception":
                    raise ZeroDivisionError
                if leave == "inside a region":
                    session.stop()
                    assert self.state() == before
        except ZeroDivisionError:
            pass
        assert torch.is_grad_enabled()
        session.stop()
        assert self.state() == before

    def test_between_samples_nothing_but_the_wrappers_is_left(self):
        seen = []

        def evaluate(model):
            _evaluate(model)
            seen.append(self.state()[6:])

        watched(evaluate, steps=FIRST_STEPS + 4, schedule=Schedule(NEVER_AGAIN))
        assert seen[-1] == ({}, {}, [])

    def test_modes_of_the_program_stay_on(self):
        calls = []

        class Counting(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                calls.append(func)
                return func(*args, **(kwargs or {}))

        def evaluate(model):
            with Counting():
                with torch.no_grad():
                    score(model)
                noted = len(calls)
                X.sum()
                assert len(calls) == noted + 1

        trace = watched(evaluate, steps=FIRST_STEPS + 3, schedule=Schedule(NEVER_AGAIN))
        assert len(sites(trace)) == 2

    def test_results_and_random_numbers_are_the_same(self):
        def run(watch):
            torch.manual_seed(0)
            model, results = Net(), []
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            session = Session(Schedule(NEVER_AGAIN))
            if watch:
                session.start()
            for step in range(FIRST_STEPS + 6):
                optimizer.zero_grad()
                score(model).backward()
                optimizer.step()
                model.train(step % 2 == 0)
                results.append(_evaluate(model).item())
                model.train()
            session.stop()
            return results, [*model.state_dict().values()], torch.get_rng_state()

        bare, seen = run(False), run(True)
        assert seen[0] == bare[0]
        assert all(torch.equal(a, b) for a, b in zip(seen[1], bare[1], strict=True))
        assert torch.equal(seen[2], bare[2])

    def test_attention_keeps_its_fused_path(self):
        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True)
                self.norm = nn.BatchNorm1d(4)
                self.out = nn.Linear(4, 3)

            def forward(self, x):
                return self.out(self.norm(self.layer(x.unsqueeze(1)).squeeze(1)))

        fused = []
        original = torch._transformer_encoder_layer_fwd

        def noting(*args, **kwargs):
            fused.append(1)
            return original(*args, **kwargs)

        def evaluate(model):
            model.eval()
            with torch.no_grad():
                model(X)
            model.train()

        try:
            torch._transformer_encoder_layer_fwd = noting
            trace = watched(evaluate, steps=FIRST_STEPS + 3, schedule=Schedule(NEVER_AGAIN), model=Encoder())
        finally:
            torch._transformer_encoder_layer_fwd = original
        assert len(fused) == FIRST_STEPS + 3
        assert ("batch_norm", "norm") in sites(trace)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_a_network_that_is_traced_or_exported(self):
        def evaluate(model):
            model.eval()
            with torch.no_grad():
                model(X)
                torch.jit.trace(model, X, check_trace=False)
                torch.export.export(model, (X,))

        trace = watched(evaluate, steps=1)
        assert numbers(trace, "batch_norm", 1)["elements"] == 32

    def test_an_error_of_ours_does_not_reach_the_program(self, monkeypatch, capsys):
        def broken(*_):
            raise RuntimeError("boom")

        before = self.state()
        monkeypatch.setattr("unstuck.capture.regions.Region.note_dropout", broken)
        model = Net()
        with Session() as session:
            score(model).backward()
            with torch.no_grad():
                score(model)
            score(model).backward()
        assert "boom" in session.trace.facts.internal_error
        assert "boom" in capsys.readouterr().err
        assert self.state() == before
