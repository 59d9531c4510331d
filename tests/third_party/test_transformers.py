"""Tiny models of `transformers`, trained by hand as they are: every layer and activation is a site, nothing changes."""

# ruff: noqa: E402  (the skip must come before the imports that it spares)

import pytest

REASON = "needs the optional packages: pip install 'unstuck[third-party]'"
pytest.importorskip("transformers", reason=REASON)

from collections import Counter

import torch

import unstuck
from third_party.architectures import ARCHITECTURES
from third_party.training import STEPS, counted, hooked, train
from unstuck.trace import Kind, Role

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning:transformers")]

LAYERS = (Kind.WEIGHT_LAYER, Kind.EMBEDDING)
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.name)
def watched(request):
    """An architecture, its training without a watcher, and the same under watch."""
    architecture = request.param
    bare = train(architecture, measure=True)
    state = torch.get_rng_state()
    with unstuck.watch(every=1) as run:
        seen = train(architecture)
    assert torch.equal(torch.get_rng_state(), state)
    return architecture, bare, seen, run


def test_watching_changes_nothing(watched):
    _, bare, seen, run = watched
    assert run.session.trace.facts.internal_error is None
    assert seen.losses == bare.losses
    assert seen.parameters.keys() == bare.parameters.keys()
    assert all(torch.equal(seen.parameters[name], value) for name, value in bare.parameters.items())


def test_every_update_is_a_step(watched):
    _, bare, _, run = watched
    trace = run.session.trace
    assert run.session.steps == STEPS
    assert trace.steps == list(range(STEPS))
    assert [trace.objective[step] for step in range(STEPS)] == bare.losses


def test_every_weight_layer_is_a_site_under_its_name(watched):
    architecture, _, _, run = watched
    trace = run.session.trace
    weights, _ = hooked(architecture)
    assert Counter(site.path for site in trace.of_kind(*LAYERS)) == counted(weights, architecture.weights_by_hand)
    for site in trace.of_kind(*LAYERS):
        passage = weights.get(site.path)
        if passage is not None:
            summary = trace.summary(site, Role.OUTPUT, 0)
            assert summary.count == passage.elements
            assert not passage.plain or summary.rms == pytest.approx(passage.rms, rel=1e-5)


def test_every_activation_is_a_site_under_its_name(watched):
    architecture, _, _, run = watched
    trace = run.session.trace
    _, activations = hooked(architecture)
    sites = trace.of_kind(Kind.ACTIVATION)
    assert Counter(site.path for site in sites) == counted(activations, architecture.activations_by_hand)
    for site in sites:
        passage = activations.get(site.path)
        if passage is not None:
            assert trace.summary(site, Role.INPUT, 0).count == passage.elements


def test_every_parameter_has_its_gradients_and_updates(watched):
    _, bare, _, run = watched
    trace = run.session.trace
    sites = {site.path: site for site in trace.of_kind(Kind.PARAMETER)}
    assert {path for path, site in sites.items() if site.requires_grad} == bare.gradients.keys()
    for role, expected in ((Role.GRADIENT, bare.gradients), (Role.UPDATE, bare.updates)):
        for name, by_step in expected.items():
            measured = {step: summary.rms for step, summary in trace.summaries(sites[name], role)}
            assert measured == pytest.approx(by_step, rel=1e-4, abs=1e-12), (name, role)


def test_the_outputs_of_layers_have_gradients(watched):
    _, _, _, run = watched
    trace = run.session.trace
    assert all(len(trace.summaries(site, Role.OUTPUT_GRADIENT)) == STEPS for site in trace.of_kind(Kind.WEIGHT_LAYER))


def test_the_loss_is_a_site(watched):
    _, bare, _, run = watched
    calls = run.session.trace.loss_at_start()
    assert calls
    assert sum(call.value for call in calls) / len(calls) == pytest.approx(bare.losses[0], rel=1e-6)
    assert {run.session.trace.sites[call.site].op for call in calls} == {"cross_entropy"}


def test_a_custom_function_is_seen_and_not_guessed():
    with unstuck.watch(every=1) as run:
        train(BY_NAME["bloom"])
    sites = run.session.trace.of_kind(Kind.CUSTOM)
    assert [site.path for site in sites] == [f"transformer.h.{i}.mlp.gelu_impl" for i in (0, 1)]
    assert {(site.op, site.interval, site.gain) for site in sites} == {("GeLUFunction", None, None)}


@pytest.mark.filterwarnings("ignore:.*requires_grad=True.*:UserWarning")  # of evaluation passes, not of training
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_checkpointing_shows_what_the_plain_model_shows(name, reentrant):
    """The recomputed forward pass is not a second one: the same sites, the same number of elements."""

    def checkpointed(model):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})

    def elements(prepare):
        with unstuck.watch(every=1) as run:
            losses = train(BY_NAME[name], prepare).losses
        trace = run.session.trace
        assert trace.facts.internal_error is None
        sites = trace.of_kind(*LAYERS, Kind.ACTIVATION)
        roles = (Role.INPUT, Role.OUTPUT, Role.OUTPUT_GRADIENT)
        return losses, {
            (site.path, site.op, role): [summary.count for _, summary in trace.summaries(site, role)]
            for site in sites
            for role in roles
        }

    assert elements(checkpointed) == elements(id)


QUIET = sorted(BY_NAME.keys() - {"clip"})
"""CLIP starts with a temperature of 14.3, so that with 16 features its first loss is 1.8 nats above a blind guess's."""


@pytest.mark.parametrize("name", QUIET)
def test_a_healthy_model_gets_no_warning(name):
    with unstuck.watch(every=1) as run:
        train(BY_NAME[name])
    assert run.report().ok, str(run.report())
