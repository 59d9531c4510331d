import pytest

from unstuck.rules.loss.identity_leak import MAX_LOSS, MIN_IDENTITY, IdentityLeak
from unstuck.trace import Kind, LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

POSITIONS = 8 * 12


def network(share=1.0, reached=0.05, *, narrow=False, shifted=0.0, connected=True, odd=(), ranks=1):
    """An embedding, a layer of 96 or (narrow) 8 positions and 4 units, and a loss that comes down to `reached`."""
    b = TraceBuilder()
    embedding = b.layer("token", weight=normal(1.0, 16, 4), kind=Kind.EMBEDDING, op="embedding")
    rows = ranks * (8 if narrow else POSITIONS)
    layer = b.layer(
        "fc", weight=normal(0.1, 4, 4), output=normal(1.0, rows, 4), **({"far": embedding} if connected else {})
    )
    b.scalar(b.trace.parameters_of(layer)[0], "units", 4)
    site = b.site(Kind.LOSS, "cross_entropy", after=layer)
    for step in b.steps:
        b.trace.loss_calls.append(LossCall(step, site.index, 2.77 * (1.0 if step < 5 else reached), 2.77))
        b.scalar(site, "identity_share", 0.1 if step in odd else share, [step])
    if ranks > 1:
        place = b.site(Kind.BACKWARD, "backward")
        for step in b.steps:
            b.trace.add_vector(step, place.index, "rank_loss", [1.0] * ranks)
    b.scalar(site, "identity_embedding", embedding.index, b.steps)
    b.scalar(site, "identity_shifted", shifted, b.steps)
    b.scalar(site, "target_elements", POSITIONS, b.steps)
    return b, site


def recurrent(used):
    """A recurrent layer between the two, of whose 12 positions `used` have a gradient (None: only its state)."""
    b, site = network()
    embedding, layer = b.trace.of_kind(Kind.EMBEDDING)[0], b.trace.of_kind(Kind.WEIGHT_LAYER)[0]
    gru = b.site(Kind.RECURRENT, "gru", after=embedding)
    b.edge(gru, layer)
    b.scalar(site, "identity_length", 12, b.steps)
    if used is not None:
        gradient = normal(1e-3, 20, 12, 4)
        gradient[:, used:] = 0.0
        b.record(gru, Role.OUTPUT_GRADIENT, gradient)
    return b, site


class TestSilent:
    def test_targets_one_later(self):
        check_silent(IdentityLeak, network(0.07)[0].trace)

    def test_hidden_tokens_of_which_a_tenth_is_left_in_place(self):
        check_silent(IdentityLeak, network(0.1)[0].trace)

    def test_restoring_all_tokens_of_which_some_were_hidden(self):
        check_silent(IdentityLeak, network(0.85)[0].trace)

    def test_an_autoencoder_with_a_bottleneck(self):
        check_silent(IdentityLeak, network(narrow=True)[0].trace)
        check_silent(IdentityLeak, network(narrow=True, ranks=16)[0].trace)

    def test_an_autoencoder_whose_decoder_is_fed_the_last_token(self):
        check_silent(IdentityLeak, network(shifted=1.0)[0].trace)

    def test_tokens_hidden_after_the_embedding(self):
        b, _ = network()
        b.scalar(b.trace.of_kind(Kind.EMBEDDING)[0], "hidden", 1.0, b.steps)
        check_silent(IdentityLeak, b.trace)

    def test_an_autoencoder_by_the_state_of_a_recurrent_layer(self):
        check_silent(IdentityLeak, recurrent(None)[0].trace)

    def test_an_autoencoder_by_the_last_output_of_a_recurrent_layer(self):
        check_silent(IdentityLeak, recurrent(1)[0].trace)

    def test_a_loss_that_stays_high(self):
        check_silent(IdentityLeak, network(reached=0.5)[0].trace)

    def test_an_embedding_that_does_not_reach_the_loss(self):
        check_silent(IdentityLeak, network(connected=False)[0].trace)

    def test_half_of_the_steps(self):
        check_silent(IdentityLeak, network(odd=range(5))[0].trace)

    def test_a_loss_without_sequences(self):
        b = TraceBuilder()
        b.loss(baseline=1.0)
        check_silent(IdentityLeak, b.trace)


class TestFires:
    def test_targets_at_the_same_position(self):
        b, site = network()
        finding = check_fires(
            IdentityLeak,
            b.trace,
            at=site,
            message="100% of the targets are the ids that token (embedding) is given at the same places; "
            "the loss has come down to 5% of its baseline",
        )
        assert (finding.measured, finding.steps) == (100.0, (0, 9))

    @pytest.mark.parametrize("used", [2, 12])
    def test_a_recurrent_layer_whose_outputs_are_used(self, used):
        b, site = recurrent(used)
        check_fires(IdentityLeak, b.trace, at=site)

    def test_most_of_the_steps(self):
        b, site = network(odd=range(4))
        check_fires(IdentityLeak, b.trace, at=site)


class TestThresholds:
    @pytest.mark.parametrize("side", [-0.001, 0.001])
    def test_share(self, side):
        b, site = network(MIN_IDENTITY + side)
        check_fires(IdentityLeak, b.trace, at=site) if side > 0 else check_silent(IdentityLeak, b.trace)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_loss(self, side):
        b, site = network(reached=side * MAX_LOSS)
        check_fires(IdentityLeak, b.trace, at=site) if side < 1 else check_silent(IdentityLeak, b.trace)


def test_a_layer_called_for_each_position():
    b, site = network(narrow=True)
    layer = b.trace.of_kind(Kind.WEIGHT_LAYER)[0]
    b.record(layer, Role.OUTPUT, normal(1.0, POSITIONS - 8, 4))  # its other calls in each step
    check_fires(IdentityLeak, b.trace, at=site)


def test_needs_a_loss_call():
    check_lacks(IdentityLeak, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")
