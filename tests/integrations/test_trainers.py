"""What the callbacks of trainers share, on a loop written by hand."""

import pytest
import torch
import torch.nn.functional as F

import unstuck
from integrations.made import X, Y, network, train
from unstuck.config import ConfigError
from unstuck.integrations.trainers import FindingWarning, TrainerWatch


def accumulate(model, steps=20, lr=0.1):
    """Train without clearing gradients: T001, an error."""
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


class TestWatch:
    def test_a_setting_that_cannot_be_used_is_refused_at_once(self):
        with pytest.raises(ConfigError, match="every"):
            TrainerWatch(every=0)
        with pytest.raises(ConfigError, match="no tracker that is known"):
            TrainerWatch(log_to="nothing")

    def test_a_healthy_training_gets_a_report_and_no_warning(self, capsys):
        watch = TrainerWatch(every=1)
        assert watch.report is None
        watch.begin()
        bare = train(network(), 12)
        assert watch.report.run.steps == 12  # so far
        report = watch.end()
        assert report.ok
        assert watch.end() is watch.report is report
        assert capsys.readouterr().out == f"\n{report}\n"
        assert bare == train(network(), 12)
        assert watch.vitals.keys() >= {"unstuck/update_to_data", "unstuck/saturated", "unstuck/gradient_norm"}
        assert watch.vitals["unstuck/findings"] == 0
        assert watch.step == 11

    def test_a_fault_is_warned_of_once_and_while_it_trains(self):
        watch = TrainerWatch(every=1, print_report=False)
        watch.begin()
        with pytest.warns(FindingWarning, match=r"^T001 accumulating-gradients: .*; see `unstuck rule T001`$") as told:
            accumulate(network(), 12)
        (warning,) = told
        assert (warning.filename, warning.lineno) == (__file__, accumulate.__code__.co_firstlineno + 4)
        assert watch.vitals["unstuck/findings"] == 1
        assert not watch.should_stop
        assert "T001" in watch.end().codes()  # without another warning, which would be an error here

    def test_a_short_one_is_warned_of_at_the_end(self):
        watch = TrainerWatch(every=1, print_report=False)
        watch.begin()
        accumulate(network(), 6)
        with pytest.warns(FindingWarning, match="T001"):
            watch.end()

    def test_an_error_stops_where_that_was_asked_for(self):
        watch = TrainerWatch(every=1, print_report=False, stop_on_error=True)
        watch.begin()
        accumulate(network(), 9)
        assert not watch.should_stop
        with pytest.warns(FindingWarning):
            accumulate(network(), 3)
        assert watch.should_stop
        watch.end()

    @pytest.mark.parametrize("failed", [False, True])
    def test_where_warnings_are_errors_the_training_goes_on_to_its_end(self, failed, capsys):
        watch = TrainerWatch(every=1)
        watch.begin()
        accumulate(network(), 12)
        if failed:  # by something else, which is told instead
            watch.end(failed=True)
        else:
            with pytest.raises(FindingWarning, match="T001"):
                watch.end()
        assert "T001" in capsys.readouterr().out
        assert watch.end() is not None

    def test_other_processes_than_the_first_say_nothing(self, capsys):
        watch = TrainerWatch(every=1, first=False)
        watch.begin()
        accumulate(network(), 12)
        assert "T001" in watch.end().codes()
        assert capsys.readouterr() == ("", "")

    def test_under_another_watcher_it_does_nothing(self, capsys):
        watch = TrainerWatch()
        with unstuck.watch(every=1) as run:
            watch.begin()
            train(network(), 3)
            assert watch.end() is None
        assert run.session.steps == 3
        assert capsys.readouterr().err.startswith(
            "unstuck: this training is not watched by the callback: another unstuck session is running"
        )

    def test_an_error_of_ours_ends_the_watching_and_not_the_training(self, monkeypatch, capsys):
        def fail(*_):
            raise RuntimeError("ours")

        monkeypatch.setattr("unstuck.integrations.trainers.vitals", fail)
        watch = TrainerWatch(every=1)
        watch.begin()
        losses = train(network(), 12)
        assert watch.end() is None
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert said.err.startswith("unstuck: internal error, watching ends here and the training goes on: RuntimeError")
        assert losses == train(network(), 12)

    def test_a_training_that_was_left_by_an_exception_is_ended_by_the_next(self, capsys):
        watch = TrainerWatch(every=1)
        watch.begin()
        train(network(), 3)
        watch.begin()
        train(network(), 4)
        assert watch.end().run.steps == 4
        assert "in 3 steps" in capsys.readouterr().out

    def test_parameters_have_their_names_before_the_model_runs(self):
        """Lightning calls the optimizer, and that the model."""
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model[2](model[1](model[0](X))), Y)
            loss.backward()
            return loss

        watch = TrainerWatch(every=1, print_report=False)
        watch.begin(model)
        for _ in range(3):
            optimizer.step(closure)
        labels = {site.label for site in watch.end().trace.sites}
        assert labels >= {"0.weight", "0.bias", "2.weight", "2.bias"}

    @pytest.mark.parametrize(
        ("error", "exception", "signal"),
        [(ZeroDivisionError("x"), "ZeroDivisionError: x", ""), (KeyboardInterrupt(), "", "SIGINT")],
    )
    def test_the_report_says_what_has_ended_the_training(self, error, exception, signal, capsys):
        watch = TrainerWatch(every=1)
        watch.begin()
        train(network(), 3)
        run = watch.end(error=error).run
        assert (run.exception, run.signal) == (exception, signal)
        assert f"in 3 steps of training, which {run.ending}\n" in capsys.readouterr().out

    def test_vitals_go_to_each_logger_once_a_sampled_step_and_one_that_raises_is_not_asked_again(self, capsys):
        class Logger(list):
            def write(self, vitals):
                self.append(vitals)
                if self is bad:
                    raise OSError("the disk is full")

        good, bad = Logger(), Logger()
        watch = TrainerWatch(every=1, print_report=False)
        watch.when_sampled = lambda: [watch.log(Logger.write, bad, good) for _ in range(2)]
        watch.begin()
        losses = train(network(), 5)
        assert watch.end().run.steps == 5
        assert (len(bad), len(good)) == (1, 5)
        assert good[0].keys() >= {"unstuck/gradient_norm"}
        said = capsys.readouterr().err
        assert said.startswith(
            "unstuck: cannot go on logging vitals by Logger: OSError: the disk is full (test_trainers.py:"
        )
        assert said.count("\n") == 1
        assert losses == train(network(), 5)


class TestTrainedBefore:
    """Rules about initialisation say nothing of a network that does not start from its own."""

    def loaded(self, *models, **options):
        watch = TrainerWatch(every=1, print_report=False)
        watch.begin(*models, **options)
        for model in models:
            train(model, 2)
        return watch.end().trace.facts.weights_loaded

    def test_a_new_model_was_not(self):
        assert not self.loaded(network())
        assert not self.loaded(network())

    def test_nor_one_whose_training_never_began(self):
        model = network()
        watch = TrainerWatch(print_report=False)
        watch.begin(model)
        watch.end()
        assert not self.loaded(model)

    def test_one_that_was_trained_under_watch(self):
        model = network()
        assert not self.loaded(model)
        assert self.loaded(model)

    def test_one_of_which_that_is_said(self):
        assert self.loaded(network(), trained=True)
