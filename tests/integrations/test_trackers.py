"""`log_to`: what is refused, what a tracker that fails does not do, and the real packages, read back from disk."""

import random
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import unstuck
from integrations.conftest import FOLDER
from integrations.made import network, train
from unstuck.config import ConfigError
from unstuck.integrations import trackers
from unstuck.integrations.mlflow import LONGEST, _name
from unstuck.integrations.trackers import TrackerFollower
from unstuck.trace import Role

STEPS = 12
SCALAR, HISTOGRAM = "unstuck/0.weight/value/std", "unstuck/0.weight/value"


class Kept:
    """A tracker in memory."""

    def __init__(self):
        self.steps, self.reports, self.closed = [], [], 0

    def step(self, step, scalars, summaries):
        self.steps.append((step, scalars, summaries))

    def report(self, report, files):
        self.reports.append((report, [(file.name, file.read_text()) for file in files]))

    def close(self):
        self.closed += 1


def watched(follower, steps=STEPS):
    run = unstuck.watch(every=1)
    run.followers.append(follower)
    with run:
        losses = train(network(), steps)
    return run, losses


def logged(log_to):
    """Train under watch; returns the trace."""
    with unstuck.watch(every=1, log_to=log_to) as run:
        train(network(), STEPS)
    assert [follower.failure for follower in run.followers] == [None]
    return run.session.trace


def expected(trace):
    """The std of the first weight at each step."""
    site = next(site for site in trace.sites if site.label == "0.weight")
    assert len(trace.steps) == STEPS
    return {step: summary.std for step, summary in trace.summaries(site, Role.VALUE)}


