"""What the callbacks of trainers share, on a loop written by hand; then the three real trainers."""

import warnings

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


@pytest.fixture
def no_noise():
    """The libraries warn of things that are not ours; findings stay errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", FindingWarning)
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestLightning:
    @pytest.fixture(autouse=True)
    def lightning(self, tmp_path, monkeypatch, no_noise):
        monkeypatch.chdir(tmp_path)
        return pytest.importorskip("lightning.pytorch")

    def fit(self, lightning, *callbacks, faulty=False, **options):
        from lightning.pytorch.loggers import CSVLogger

        class Classifier(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net, self.losses = network(), []
                self.automatic_optimization = not faulty

            def training_step(self, batch, _):
                loss = F.cross_entropy(self.net[2](torch.tanh(self.net[0](batch[0]))), batch[1])
                self.losses.append(loss.item())
                if faulty:  # gradients are never cleared
                    self.manual_backward(loss)
                    self.optimizers().step()
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        lightning.seed_everything(0, verbose=False)
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=CSVLogger("logs"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            **options,
        )
        data = torch.utils.data.TensorDataset(X, Y)
        model = Classifier()
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=8))
        trainer.logger.save()
        return trainer, model

    def test_a_healthy_training_is_the_same_and_its_vitals_are_logged(self, lightning, tmp_path, capsys):
        import csv

        from unstuck.integrations.lightning import UnstuckCallback

        bare = self.fit(lightning, max_steps=16)[1].losses
        callback = UnstuckCallback(every=1)
        trainer, model = self.fit(lightning, callback, max_steps=16)
        assert model.losses == bare
        assert callback.report.run.steps == 16
        assert callback.report.ok, str(callback.report)
        assert "in 16 steps of Classifier" in capsys.readouterr().out
        rows = list(csv.DictReader((tmp_path / trainer.logger.log_dir / "metrics.csv").open()))
        found = {int(row["step"]): float(row["unstuck/gradient_norm"]) for row in rows}
        assert list(found) == list(range(1, 17))  # trainer.global_step, once the batch is over
        assert {site.label for site in callback.report.trace.sites} >= {"net.0.weight", "net.2.bias"}

    def test_an_error_is_a_warning_and_stops_the_trainer_where_asked_for(self, lightning):
        from unstuck.integrations.lightning import UnstuckCallback

        callback = UnstuckCallback(every=1, stop_on_error=True, print_report=False)
        with pytest.warns(FindingWarning, match="T001 accumulating-gradients"):
            trainer, _ = self.fit(lightning, callback, faulty=True, max_epochs=10)
        assert trainer.global_step == 10
        assert callback.report.codes() == ["T001"]

    def test_a_training_that_fails_has_its_report_and_leaves_nothing(self, lightning, capsys):
        from unstuck.integrations.lightning import UnstuckCallback

        class Failing(lightning.Callback):
            def on_train_batch_end(self, *_):
                raise ZeroDivisionError("of the user")

        with pytest.raises(ZeroDivisionError, match="of the user"):
            self.fit(lightning, UnstuckCallback(every=1), Failing(), max_steps=16)
        assert "in 1 step of Classifier" in capsys.readouterr().out
        with unstuck.watch():
            pass


@pytest.mark.slow
class TestTransformers:
    @pytest.fixture(autouse=True)
    def transformers(self, tmp_path, monkeypatch, no_noise):
        monkeypatch.chdir(tmp_path)
        return pytest.importorskip("transformers")

    def trainer(self, transformers, lr=1e-3, **options):
        torch.manual_seed(0)
        sizes = {"vocab_size": 29, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))
        rows = [{"input_ids": ids, "labels": ids} for ids in (torch.arange(64)[:, None] + torch.arange(8)) % 29]
        arguments = transformers.TrainingArguments(
            output_dir="out",
            max_steps=24,
            per_device_train_batch_size=8,
            learning_rate=lr,
            logging_steps=8,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to=["tensorboard"],
        )
        return transformers.Trainer(model, arguments, train_dataset=rows, **options)

    def losses(self, trainer):
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]

    def test_a_healthy_training_is_the_same_and_its_vitals_reach_the_loggers(self, transformers, capsys, monkeypatch):
        from unstuck.integrations.transformers import watch

        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "events")
        bare = self.trainer(transformers)
        bare.train()
        trainer = self.trainer(transformers)
        callback = watch(trainer, every=1)
        trainer.train()
        assert self.losses(trainer) == self.losses(bare) != []
        assert callback.report.run.steps == 24
        assert callback.report.ok, str(callback.report)
        assert "in 24 steps of GPT2LMHeadModel" in capsys.readouterr().out
        history = [row for row in trainer.state.log_history if "unstuck/gradient_norm" in row]
        assert [row["step"] for row in history] == [8, 16, 24]
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator("events").Reload()
        assert [event.step for event in events.Scalars("train/unstuck/gradient_norm")] == [8, 16, 24]

    def test_as_a_callback_only_the_history_has_them(self, transformers):
        from unstuck.integrations.transformers import UnstuckCallback

        callback = UnstuckCallback(every=1, print_report=False)
        trainer = self.trainer(transformers, callbacks=[callback])
        trainer.train()
        assert callback.report.ok
        assert sum("unstuck/gradient_norm" in row for row in trainer.state.log_history) == 3

    def test_an_error_is_a_warning_and_stops_the_trainer_where_asked_for(self, transformers):
        from unstuck.integrations.transformers import watch

        trainer = self.trainer(transformers, lr=5.0)
        callback = watch(trainer, every=1, stop_on_error=True, print_report=False)
        with pytest.warns(FindingWarning):
            trainer.train()
        assert trainer.state.global_step < 24
        assert not callback.report.ok


@pytest.mark.slow
class TestAccelerate:
    @pytest.fixture(autouse=True)
    def accelerate(self, tmp_path, monkeypatch, no_noise):
        monkeypatch.chdir(tmp_path)
        accelerate = pytest.importorskip("accelerate")
        accelerate.state.AcceleratorState._reset_state(True)
        return accelerate

    def loop(self, accelerate, watch=None, *, faulty=False, steps=16, **options):
        accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_dir="logs")
        accelerator.init_trackers("example")
        model = network()
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
        losses, watching = [], None

        def train():
            for _ in range(steps):
                loss = F.cross_entropy(model(X), Y)
                if not faulty:
                    optimizer.zero_grad()
                accelerator.backward(loss)
                losses.append(loss.item())
                optimizer.step()

        if watch is None:
            train()
        else:
            with watch(accelerator, every=1, **options) as watching:
                train()
        accelerator.end_training()
        return losses, watching

    def test_a_healthy_loop_is_the_same_and_its_vitals_reach_the_tracker(self, accelerate, capsys):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        from unstuck.integrations.accelerate import watch

        bare, _ = self.loop(accelerate)
        seen, watching = self.loop(accelerate, watch)
        assert seen == bare
        assert watching.report.run.steps == 16
        assert "in 16 steps of training" in capsys.readouterr().out
        events = EventAccumulator("logs/example").Reload()
        assert [event.step for event in events.Scalars("unstuck/gradient_norm")] == list(range(16))

    def test_an_error_is_a_warning_and_ends_the_loop_where_asked_for(self, accelerate):
        from unstuck.integrations.accelerate import watch

        with pytest.warns(FindingWarning, match="T001"):
            losses, watching = self.loop(
                accelerate, watch, faulty=True, steps=100, stop_on_error=True, print_report=False
            )
        assert len(losses) == 10
        assert "T001" in watching.report.codes()
        assert watching.report.run.stopped

    def test_an_exception_of_the_loop_is_the_loops(self, accelerate, capsys):
        from unstuck.integrations.accelerate import watch

        def failing():
            with watch(accelerate.Accelerator(cpu=True), every=1):
                train(network(), 3)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert "in 3 steps of training" in capsys.readouterr().out
