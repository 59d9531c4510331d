import pytest
from loss_lines import check_patched, check_refused, found, line_of, place, text_of

from unstuck.fixes.patches.insert_activation import InsertActivation

FEED = """
    class Feed(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

        def forward(self, x):
            return self.down(self.up(x))  # both
"""
STACK = """
    model = nn.Sequential(
        nn.Linear(8, 32),  # first
        nn.Linear(32, 32),
        nn.LeakyReLU(0.1),
        nn.Linear(32, 1),
    )
    loss = F.mse_loss(model(x), y)  # both
"""
LOOP = """
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
            self.head = nn.Linear(8, 1)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)  # both
            return self.head(x)
"""


def text_and_finding(body, first="up (linear)", second="down (linear)", mark="# both", after=None):
    text = text_of(body)
    return text, found("A004", place(text, first, mark, "Net.forward"), place(text, second, after or mark))


def stack(body=STACK, first="0 (linear)", second="1 (linear)"):
    return text_and_finding(body, first, second)


class TestRefused:
    def test_a_finding_that_does_not_say_what_follows(self):
        text = text_of(FEED)
        alone = found("A004", place(text, "up (linear)", "# both"))
        check_refused(InsertActivation, text, alone, "the finding does not say which layer follows")

    def test_a_layer_that_is_not_made_out(self):
        text, at = text_and_finding(FEED.replace("self.up(x)", "self.parts['up'](x)"))
        reason = f"the call of up (linear) cannot be made out at line {at.location.line}"
        check_refused(InsertActivation, text, at, reason)

    def test_a_layer_that_is_called_twice_on_its_line(self):
        text, at = text_and_finding(FEED.replace("self.up(x)", "self.up(self.up(x))"))
        reason = f"the call of up (linear) cannot be made out at line {at.location.line}"
        check_refused(InsertActivation, text, at, reason)

    def test_a_loop_that_ends_in_the_output(self):
        text, at = text_and_finding(LOOP.replace("self.head(x)", "x"), "layers.0 (linear)", "layers.1 (linear)")
        reason = f"the loop at line {line_of(text, 'for layer in')} runs the output layer too"
        check_refused(InsertActivation, text, at, reason)

    @pytest.mark.parametrize("use", ["print(model[4].weight)", "head = model[2:]", "model.load_state_dict(state)"])
    def test_modules_taken_by_number(self, use):
        text, at = stack()
        text += use + "\n"
        reason = f"line {line_of(text, use)} counts on the numbers of the modules behind this layer"
        check_refused(InsertActivation, text, at, reason)

    def test_a_file_without_a_name_for_the_function(self):
        text, at = text_and_finding(FEED)
        text = text.partition("class")
        bare = "from torch.nn import Module, Linear\n\n\n\n\n" + "".join(text[1:]).replace("nn.", "")
        check_refused(InsertActivation, bare, at, "the file imports nothing to call torch.nn.functional.relu by")


