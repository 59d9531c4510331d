import dataclasses

import pytest
from loss_lines import check_patched, check_refused, found, line_of, place, text_of

from unstuck.findings import Place
from unstuck.fixes.patches.drop_sigmoid import DropSigmoid
from unstuck.trace import Location

NET = """
    class Net(nn.Module):
        def forward(self, x):
            return torch.sigmoid(self.head(x))  # made

    model = Net()
    mask = torch.rand(8) < 0.5
    for x, y in batches:
        loss = F.binary_cross_entropy_with_logits(model(x), y)
"""
STACK = """
    model = nn.Sequential(
        nn.Linear(8, 1),
        nn.Sigmoid(),
    )
    criterion = nn.BCEWithLogitsLoss()
    for x, y in batches:
        loss = criterion(model(x).squeeze(1), y)
"""
FUNCTIONAL = ("binary_cross_entropy_with_logits", "binary_cross_entropy")
THRESHOLDS = [
    "print((model(x) > 0.5) == y)",
    "hits = model(x).round() == y",
    "print(torch.round(model(x)))",
    "def accuracy(network, x):\n    return (network(x) > 0.5).float().mean()",
    "print(torch.bernoulli(model(x)))",
]


def text_and_finding(body, site="sigmoid", mark="# made", loss="loss = "):
    text = text_of(body)
    return text, found("L008", place(text, "binary_cross_entropy_with_logits", loss), place(text, site, mark))


def stack(body=STACK):
    return text_and_finding(body, "1 (sigmoid)", "loss = ")


class TestRefused:
    def test_a_finding_that_does_not_say_where(self):
        text, at = text_and_finding(NET)
        bare = dataclasses.replace(at, related=())
        check_refused(DropSigmoid, text, bare, "the finding does not say where the sigmoid stands")

    def test_a_sigmoid_in_another_file(self):
        text, at = text_and_finding(NET)
        elsewhere = dataclasses.replace(at, related=(Place("sigmoid", Location("/home/user/model.py", 12)),))
        check_refused(DropSigmoid, text, elsewhere, "the sigmoid stands in another file")

    def test_a_function_of_ones_own(self):
        text, at = text_and_finding(NET.replace("torch.sigmoid", "squash"))
        check_refused(DropSigmoid, text, at, "no nn.Sigmoid that sigmoid could be is made in this file")

    def test_a_weight_that_the_other_loss_does_not_take(self):
        text, at = stack(STACK.replace("Loss()", "Loss(pos_weight=w)") + "    print(model(x) > 0.5)\n")
        line = line_of(text, "print(")
        reason = "binary_cross_entropy_with_logits is given pos_weight, which binary_cross_entropy does not take"
        check_refused(DropSigmoid, text, at, f"line {line} takes the output for probabilities, and {reason}")

    def test_probabilities_under_autocast(self):
        body = NET.replace("        loss = ", "        with torch.autocast('cuda'):\n            loss = ")
        text, at = text_and_finding(body + "    print(model(x) > 0.5)\n")
        line = line_of(text, "print(")
        reason = f"line {line} wants probabilities, which no loss takes under autocast"
        check_refused(DropSigmoid, text, at, reason)

    def test_another_loss_where_probabilities_are_needed(self):
        text, at = text_and_finding(
            NET.replace(FUNCTIONAL[0], "multilabel_soft_margin_loss") + "    print(model(x) > 0.5)\n"
        )
        lines = line_of(text, "print("), line_of(text, "loss = ")
        reason = (
            "line {} has no call of binary_cross_entropy_with_logits, and no nn.BCEWithLogitsLoss is made in this file"
        )
        reason = f"line {lines[0]} takes the output for probabilities, and {reason.format(lines[1])}"
        check_refused(DropSigmoid, text, at, reason)


class TestDropped:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("torch.sigmoid(self.head(x))", "self.head(x)"),
            ("F.sigmoid(input=self.head(x))", "self.head(x)"),
            ("self.head(x).sigmoid()", "self.head(x)"),
            ("torch.special.expit(self.head(x)).squeeze(1)", "self.head(x).squeeze(1)"),
            ("torch.sigmoid(x @ self.w + self.b)", "x @ self.w + self.b"),
            ("(x @ self.w).sigmoid()[:, 0]", "(x @ self.w)[:, 0]"),
        ],
    )
    def test_what_forward_returns(self, old, new):
        text, at = text_and_finding(NET.replace("torch.sigmoid(self.head(x))", old))
        check_patched(DropSigmoid, text, at, (old, new))

    def test_inside_the_loss(self):
        text, at = text_and_finding(
            "for x, y in batches:\n    loss = F.multilabel_soft_margin_loss(torch.sigmoid(model(x)), y)\n",
            mark="loss = ",
        )
        check_patched(DropSigmoid, text, at, ("torch.sigmoid(model(x))", "model(x)"))

    def test_a_variable(self):
        text, at = text_and_finding("p = torch.sigmoid(z)  # made\nloss = F.binary_cross_entropy_with_logits(p, y)\n")
        check_patched(DropSigmoid, text, at, ("torch.sigmoid(z)", "z"))

    def test_the_last_module(self):
        text, at = stack()
        check_patched(DropSigmoid, text, at, ("    nn.Sigmoid(),\n", ""))

    def test_a_module_counted_from_the_end(self):
        text, at = stack(STACK + "    print(model[-2])\n")
        check_patched(DropSigmoid, text, at, ("nn.Sigmoid()", "nn.Identity()"))

    def test_an_attribute(self):
        body = NET.replace("torch.sigmoid(", "self.squash(").replace(
            "def forward", "def __init__(self):\n            self.squash = nn.Sigmoid()\n\n        def forward"
        )
        text, at = text_and_finding(body, "squash (sigmoid)")
        changes = ("        self.squash = nn.Sigmoid()\n", ""), ("self.squash(self.head(x))", "self.head(x)")
        with pytest.raises(SyntaxError):  # nothing is left in __init__
            compile(text.replace(*changes[0]), "train.py", "exec")
        check_patched(DropSigmoid, text, at, (changes[0][0].strip(), "pass"), changes[1])


class TestProbabilitiesAreNeeded:
    @pytest.mark.parametrize("use", THRESHOLDS)
    def test_the_function(self, use):
        text, at = text_and_finding(NET)
        text += use + "\n"
        check_patched(DropSigmoid, text, at, FUNCTIONAL)

    @pytest.mark.parametrize("use", THRESHOLDS)
    def test_the_module(self, use):
        text, at = stack()
        text += use + "\n"
        check_patched(DropSigmoid, text, at, ("nn.BCEWithLogitsLoss()", "nn.BCELoss()"))

    def test_the_evaluation_too(self):
        text, at = text_and_finding(NET)
        text += "print(F.binary_cross_entropy_with_logits(model(z), t), model(z) > 0.5)\n"
        changes = [(f"F.{FUNCTIONAL[0]}(model({a})", f"F.{FUNCTIONAL[1]}(model({a})") for a in "xz"]
        check_patched(DropSigmoid, text, at, *changes)
