import pytest

from unstuck.findings import Severity
from unstuck.rules.attention.future_leak import FutureLeak
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


class Network:
    """An embedding, attention among its symbols, and a loss."""

    def __init__(self, *, ahead=1.0, following=1.0, counted=1.0, places=16, length=16, values=None, reaches=True):
        b = self.b = TraceBuilder()
        self.embedding = b.site(Kind.EMBEDDING, "embedding", "symbols")
        self.other = b.site(Kind.EMBEDDING, "embedding", "picture")
        self.value = b.layer("value", after=self.embedding if values is None else self.other)
        self.attention = b.site(Kind.ATTENTION, "scaled_dot_product_attention", "attention", after=self.value)
        head = b.layer("head", **({"after": self.attention} if reaches else {}))
        self.loss = b.loss(baseline=2.0, after=head)
        for name, value in (("looks_ahead", ahead), ("weight_ahead", 0.48), ("places", places)):
            b.scalar(self.attention, name, value, range(5))
        for step in range(5):
            b.trace.add_vector(step, self.attention.index, "values_from", [self.value.index])
        for name, value in (
            ("target_is_next_input", following),
            ("next_embedding", self.embedding.index),
            ("targets_counted", counted),
            ("sequence_length", length),
        ):
            b.scalar(self.loss, name, value, b.steps)

    @property
    def trace(self):
        return self.b.trace


class TestSilent:
    def test_causal_attention(self):
        check_silent(FutureLeak, Network(ahead=0.0).trace)

    @pytest.mark.parametrize("following", [0.0, 0.1, 0.85, 0.9])
    def test_targets_that_are_not_the_next_symbols(self, following):
        check_silent(FutureLeak, Network(following=following).trace)

    def test_attention_over_another_sequence(self):
        check_silent(FutureLeak, Network(values="picture").trace)

    def test_attention_over_another_number_of_places(self):
        check_silent(FutureLeak, Network(places=17).trace)

    def test_attention_that_feeds_another_loss(self):
        check_silent(FutureLeak, Network(reaches=False).trace)

    def test_an_embedding_that_an_encoder_uses_too(self):
        network = Network()
        network.b.scalar(network.embedding, "calls", 2, range(5))
        check_silent(FutureLeak, network.trace)

    def test_a_prefix_that_is_not_predicted(self):
        check_silent(FutureLeak, Network(ahead=0.6, counted=0.4).trace)

    def test_a_prefix_whose_last_place_is_predicted(self):
        check_silent(FutureLeak, Network(ahead=0.6, counted=0.49).trace)

    def test_one_odd_step(self):
        network = Network(ahead=0.0)
        network.b.scalar(network.attention, "looks_ahead", 1.0, [3])
        check_silent(FutureLeak, network.trace)


class TestFires:
    def test_no_mask(self):
        network = Network()
        finding = check_fires(
            FutureLeak,
            network.trace,
            at=network.attention,
            severity=Severity.ERROR,
            message="cross_entropy wants the next symbol of the input (100 % of the targets), and in 100 % of its rows "
            "attention (scaled_dot_product_attention) looks at later places, where it stands (48 % of the weight)",
        )
        assert (finding.measured, finding.steps) == (1.0, (0, 4))

    def test_padding_that_is_not_predicted(self):
        network = Network(ahead=0.7, counted=0.7)
        check_fires(FutureLeak, network.trace, at=network.attention)

    def test_values_straight_from_the_embedding(self):
        network = Network()
        for step in range(5):
            network.trace.add_vector(step, network.attention.index, "values_from", [network.embedding.index])
        check_fires(FutureLeak, network.trace, at=network.attention)

    def test_a_few_targets_that_are_not_the_next_symbol(self):
        network = Network(following=0.91)
        check_fires(FutureLeak, network.trace, at=network.attention)


@pytest.mark.parametrize(("following", "fires"), [(0.9, False), (0.901, True)])
def test_near_the_share_of_next_symbols(following, fires):
    network = Network(following=following)
    check_fires(FutureLeak, network.trace, at=network.attention) if fires else check_silent(FutureLeak, network.trace)


@pytest.mark.parametrize(("counted", "fires"), [(0.499, False), (0.501, True)])
def test_near_the_overlap_of_places_that_are_predicted_and_look_ahead(counted, fires):
    network = Network(ahead=0.6, counted=counted)
    check_fires(FutureLeak, network.trace, at=network.attention) if fires else check_silent(FutureLeak, network.trace)


class TestLacks:
    def test_symbols(self):
        b = TraceBuilder()
        b.loss(baseline=1.0)
        check_lacks(FutureLeak, b.trace, "targets of a classification beside symbols given to an embedding")

    def test_attention(self):
        b = TraceBuilder()
        b.scalar(b.loss(baseline=1.0), "target_is_next_input", 1.0)
        check_lacks(FutureLeak, b.trace, "attention among the places of a sequence")
