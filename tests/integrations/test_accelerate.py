"""Loops of Accelerate, with the callback and without."""

import pytest
import torch
import torch.nn.functional as F

from integrations.made import X, Y, network, train
from integrations.test_trackers import written
from unstuck.integrations.trainers import FindingWarning


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
        assert "in 16 steps of Sequential" in capsys.readouterr().out
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

    def test_a_tracker_that_fails_ends_neither_the_loop_nor_the_watching(self, accelerate, capsys):
        from unstuck.integrations.accelerate import watch

        class Gone(accelerate.tracking.GeneralTracker):
            name, requires_logging_directory, tracker = "gone", False, None

            def store_init_configuration(self, values):
                pass

            def log(self, values, step=None, **options):
                raise OSError("the server is gone")

        accelerator = accelerate.Accelerator(cpu=True, log_with=Gone())
        accelerator.init_trackers("example")
        with watch(accelerator, every=1) as watching:
            train(network(), 8)
        assert watching.report.run.steps == 8
        said = capsys.readouterr().err
        assert said.startswith("unstuck: cannot go on logging vitals by Gone: OSError: the server is gone")
        assert said.count("\n") == 1

    def test_the_step_of_wandb_stays_the_scripts(self, accelerate, tmp_path):
        """W&B drops what comes with a lower step than it has seen."""
        wandb = pytest.importorskip("wandb")
        from unstuck.integrations.accelerate import watch

        accelerator = accelerate.Accelerator(cpu=True, log_with="wandb")
        accelerator.init_trackers("example")
        for epoch in range(2):
            with watch(accelerator, every=1):
                train(network(), 8)
            accelerator.log({"epoch": epoch}, step=epoch)
        accelerator.end_training()
        wandb.teardown()  # it keeps this folder
        rows = [row for row in written(tmp_path) if "epoch" in row]
        assert [row["epoch"] for row in rows] == ["0", "1"]
        assert rows[0]["unstuck/step"] == "7"
        assert float(rows[0]["unstuck/gradient_norm"]) > 0
