"""The trainer of transformers, with the callback and without."""

import pytest
import torch

import unstuck
from unstuck.integrations.trainers import FindingWarning


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

    @pytest.fixture
    def failing(self, transformers):
        class Failing(transformers.TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == 3:
                    raise KeyboardInterrupt

        return Failing()

    def test_an_interrupt_ends_the_watching_with_the_training(self, transformers, failing, capsys):
        from unstuck.integrations.transformers import watch

        trainer = self.trainer(transformers, callbacks=[failing])
        callback = watch(trainer, every=1)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert "in 3 steps of GPT2LMHeadModel, which was interrupted (Ctrl-C)\n" in capsys.readouterr().out
        assert callback.report.run.signal == "SIGINT"
        with unstuck.watch():
            pass

    def test_where_the_callback_is_not_told_the_next_training_ends_it(self, transformers, failing):
        from unstuck.integrations.transformers import UnstuckCallback

        left, after = (UnstuckCallback(every=1, print_report=False) for _ in range(2))
        with pytest.raises(KeyboardInterrupt):
            self.trainer(transformers, callbacks=[left, failing]).train()
        self.trainer(transformers, callbacks=[after]).train()
        assert (left.report.run.steps, after.report.run.steps) == (3, 24)

    def test_two_of_one_trainer_are_one(self, transformers, capsys):
        from unstuck.integrations.transformers import UnstuckCallback

        callbacks = [UnstuckCallback(every=1, print_report=False) for _ in range(2)]
        self.trainer(transformers, callbacks=callbacks).train()
        assert [callback.report and callback.report.run.steps for callback in callbacks] == [24, None]
        assert "this training is not watched by the callback" in capsys.readouterr().err

    def test_weights_that_were_loaded_are_no_initialisation(self, transformers, tmp_path):
        from unstuck.integrations.transformers import watch

        def loaded(trainer, **options):
            callback = watch(trainer, every=1, print_report=False)
            trainer.train(**options)
            return callback.report.trace.facts.weights_loaded

        trainer = self.trainer(transformers)
        assert not loaded(trainer)
        trainer.save_model(tmp_path / "kept")
        fine_tuned = self.trainer(transformers)
        fine_tuned.model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "kept")
        assert loaded(fine_tuned)

    def test_a_training_that_goes_on_from_a_checkpoint_starts_from_no_initialisation(self, transformers):
        from unstuck.integrations.transformers import watch

        first = self.trainer(transformers)
        first.args.save_strategy, first.args.save_steps = "steps", 12
        first.train()
        second = self.trainer(transformers)
        callback = watch(second, every=1, print_report=False)
        second.train(resume_from_checkpoint="out/checkpoint-12")
        assert callback.report.run.steps == 12
        assert callback.report.trace.facts.weights_loaded