class TestRefused:
    @pytest.mark.parametrize(
        ("log_to", "complaint"),
        [
            ("wandbb", "log_to: 'wandbb' is no tracker that is known; choose from 'mlflow', 'tensorboard', 'trackio'"),
            (3, "log_to: a builtins.int is no tracker that is known"),
            (["tensorboard", ""], "log_to: '' is no tracker that is known"),
        ],
    )
    def test_what_is_no_tracker(self, log_to, complaint):
        with pytest.raises(ConfigError) as raised:
            unstuck.watch(log_to=log_to)
        assert str(raised.value).startswith(complaint)

    def test_a_package_that_is_missing(self):
        """In a process of its own, which finds none of them: each is said when it is named, with its extra."""
        code = """
            import sys

            class Missing:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] in sys.argv[1:]:
                        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

            sys.meta_path.insert(0, Missing())
            import unstuck
            for name in sys.argv[1:]:
                try:
                    unstuck.watch(log_to=name)
                except unstuck.config.ConfigError as error:
                    print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *trackers.NAMES], capture_output=True, text=True, check=True
        )
        said = done.stdout.splitlines()
        assert len(said) == len(trackers.NAMES)
        for name, line in zip(trackers.NAMES, said, strict=True):
            assert line.startswith(f"log_to='{name}' needs a package that is not installed (No module named '{name}")
            assert line.endswith(f"pip install 'unstuck[{name}]'")

    def test_no_tracker_is_loaded_before_it_is_named(self):
        code = "import sys, unstuck; print([n for n in sys.argv[1:] if n in sys.modules])"
        names = ["wandb", "mlflow", "trackio", "tensorboard", "lightning", "transformers", "accelerate", "pytest"]
        done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


class TestFollower:
    def test_other_processes_than_the_first_log_nothing(self, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        assert unstuck.watch(log_to="tensorboard").followers == []

    def test_a_run_that_never_trained_opens_nothing(self):
        follower = TrackerFollower("kept", lambda _: pytest.fail("nothing to log"))
        watched(follower, steps=0)
        assert follower.failure is None

    def test_each_sampled_step_once_and_in_order_then_the_report(self):
        kept = Kept()
        run, _ = watched(TrackerFollower("kept", lambda _: kept))
        assert [step for step, _, _ in kept.steps] == run.session.trace.steps == list(range(STEPS))
        values = {step: scalars[SCALAR] for step, scalars, _ in kept.steps}
        assert values == expected(run.session.trace)
        assert all(HISTOGRAM in summaries for _, _, summaries in kept.steps)
        assert "unstuck/0.weight/update/std" in kept.steps[-1][1]  # the last step has its update
        ((report, [(name, text)]),) = kept.reports
        assert name == "report.html"
        assert report.run.steps == STEPS
        assert text.startswith("<!doctype html>")
        assert kept.closed == 1

    @pytest.mark.parametrize("method", ["step", "report", "close"])
    def test_one_that_fails_says_so_once_and_the_training_goes_on(self, method, capsys):
        def fail(*_):
            raise OSError("the server is gone")

        kept = Kept()
        setattr(kept, method, fail)
        follower = TrackerFollower("kept", lambda _: kept)
        run, losses = watched(follower)
        said = capsys.readouterr().err
        assert said.startswith("unstuck: cannot go on logging to kept: OSError: the server is gone (test_trackers.py:")
        assert said.count("\n") == 1
        assert losses == train(network(), STEPS)
        assert run.session.trace.facts.internal_error is None
        assert len(run.session.trace.steps) == STEPS
        assert method == "close" or kept.closed == 1

    def test_random_numbers_that_a_tracker_draws_are_given_back(self):
        class Drawing(Kept):
            def step(self, *_):
                random.random()
                np.random.rand()

        before = random.getstate(), np.random.get_state()[1].tolist()
        watched(TrackerFollower("kept", lambda _: Drawing()))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before

    def test_opening_is_charged_to_loading(self):
        opened = []

        def open_(_):
            loading, spent = run.session.loading_seconds, run.session.seconds
            opened.append((loading, spent))
            time.sleep(0.2)
            return Kept()

        run = unstuck.watch(every=1)
        run.followers.append(TrackerFollower("kept", open_))
        with run:
            train(network(), STEPS)
        assert len(opened) == 1
        assert run.session.loading_seconds - opened[0][0] >= 0.2


class TestReal:
    """The training is the same with each of them as without."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_tensorboard(self, here):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(here / "mine"))
        trace = logged(writer)
        writer.add_scalar("mine", 1.0, 0)  # it is not closed
        writer.close()
        events = EventAccumulator(str(here / "mine"), {"scalars": 0, "histograms": 0}).Reload()
        found = {event.step: event.value for event in events.Scalars(SCALAR)}
        assert found == pytest.approx(expected(trace))
        histograms = events.Histograms(HISTOGRAM)
        assert [event.step for event in histograms] == trace.steps
        assert sum(histograms[0].histogram_value.bucket) == 16 * 8
        assert (here / "mine" / "unstuck-report.html").read_text().startswith("<!doctype html>")
        text = events.Tensors("unstuck/report/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "in 12 steps of training" in text

    def test_wandb(self, here):
        wandb = pytest.importorskip("wandb")
        trace = logged("wandb")
        assert wandb.run is None  # its own run is finished
        history = written(here)
        found = {int(row["unstuck/step"]): float(row[SCALAR]) for row in history}
        assert found == pytest.approx(expected(trace))
        counts = [row[f"{HISTOGRAM}/values"] for row in history]
        assert [sum(map(int, text.strip("[]").split(","))) for text in counts] == [16 * 8] * STEPS
        (artifact,) = [record.artifact for record in records_of(here) if record.WhichOneof("record_type") == "artifact"]
        assert [content.path for content in artifact.manifest.contents] == ["report.html"]

    def test_wandb_with_a_run_of_the_scripts_own(self):
        wandb = pytest.importorskip("wandb")
        run = wandb.init(project="mine")
        try:
            run.log({"mine": 1.0}, step=5)
            logged(run)
            assert run.step == 5  # what the script logs next is not out of order
            run.log({"mine": 2.0}, step=6)
        finally:
            run.finish()

    def test_mlflow(self, here):
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri((here / "mlruns").as_uri())
        with mlflow.start_run() as run:
            trace = logged("mlflow")
            assert mlflow.active_run() is not None  # a run that is the script's stays open
        client = mlflow.MlflowClient()
        found = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, SCALAR)}
        assert found == expected(trace)
        assert [file.path for file in client.list_artifacts(run.info.run_id, "unstuck")] == ["unstuck/report.html"]
        assert client.get_run(run.info.run_id).data.tags["unstuck.ok"] in ("true", "false")
        assert "unstuck/1 _tanh_/input/outside_fraction" in client.get_run(run.info.run_id).data.metrics

    def test_names_that_mlflow_takes(self):
        assert _name("a/b (c) #2, ü") == "a/b _c_ _2_ ü"
        assert len(_name("x" * 999)) == LONGEST

    def test_trackio(self):
        trackio = pytest.importorskip("trackio")
        from trackio.sqlite_storage import SQLiteStorage

        run = trackio.init(project="tests", name="mine", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        trace = logged("trackio")
        trackio.finish()  # a run that is the script's stays open
        logs = SQLiteStorage.get_logs("tests", run.name)
        assert {log["step"]: log[SCALAR] for log in logs} == pytest.approx(expected(trace))
        assert [sum(log[HISTOGRAM]["values"]) for log in logs] == [16 * 8] * STEPS
        blobs = [file.read_bytes() for file in Path(FOLDER).rglob("blobs/sha256/*/*") if file.is_file()]
        assert any(blob.startswith(b"<!doctype html>") for blob in blobs)

    def test_several_at_once_change_nothing(self, here):
        pytest.importorskip("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        bare = train(network(), STEPS)
        state = torch.get_rng_state()
        writers = [SummaryWriter(str(here / name)) for name in ("one", "two")]
        with unstuck.watch(every=1, log_to=writers) as run:
            seen = train(network(), STEPS)
        assert seen == bare
        assert torch.equal(torch.get_rng_state(), state)
        assert [follower.failure for follower in run.followers] == [None, None]
        for writer in writers:
            writer.close()


def written(folder):
    """What each `log` call of an offline run of W&B wrote, once the process that writes it is done."""
    for _ in range(100):
        records = list(records_of(folder))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.1)
    return [
        {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def records_of(folder):
    """Yield what an offline run of W&B wrote: protocol buffers in a LevelDB log, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, part = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(part)
            yield record
            part = b""
