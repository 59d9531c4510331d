import pytest
from loss_lines import check_patched, check_refused, found, line_of, place, text_of

from unstuck.fixes.patches.match_shapes import MatchShapes

FUNCTION = "for x, y in batches:\n    loss = F.mse_loss(model(x), y)  # mean\n    loss.backward()\n"
MODULE = "criterion = nn.HuberLoss()\n" + FUNCTION.replace("F.mse_loss", "criterion")
PREDICTIONS = {"comparisons": 4096.0, "superfluous dimension of the predictions": 1.0}
TARGETS = {"comparisons": 4096.0, "superfluous dimension of the targets": 1.0}


def text_and_finding(body, op="mse_loss", evidence=None):
    text = text_of(body)
    return text, found("L010", place(text, op, "loss = "), evidence=PREDICTIONS if evidence is None else evidence)


class TestRefused:
    def test_shapes_that_differ_in_more(self):
        text, at = text_and_finding(FUNCTION, evidence={"comparisons": 4096.0})
        reason = "no one dimension of size 1 makes the difference between the two shapes"
        check_refused(MatchShapes, text, at, reason)

    def test_a_difference_written_by_hand(self):
        text, at = text_and_finding("loss = (model(x) - y).square().mean()\n", "sub")
        line = line_of(text, "loss = ")
        reason = f"which side of the difference at line {line} are the predictions cannot be told from the file"
        check_refused(MatchShapes, text, at, reason)

    def test_a_loss_that_is_not_made_out(self):
        text, at = text_and_finding(FUNCTION.replace("F.mse_loss", "measure"))
        reason = f"line {line_of(text, 'loss = ')} has no calls of mse_loss that can be made out"
        check_refused(MatchShapes, text, at, reason)

    def test_a_function_of_the_file_that_is_only_called_a_loss(self):
        body = "def my_loss(a, b):\n    return F.mse_loss(a, b)\n" + FUNCTION.replace("F.mse_loss", "my_loss")
        text, at = text_and_finding(body)
        reason = f"line {line_of(text, 'loss = ')} has no calls of mse_loss that can be made out"
        check_refused(MatchShapes, text, at, reason)

    def test_two_losses_on_a_line(self):
        text, at = text_and_finding("loss = F.mse_loss(model(x), y) + F.mse_loss(model(z), y)\n")
        reason = f"line {line_of(text, 'loss = ')} has 2 calls of mse_loss that can be made out"
        check_refused(MatchShapes, text, at, reason)

    def test_arguments_that_are_passed_on(self):
        text, at = text_and_finding("loss = F.mse_loss(*pair)\n")
        reason = f"the arguments of mse_loss at line {line_of(text, 'loss = ')} cannot be made out"
        check_refused(MatchShapes, text, at, reason)

    def test_a_line_behind_the_end(self):
        text, at = text_and_finding(FUNCTION)
        short = "".join(text.splitlines(keepends=True)[:4])
        reason = f"line {at.location.line} has no calls of mse_loss that can be made out"
        check_refused(MatchShapes, short, at, reason)


class TestPredictions:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.mse_loss(model(x), y)", "F.mse_loss(model(x).squeeze(1), y)"),
            ("F.mse_loss(target=y, input=model(x))", "F.mse_loss(target=y, input=model(x).squeeze(1))"),
            ("F.mse_loss(model(x) * scale, y)", "F.mse_loss((model(x) * scale).squeeze(1), y)"),
            ("F.mse_loss((model(x) + 1), y)", "F.mse_loss((model(x) + 1).squeeze(1), y)"),
            ("F.mse_loss(-out, y)", "F.mse_loss((-out).squeeze(1), y)"),
            ("F.mse_loss(out[:, :1], y)", "F.mse_loss(out[:, :1].squeeze(1), y)"),
            ("F.mse_loss(out.unsqueeze(1), y)", "F.mse_loss(out, y)"),
            ("F.mse_loss(out.unsqueeze(-1), y)", "F.mse_loss(out, y)"),
            ("F.mse_loss(out.unsqueeze(0), y)", "F.mse_loss(out.unsqueeze(0).squeeze(1), y)"),
            ("0.5 * nn.functional.mse_loss(out, y).sqrt()", "0.5 * nn.functional.mse_loss(out.squeeze(1), y).sqrt()"),
            ("nn.MSELoss()(out, y)", "nn.MSELoss()(out.squeeze(1), y)"),
        ],
    )
    def test_a_call(self, old, new):
        text, at = text_and_finding(FUNCTION.replace("F.mse_loss(model(x), y)", old))
        check_patched(MatchShapes, text, at, (old, new))

    def test_a_module(self):
        text, at = text_and_finding(MODULE, "huber_loss")
        check_patched(MatchShapes, text, at, ("model(x)", "model(x).squeeze(1)"))

    def test_a_module_of_an_object(self):
        body = "class T:\n    def __init__(self):\n        self.fit = nn.L1Loss()\n    def step(self, x, y):\n"
        text, at = text_and_finding(body + "        loss = self.fit(self.model(x), y)\n", "l1_loss")
        check_patched(MatchShapes, text, at, ("self.model(x)", "self.model(x).squeeze(1)"))

    def test_a_module_that_was_handed_over(self):
        body = "def train(loss_fn):\n    for x, y in batches:\n        loss = loss_fn(model(x), y)\n"
        text, at = text_and_finding(body, "smooth_l1_loss")
        check_patched(MatchShapes, text, at, ("model(x)", "model(x).squeeze(1)"))

    def test_over_several_lines(self):
        body = "loss = F.mse_loss(\n    model(x),  # (64, 1)\n    y,  # (64,)\n)\n"
        text, at = text_and_finding(body)
        check_patched(MatchShapes, text, at, ("model(x),", "model(x).squeeze(1),"))

    def test_a_dimension_further_back(self):
        evidence = {"superfluous dimension of the predictions": 2.0}
        text, at = text_and_finding(FUNCTION, evidence=evidence)
        check_patched(MatchShapes, text, at, ("model(x)", "model(x).squeeze(2)"))


class TestTargets:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.mse_loss(model(x), y)", "F.mse_loss(model(x), y.squeeze(1))"),
            ("F.mse_loss(model(x), y[rows])", "F.mse_loss(model(x), y[rows].squeeze(1))"),
            ("F.mse_loss(model(x), y.unsqueeze(dim=1))", "F.mse_loss(model(x), y)"),
            ("F.mse_loss(model(x), target=y / 2)", "F.mse_loss(model(x), target=(y / 2).squeeze(1))"),
        ],
    )
    def test_a_call(self, old, new):
        text, at = text_and_finding(FUNCTION.replace("F.mse_loss(model(x), y)", old), evidence=TARGETS)
        check_patched(MatchShapes, text, at, (old, new))
