"""Lightning's trainer, with the callback and without."""

import pytest
import torch
import torch.nn.functional as F

import unstuck
from integrations.made import X, Y, network
from unstuck.integrations.trainers import FindingWarning


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestLightning:
    @pytest.fixture(autouse=True)
    def lightning(self, tmp_path, monkeypatch, no_noise):
        monkeypatch.chdir(tmp_path)
        return pytest.importorskip("lightning.pytorch")

    def fit(self, lightning, *callbacks, faulty=False, checkpoint=None, **options):
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
        settings = {
            "accelerator": "cpu",
            "logger": CSVLogger("logs"),
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        trainer = lightning.Trainer(callbacks=list(callbacks), **(settings | options))
        data = torch.utils.data.TensorDataset(X, Y)
        model = Classifier()
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=8), ckpt_path=checkpoint)
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

    def test_a_logger_that_fails_ends_neither_the_training_nor_the_watching(self, lightning, capsys):
        from lightning.pytorch.loggers import CSVLogger

        from unstuck.integrations.lightning import UnstuckCallback

        class Full(CSVLogger):
            def log_metrics(self, metrics, step=None):
                raise OSError("the disk is full")

        callback = UnstuckCallback(every=1)
        trainer, _ = self.fit(lightning, callback, max_steps=16, logger=[Full("full"), CSVLogger("logs")])
        assert trainer.global_step == callback.report.run.steps == 16
        said = capsys.readouterr()
        assert said.err.count("cannot go on logging vitals by Full: OSError: the disk is full") == 1
        assert "in 16 steps of Classifier\n" in said.out
        assert "unstuck/gradient_norm" in trainer.loggers[1].experiment.metrics_keys

    def test_a_training_that_goes_on_from_a_checkpoint_starts_from_no_initialisation(self, lightning, tmp_path):
        from unstuck.integrations.lightning import UnstuckCallback

        first, second = (UnstuckCallback(every=1, print_report=False) for _ in range(2))
        trainer, _ = self.fit(lightning, first, max_steps=16)
        trainer.save_checkpoint(tmp_path / "kept.ckpt")
        self.fit(lightning, second, max_steps=24, checkpoint=str(tmp_path / "kept.ckpt"))
        assert not first.report.trace.facts.weights_loaded
        assert second.report.trace.facts.weights_loaded
        assert second.report.run.steps == 8
