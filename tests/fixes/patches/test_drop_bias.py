import pytest
from loss_lines import check_patched, check_refused, found, line_of, place, text_of

from unstuck.fixes.patches.drop_bias import DropBias

NET = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.bn = nn.BatchNorm2d(8)

        def forward(self, x):
            return F.relu(self.bn(self.conv(x)))  # both
"""
HAND = """
    w1 = torch.randn(16, 8) / 8**0.5
    b1 = torch.zeros(16)
    w2 = torch.randn(4, 16) / 4
    b2 = torch.zeros(4)
    parameters = [w1, b1, w2, b2]

    def network(x):
        h = F.linear(x, w1, b1)  # both
        h = F.relu(F.batch_norm(h, mean, var, training=True))
        return F.linear(h, w2, b2)
"""


def text_and_finding(body, site="conv (conv2d)", norm="bn (batch_norm)", function="Net.forward"):
    text = text_of(body)
    return text, found("N001", place(text, site, "# both", function), place(text, norm, "# both"))


def check(body, *changes, site="conv (conv2d)"):
    text, at = text_and_finding(body, site)
    check_patched(DropBias, text, at, *changes)


def refuse(body, reason, site="conv (conv2d)"):
    """`LINE` in the reason stands for the line marked with `# here`."""
    text, at = text_and_finding(body, site)
    check_refused(DropBias, text, at, reason.replace("LINE", str("# here" in text and line_of(text, "# here"))))


class TestRefused:
    def test_weights_that_are_loaded(self):
        refuse(NET + "    Net().load_state_dict(state)  # here\n", "line LINE loads weights, which may hold the bias")

    @pytest.mark.parametrize(
        "use",
        [
            "nn.init.zeros_(self.conv.bias)  # here",
            "for m in self.modules(): nn.init.zeros_(m.bias)  # here",
            "self.conv.bias.data.zero_()  # here",
        ],
    )
    def test_a_bias_that_the_file_uses(self, use):
        refuse(NET.replace("self.bn = ", use + "\n            self.bn = "), "line LINE uses a bias, perhaps this one")

    def test_arguments_that_are_passed_on(self):
        body = NET.replace("padding=1)", "**options)  # here")
        refuse(body, "line LINE passes arguments on, among which may be the bias")

    def test_a_layer_that_is_not_made_in_the_file(self):
        body = NET.replace("nn.Conv2d", "Convolution")
        refuse(body, "no nn.Conv2d that conv (conv2d) could be is made in this file")

    def test_a_list_of_layers_made_in_one_place(self):
        body = NET.replace("self.conv = nn.Conv2d(3, 8, 3, padding=1)", "self.convs = [nn.Conv2d(3, 8, 3) for _ in x]")
        refuse(body, "no nn.Conv2d that convs.1 (conv2d) could be is made in this file", "convs.1 (conv2d)")

    def test_two_layers_that_it_could_be(self):
        first = "a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))\n"
        body = first + first.replace("a =", "b =") + "y = b(a(x))  # both\n"
        refuse(body, "0 (conv2d) may be any of those made at lines 5, 6", "0 (conv2d)")

    def test_a_tensor_that_is_used_elsewhere(self):
        body = HAND + "    print(b1)  # here\n"
        refuse(body, "line LINE uses b1 too", "w1 (linear)")

    @pytest.mark.parametrize("use", ["w1, b1, w2, b2 = parameters", "print(parameters[2])"])
    def test_a_list_that_is_taken_apart(self, use):
        body = HAND.replace("w2, b2]", "w2, b2]  # here") + f"    {use}\n"
        refuse(body, "line LINE uses b1 too", "w1 (linear)")

    def test_a_tensor_made_with_others(self):
        body = HAND.replace("    b1 = torch.zeros(16)\n", "    b1, b3 = biases  # here\n")
        refuse(body, "where the bias b1 is made is not clear", "w1 (linear)")

    def test_a_tensor_whose_line_has_a_comment(self):
        body = HAND.replace("b1 = torch.zeros(16)", "b1 = torch.zeros(16)  # here")
        refuse(body, "line LINE, which makes b1, says more than that", "w1 (linear)")

    def test_a_bias_that_is_not_a_name(self):
        body = HAND.replace("x, w1, b1)", "x, w1, biases[0])")
        refuse(body, "where the bias of this layer is made is not clear", "w1 (linear)")


class TestModules:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("nn.Conv2d(3, 8, 3, padding=1)", "nn.Conv2d(3, 8, 3, padding=1, bias=False)"),
            ("nn.Conv2d(3, 8, 3, bias=True)", "nn.Conv2d(3, 8, 3, bias=False)"),
            ("nn.Conv2d(3, 8, 3, 1, 1, 1, 1, True)", "nn.Conv2d(3, 8, 3, 1, 1, 1, 1, False)"),
            ("nn.Linear(3, 8)", "nn.Linear(3, 8, bias=False)"),
            ("nn.Linear(3, 8, True)", "nn.Linear(3, 8, False)"),
        ],
    )
    def test_an_attribute(self, old, new):
        op = old.partition("(")[0].removeprefix("nn.").lower()
        text, at = text_and_finding(NET.replace("nn.Conv2d(3, 8, 3, padding=1)", old), f"conv ({op})")
        check_patched(DropBias, text, at, (old, new))

    def test_over_several_lines(self):
        old = "nn.Conv1d(\n                3,\n                8,  # out\n                5,  # wide\n            )"
        text, at = text_and_finding(NET.replace("nn.Conv2d(3, 8, 3, padding=1)", old), "conv (conv1d)")
        check_patched(DropBias, text, at, ("5,  # wide\n", "5,  # wide\n            bias=False,\n"))

    def test_the_class_decides_among_attributes_of_one_name(self):
        other = (
            "\n    class Other(nn.Module):\n        def __init__(self):\n            self.conv = nn.Conv2d(1, 1, 1)\n"
        )
        check(NET + other, ("3, padding=1", "3, padding=1, bias=False"))

    def test_a_sequential(self):
        body = "model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))\n"
        check(body + "y = model(x)  # both\n", ("nn.Linear(8, 16)", "nn.Linear(8, 16, bias=False)"), site="0 (linear)")

    @pytest.mark.parametrize(
        "use",
        [
            "nn.init.ones_(self.bn.bias)",
            "if self.conv.bias is not None: nn.init.zeros_(self.conv.bias)",
            "print(self.conv.weight)",
        ],
    )
    def test_uses_that_stay_right(self, use):
        body = NET + f"\n        def reset(self):\n            {use}\n"
        check(body, ("3, padding=1", "3, padding=1, bias=False"))


class TestTensorsHeldByHand:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.linear(x, w1, b1)", "F.linear(x, w1)"),
            ("F.linear(x, w1, bias=b1)", "F.linear(x, w1)"),
            ("F.conv1d(x, w1, b1, 2)", "F.conv1d(x, w1, None, 2)"),
            ("F.conv1d(x, w1, b1, stride=2)", "F.conv1d(x, w1, stride=2)"),
            ("x @ w1 + b1", "x @ w1"),
            ("(x @ w1 + b1).float()", "(x @ w1).float()"),
        ],
    )
    def test_the_line_the_list_and_the_tensor(self, old, new):
        body = HAND.replace("F.linear(x, w1, b1)", old)
        check(
            body, (old, new), ("b1 = torch.zeros(16)\n", ""), ("[w1, b1, w2, b2]", "[w1, w2, b2]"), site="w1 (linear)"
        )

    def test_the_last_of_a_list(self):
        body = HAND.replace("[w1, b1, w2, b2]", "(w1, w2, b2, b1)")
        changes = ("F.linear(x, w1, b1)", "F.linear(x, w1)"), ("b1 = torch.zeros(16)\n", ""), ("b2, b1)", "b2)")
        check(body, *changes, site="w1 (linear)")

    def test_a_list_that_is_gone_through_in_place(self):
        body = HAND.replace("parameters = [w1, b1, w2, b2]", "for p in (w1, b1, w2, b2): p.requires_grad_()")
        changes = ("F.linear(x, w1, b1)", "F.linear(x, w1)"), ("b1 = torch.zeros(16)\n", ""), ("(w1, b1, w2", "(w1, w2")
        check(body, *changes, site="w1 (linear)")
