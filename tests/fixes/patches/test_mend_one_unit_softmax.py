import dataclasses

import pytest
from loss_lines import check_patched, check_refused, found, place, text_of

from unstuck.fixes.patches.mend_one_unit_softmax import MendOneUnitSoftmax

ATTENTION = """
    class Pool(nn.Module):
        def forward(self, h):
            weights = torch.softmax(self.score(h), dim=-1)  # made
            return (weights * h).sum(dim=1)
"""
STACK = """
    model = nn.Sequential(
        nn.Linear(8, 1),
        nn.Softmax(dim=1),  # made
    )
    loss = F.binary_cross_entropy(model(x).squeeze(1), y)
"""


def text_and_finding(body, site="softmax", mark="# made", loss=None, **evidence):
    text = text_of(body)
    losses = [place(text, loss, "loss = ")] if loss else []
    return text, found("L006", place(text, site, mark), *losses, evidence=evidence)


def attention(body=ATTENTION, axis=1.0):
    text, at = text_and_finding(body)
    return text, dataclasses.replace(
        at, evidence=found("", place(text, "", "# made"), evidence={"larger dimension": axis}).evidence
    )


class TestRefused:
    def test_several_dimensions_to_choose_from(self):
        text, at = attention()
        at = dataclasses.replace(at, evidence=(*at.evidence, dataclasses.replace(at.evidence[0], value=2.0)))
        reason = (
            "which dimension the softmax should go over is not known: dimensions [1, 2] all have more than one entry"
        )
        check_refused(MendOneUnitSoftmax, text, at, reason)

    def test_no_dimension_to_choose(self):
        text, at = text_and_finding(ATTENTION)
        reason = "no dimension but the batch's has more than one entry"
        check_refused(
            MendOneUnitSoftmax, text, at, f"which dimension the softmax should go over is not known: {reason}"
        )

    @pytest.mark.parametrize("loss", ["mse_loss", "cross_entropy", "binary_cross_entropy_with_logits"])
    def test_other_losses(self, loss):
        text, at = text_and_finding(STACK, "1 (softmax)", loss=loss)
        reason = f"what {loss} expects of one unit is not known: a sigmoid, or more units"
        check_refused(MendOneUnitSoftmax, text, at, reason)

    def test_a_log_softmax(self):
        text, at = text_and_finding(ATTENTION, "head (log_softmax)")
        reason = "head (log_softmax) over one class: how many outputs the last layer should have is not known"
        check_refused(MendOneUnitSoftmax, text, at, reason)

    def test_two_on_one_line(self):
        body = ATTENTION.replace("self.score(h)", "h.softmax(1)")
        text, at = attention(body)
        check_refused(MendOneUnitSoftmax, text, at, f"line {at.location.line} has 2 calls of softmax")

    def test_one_that_is_not_in_the_file(self):
        text, at = attention(ATTENTION.replace("torch.softmax", "mine"))
        check_refused(MendOneUnitSoftmax, text, at, "no nn.Softmax that softmax could be is made in this file")


class TestSigmoid:
    def test_the_last_module(self):
        text, at = text_and_finding(STACK, "1 (softmax)", "loss = ", loss="binary_cross_entropy")
        check_patched(MendOneUnitSoftmax, text, at, ("nn.Softmax(dim=1)", "nn.Sigmoid()"))

    def test_a_module_imported_by_itself(self):
        body = "from torch.nn import Softmax\n" + "soft = Softmax(-1)\nloss = F.binary_cross_entropy(soft(z), y)\n"
        text, at = text_and_finding(body, "softmax", "loss = ", loss="binary_cross_entropy")
        changes = ("import Softmax", "import Sigmoid"), ("Softmax(-1)", "Sigmoid()")
        check_patched(MendOneUnitSoftmax, text, at, *changes)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.softmax(model(x), dim=1)", "F.sigmoid(model(x))"),
            ("torch.softmax(model(x), -1)[:, 0]", "torch.sigmoid(model(x))[:, 0]"),
            ("torch.softmax(input=model(x), dim=1)", "torch.sigmoid(input=model(x))"),
            ("model(x).softmax(dim=1)", "model(x).sigmoid()"),
            ("model(x).softmax(1).squeeze(1)", "model(x).sigmoid().squeeze(1)"),
        ],
    )
    def test_a_call(self, old, new):
        body = f"loss = F.binary_cross_entropy({old}, y)  # mean\n"
        text, at = text_and_finding(body, "softmax", "loss = ", loss="binary_cross_entropy")
        check_patched(MendOneUnitSoftmax, text, at, (old, new))


class TestTheOtherDimension:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("torch.softmax(self.score(h), dim=-1)", "torch.softmax(self.score(h), dim=1)"),
            ("F.softmax(self.score(h), 2)", "F.softmax(self.score(h), 1)"),
            ("F.softmax(dim=2, input=self.score(h))", "F.softmax(dim=1, input=self.score(h))"),
            ("self.score(h).softmax(-1)", "self.score(h).softmax(1)"),
            ("F.softmax(self.score(h))", "F.softmax(self.score(h), dim=1)"),
            ("nn.Softmax(-1)(self.score(h))", "nn.Softmax(1)(self.score(h))"),
        ],
    )
    def test_a_call(self, old, new):
        text, at = attention(ATTENTION.replace("torch.softmax(self.score(h), dim=-1)", old))
        check_patched(MendOneUnitSoftmax, text, at, (old, new))

    def test_a_module(self):
        body = ATTENTION.replace("torch.softmax(self.score(h), dim=-1)", "self.soft(self.score(h))")
        body = body.replace(
            "def forward", "def __init__(self):\n            self.soft = nn.Softmax(dim=2)\n\n        def forward"
        )
        text, at = attention(body, axis=3.0)
        check_patched(MendOneUnitSoftmax, text, at, ("nn.Softmax(dim=2)", "nn.Softmax(dim=3)"))
