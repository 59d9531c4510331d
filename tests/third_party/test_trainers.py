"""Training frameworks as they are: `transformers.Trainer`, a Lightning module, an Accelerate loop."""

# ruff: noqa: E402  (the skip must come before the imports that it spares)

import pytest

REASON = "needs the optional packages: pip install 'unstuck[third-party]'"
for library in ("transformers", "lightning", "accelerate"):
    pytest.importorskip(library, reason=REASON)

from collections import Counter

import lightning.pytorch as lightning
import torch
import torch.nn.functional as F
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader

import unstuck
from third_party.architectures import ARCHITECTURES
from third_party.training import STEPS, batches, counted, hooked
from unstuck.findings import Severity
from unstuck.trace import Kind, Role

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
    ),  # torch.compile
    pytest.mark.filterwarnings("ignore:.*(num_workers|litlogger|LeafSpec|treespec).*"),
]
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
ROWS = 4


def rows(architecture):
    """Single examples, as a data set has them."""
    return [{key: value[i] for key, value in batch.items()} for batch in batches(architecture) for i in range(ROWS)]


def watched(train):
    """Return (run, result without a watcher, result under watch) of a training that returns (losses, model)."""
    bare = train()
    with unstuck.watch(every=1) as run:
        seen = train()
    return run, bare, seen


def assert_nothing_changed(run, bare, seen):
    assert run.session.trace.facts.internal_error is None
    assert len(bare[0]) > 0
    assert seen[0] == bare[0]
    for (name, parameter), (_, other) in zip(bare[1].named_parameters(), seen[1].named_parameters(), strict=True):
        assert torch.equal(parameter, other), name


def assert_every_place_is_a_site(trace, architecture, passes=1):
    """`passes` is the number of forward passes in a step."""
    weights, activations = hooked(architecture)
    layers = trace.of_kind(Kind.WEIGHT_LAYER, Kind.EMBEDDING)
    assert Counter(site.path for site in layers) == counted(weights, architecture.weights_by_hand)
    sites = trace.of_kind(Kind.ACTIVATION)
    assert Counter(site.path for site in sites) == counted(activations, architecture.activations_by_hand)
    for site in layers:
        assert trace.summary(site, Role.OUTPUT, 0).count == passes * weights[site.path].elements


def assert_parameters_learn(trace, model):
    sites = {site.path: site for site in trace.of_kind(Kind.PARAMETER)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            for role in (Role.GRADIENT, Role.UPDATE):
                assert [step for step, _ in trace.summaries(sites[name], role)] == list(range(STEPS)), (name, role)


# -- transformers.Trainer --------------------------------------------------------------------------------------------


def with_trainer(architecture, folder, **options):
    torch.manual_seed(0)
    model = architecture.make()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=3e-3,
        report_to=[],
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
        **options,
    )
    data = rows(architecture)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], model


TRAINER_OPTIONS = {
    "plain": {},
    "clipped, with a schedule": {"max_grad_norm": 0.1, "lr_scheduler_type": "cosine"},
    "evaluated between steps": {"eval_strategy": "steps", "eval_steps": 5},
    "accumulating": {"gradient_accumulation_steps": 2},
    "bfloat16": {"bf16": True},
    "checkpointing": {"gradient_checkpointing": True},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
}
TRAINER_RUNS = [(name, "plain") for name in ("gpt2", "bert", "llama", "t5", "vit", "resnet")]
TRAINER_RUNS += [("gpt2", options) for options in TRAINER_OPTIONS if options != "plain"]


# At width 16, T5's default head starts 0.8 nat above its baseline: true of this size, not of T5's own.
TRUE_OF_TINY_MODELS = {"t5": {"L001"}}


@pytest.mark.parametrize(("name", "options"), TRAINER_RUNS)
def test_the_trainer_of_transformers(name, options, tmp_path):
    architecture, chosen = BY_NAME[name], TRAINER_OPTIONS[options]
    passes = chosen.get("gradient_accumulation_steps", 1)
    run, bare, seen = watched(lambda: with_trainer(architecture, tmp_path, **chosen))
    trace = run.session.trace
    assert_nothing_changed(run, bare, seen)
    assert (run.session.steps, trace.facts.backward_calls) == (STEPS, passes * STEPS)
    assert_every_place_is_a_site(trace, architecture, passes)
    assert_parameters_learn(trace, seen[1])
    warned = {f.code for f in run.report().findings if f.severity >= Severity.WARNING}
    assert warned <= TRUE_OF_TINY_MODELS.get(name, set()), str(run.report())


# -- Accelerate ------------------------------------------------------------------------------------------------------


def with_accelerate(architecture, passes, precision):
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=passes, mixed_precision=precision)
    model = architecture.make()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    loader = DataLoader(rows(architecture), batch_size=ROWS, shuffle=True)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    losses = []
    while len(losses) < STEPS * passes:
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(loss.item())
    return losses, accelerator.unwrap_model(model)


@pytest.mark.parametrize(("passes", "precision"), [(1, "no"), (2, "no"), (1, "bf16")])
def test_an_accelerate_loop(passes, precision):
    architecture = BY_NAME["bert"]
    run, bare, seen = watched(lambda: with_accelerate(architecture, passes, precision))
    trace = run.session.trace
    assert_nothing_changed(run, bare, seen)
    assert (run.session.steps, trace.facts.backward_calls) == (STEPS, passes * STEPS)
    assert_every_place_is_a_site(trace, architecture, passes)
    assert_parameters_learn(trace, seen[1])
    assert run.report().ok, str(run.report())


# -- Lightning -------------------------------------------------------------------------------------------------------


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        convolution = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten()]
        self.body = nn.Sequential(*convolution, nn.Linear(8 * 7 * 7, 16), nn.GELU())
        self.head = nn.Linear(16, 3)
        self.losses = []

    def forward(self, x):
        return 3 * torch.tanh(self.head(self.body(x)))

    def training_step(self, batch, _):
        loss = F.cross_entropy(self(batch["pixel_values"]), batch["labels"])
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, _):
        self.log("validation loss", F.cross_entropy(self(batch["pixel_values"]), batch["labels"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def with_lightning(folder, **options):
    lightning.seed_everything(0, verbose=False)
    data, model = rows(BY_NAME["vit"]), Classifier()
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(model, DataLoader(data, batch_size=ROWS, shuffle=True), DataLoader(data, batch_size=ROWS))
    return model.losses, model


LIGHTNING_OPTIONS = {
    "plain": {},
    "accumulating": {"accumulate_grad_batches": 2},
    "clipped": {"gradient_clip_val": 0.5},
    "bfloat16": {"precision": "bf16-mixed"},
}


@pytest.mark.parametrize("options", LIGHTNING_OPTIONS)  # Lightning makes each pass inside the optimizer's step
def test_a_lightning_module(options, tmp_path):
    run, bare, seen = watched(lambda: with_lightning(tmp_path, **LIGHTNING_OPTIONS[options]))
    trace = run.session.trace
    assert_nothing_changed(run, bare, seen)
    assert (run.session.steps, trace.facts.backward_calls) == (STEPS, len(seen[0]))
    sites = {(site.path, site.op) for site in trace.of_kind(Kind.WEIGHT_LAYER, Kind.NORM, Kind.ACTIVATION)}
    layers = {("body.0", "conv2d"), ("body.1", "batch_norm"), ("body.4", "linear"), ("head", "linear")}
    assert sites == layers | {("body.2", "relu"), ("body.5", "gelu"), ("", "tanh")}
    assert trace.steps == list(range(STEPS))
    assert_parameters_learn(trace, seen[1])
    assert run.report().ok, str(run.report())