class TestForward:
    def test_nothing_else_in_the_network(self):
        text, at = text_and_finding(FEED)
        check_patched(InsertActivation, text, at, ("self.up(x)", "F.relu(self.up(x))"))

    @pytest.mark.parametrize(
        ("elsewhere", "function"),
        [
            ("F.gelu(x)", "F.gelu({})"),
            ("torch.tanh(x)", "torch.tanh({})"),
            ("F.leaky_relu(x, 0.1)", "F.leaky_relu({}, 0.1)"),
            ("F.gelu(x, approximate='tanh') + F.gelu(x) + F.relu(x)", "F.gelu({}, approximate='tanh')"),
            ("nn.SiLU()(x)", "F.silu({})"),
        ],
    )
    def test_the_function_that_the_network_uses(self, elsewhere, function):
        other = f"\n    class Other(nn.Module):\n        def forward(self, x):\n            return {elsewhere}\n"
        text, at = text_and_finding(FEED + other)
        check_patched(InsertActivation, text, at, ("self.up(x)", function.format("self.up(x)")))

    def test_functions_that_make_the_data_do_not_count(self):
        text, at = text_and_finding("    y = torch.tanh(x) + torch.tanh(z)\n" + FEED)
        check_patched(InsertActivation, text, at, ("self.up(x)", "F.relu(self.up(x))"))

    def test_on_a_line_of_its_own(self):
        body = FEED.replace("return self.down(self.up(x))", "h = self.up(x)").replace(
            "# both", "# both\n            return self.down(h)"
        )
        text, at = text_and_finding(body)
        check_patched(InsertActivation, text, at, ("self.up(x)", "F.relu(self.up(x))"))

    def test_a_loop(self):
        text, at = text_and_finding(LOOP, "layers.0 (linear)", "layers.1 (linear)")
        check_patched(InsertActivation, text, at, ("layer(x)  # both", "F.relu(layer(x))  # both"))

    def test_a_layer_of_a_list(self):
        body = LOOP.replace(
            "for layer in self.layers:\n                x = layer(x)", "x = self.layers[1](self.layers[0](x))"
        )
        text, at = text_and_finding(body, "net.layers.0 (linear)", "net.layers.1 (linear)")
        check_patched(InsertActivation, text, at, ("self.layers[0](x)", "F.relu(self.layers[0](x))"))

    def test_two_parts_each_a_sequential(self):
        body = "    first, second = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 1))\n" + FEED
        text, at = text_and_finding(body, "up.0 (linear)", "down.0 (linear)")
        check_patched(InsertActivation, text, at, ("self.up(x)", "F.relu(self.up(x))"))

    def test_layers_that_no_module_holds(self):
        body = "one, two = 1, 2\nfirst = nn.Linear(8, 8)\nsecond = nn.Linear(8, 1)\ny = second(first(x))  # both\n"
        text, at = text_and_finding(body, "linear", "linear #2")
        check_patched(InsertActivation, text, at, ("second(first(x))", "second(F.relu(first(x)))"))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("x @ w1 + b1", "F.relu(x @ w1 + b1)"),
            ("x @ w1", "F.relu(x @ w1)"),
            ("F.linear(x, w1, b1)", "F.relu(F.linear(x, w1, b1))"),
            ("(x @ w1 + b1) @ w2", "F.relu(x @ w1 + b1) @ w2"),
        ],
    )
    def test_tensors_held_by_hand(self, old, new):
        text, at = text_and_finding(f"h = {old}  # both\n", "w1 (linear)", "w2 (linear)")
        check_patched(InsertActivation, text, at, (old, new))

    @pytest.mark.parametrize(
        ("imports", "function"),
        [
            ("import torch", "torch.relu"),
            ("import torch as t", "t.relu"),
            ("from torch import nn", "nn.functional.relu"),
            ("from torch.nn import functional as fn", "fn.relu"),
            ("from torch.nn.functional import relu", "relu"),
            ("import torch.nn", "torch.relu"),
        ],
    )
    def test_by_the_names_that_the_file_imports(self, imports, function):
        text = f"{imports}\n\n\nclass Feed(Base):\n    def forward(self, x):\n        h = self.up(x)  # both\n"
        at = found("A004", place(text, "up (linear)", "# both"), place(text, "down (linear)", "# both"))
        check_patched(InsertActivation, text, at, ("self.up(x)", f"{function}(self.up(x))"))


class TestSequential:
    def test_the_module_that_stands_elsewhere_with_its_arguments(self):
        text, at = stack()
        changes = ("nn.Linear(8, 32),  # first\n", "nn.Linear(8, 32),  # first\n    nn.LeakyReLU(0.1),\n")
        check_patched(InsertActivation, text, at, changes)

    def test_on_one_line(self):
        text, at = stack("model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 1))\ny = model(x)  # both\n")
        check_patched(InsertActivation, text, at, ("nn.Linear(8, 32), ", "nn.Linear(8, 32), nn.ReLU(), "))

    def test_one_of_two_sequentials(self):
        body = """
            class Net(nn.Module):
                def __init__(self):
                    self.body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
                    self.tail = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))

                def forward(self, x):
                    return self.tail(self.body(x))  # both
        """
        text, at = stack(body, "tail.0 (linear)", "tail.1 (linear)")
        changes = ("tail = nn.Sequential(nn.Linear(8, 8), ", "tail = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), ")
        check_patched(InsertActivation, text, at, changes)

    def test_convolutions(self):
        body = "net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.GELU())\ny = net(x)  # both\n"
        text, at = stack(body, "0 (conv2d)", "1 (conv2d)")
        check_patched(InsertActivation, text, at, ("nn.Conv2d(3, 8, 3), ", "nn.Conv2d(3, 8, 3), nn.GELU(), "))

    def test_a_class_imported_by_itself(self):
        body = "from torch.nn import Linear, ReLU, Sequential\nm = Sequential(Linear(8, 8), Linear(8, 1))\n"
        text, at = stack(body + "y = m(x)  # both\n")
        check_patched(InsertActivation, text, at, ("Linear(8, 8), Linear", "Linear(8, 8), ReLU(), Linear"))
