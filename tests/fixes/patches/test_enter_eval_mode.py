import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.enter_eval_mode import EnterEvalMode

NET = """
class Net(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)
"""
LOOP = """
net = Net()
for x, y in batches:
    F.mse_loss(net(x), y).backward()
    optimizer.step()
    print(evaluate(net))
"""
NOT_SEEN = "no evaluation that runs a network without gradients and without `.eval()` is seen in this file"


def program(text):
    return NET + text.rstrip(" ") + LOOP


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (program("\ndef evaluate(m):\n    return F.mse_loss(m(x), y)\n"), NOT_SEEN),
        (program("\n@torch.no_grad()\ndef evaluate(m):\n    m.eval()\n    return F.mse_loss(m(x), y)\n"), NOT_SEEN),
        (program("\n@torch.no_grad()\ndef evaluate(m):\n    return m.sample(9)\n"), NOT_SEEN),
        (program("\n@torch.no_grad()\ndef evaluate(m):\n    return F.mse_loss(x, y)\n"), NOT_SEEN),
        (
            NET + "\n@torch.no_grad()\ndef evaluate(m):\n    return F.mse_loss(m(x), y)\n\nn = Net()\nn.eval()\n"
            "evaluate(n)\n",
            NOT_SEEN,
        ),
        (
            program("\nold = Net()\n@torch.no_grad()\ndef evaluate(m):\n    return F.mse_loss(m(x), old(x))\n"),
            "the evaluation at line 12 runs m and old",
        ),
        (
            program("\n@torch.no_grad()\ndef evaluate(path):\n    m = Net()\n    return F.mse_loss(m(x), y)\n"),
            "m is made in the evaluation at line 11",
        ),
        (
            program("\n@torch.no_grad()\ndef evaluate(m):\n    for x in held_out:\n        yield loss_of(m(x))\n"),
            "evaluate is a generator: when it ends is up to its caller",
        ),
    ],
)
def test_refused(text, reason):
    assert refused(EnterEvalMode, text, "F.dropout") == reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            """
@torch.no_grad()
def evaluate(m):
    \"\"\"Return the loss.\"\"\"
    # of all
    return F.mse_loss(m(x_test), y_test).item()  # a number
""",
            """
@torch.no_grad()
def evaluate(m):
    \"\"\"Return the loss.\"\"\"
    m.eval()
    # of all
    result = F.mse_loss(m(x_test), y_test).item()  # a number
    m.train()
    return result
""",
        ),
        (
            """
def evaluate(m):
    right = 0

    # count them
    with torch.inference_mode():
        for x, y in held_out:
            right += (m(x).argmax(1) == y).sum().item()
    return right / len(held_out)
""",
            """
def evaluate(m):
    right = 0

    m.eval()
    # count them
    with torch.inference_mode():
        for x, y in held_out:
            right += (m(x).argmax(1) == y).sum().item()
    m.train()
    return right / len(held_out)
""",
        ),
        (
            """
def evaluate(m):
    losses = []
    for x, y in held_out:
        if len(x) < 2:
            continue
        with torch.no_grad():
            losses.append(F.mse_loss(m(x), y))
    return sum(losses)
""",
            """
def evaluate(m):
    losses = []
    m.eval()
    for x, y in held_out:
        if len(x) < 2:
            continue
        with torch.no_grad():
            losses.append(F.mse_loss(m(x), y))
    m.train()
    return sum(losses)
""",
        ),
        (
            """
@torch.inference_mode()
def evaluate(m):
    for x, y in held_out:
        print(F.mse_loss(m(x), y))
""",
            """
@torch.inference_mode()
def evaluate(m):
    m.eval()
    for x, y in held_out:
        print(F.mse_loss(m(x), y))
    m.train()
""",
        ),
        (
            """
@torch.no_grad()
def evaluate(m):
    loss = F.mse_loss(m(x), y)
    m.train()
    return loss
""",
            """
@torch.no_grad()
def evaluate(m):
    m.eval()
    loss = F.mse_loss(m(x), y)
    m.train()
    return loss
""",
        ),
    ],
)
def test_a_function_that_the_training_loop_calls(before, after):
    check(EnterEvalMode, program(before), "F.dropout", program(after))


def test_a_block_in_the_loop_that_trains_leaves_its_continue_in_train_mode():
    check(
        EnterEvalMode,
        NET
        + """
net = Net().to("cpu")
for x, y in batches:
    F.mse_loss(net(x), y).backward()
    optimizer.step()
    if step % 100:
        with torch.no_grad():
            if F.mse_loss(net(x_test), y_test) < best:
                continue
            for other in others:
                break
""",
        "F.dropout",
        NET
        + """
net = Net().to("cpu")
for x, y in batches:
    F.mse_loss(net(x), y).backward()
    optimizer.step()
    if step % 100:
        net.eval()
        with torch.no_grad():
            if F.mse_loss(net(x_test), y_test) < best:
                net.train()
                continue
            for other in others:
                break
        net.train()
""",
    )


def test_a_method_whose_model_came_through_the_constructor_and_a_function_that_runs_it():
    check(
        EnterEvalMode,
        NET
        + """
class Trainer:
    def __init__(self, network, data):
        self.network, self.data = network, data

    def loss(self, x, y):
        return F.mse_loss(self.network(x), y)

    @torch.no_grad()
    def test(self):
        return sum(self.loss(x, y) for x, y in self.data)

Trainer(Net(), batches)
""",
        "F.dropout",
        NET
        + """
class Trainer:
    def __init__(self, network, data):
        self.network, self.data = network, data

    def loss(self, x, y):
        return F.mse_loss(self.network(x), y)

    @torch.no_grad()
    def test(self):
        self.network.eval()
        result = sum(self.loss(x, y) for x, y in self.data)
        self.network.train()
        return result

Trainer(Net(), batches)
""",
    )


def test_an_undecorated_function_is_evaluated_in_the_block_that_calls_it():
    check(
        EnterEvalMode,
        NET
        + """
def error(model):
    return (model(x) != y).float().mean()

model = Net()
for x, y in batches:
    F.mse_loss(model(x), y).backward()
    with torch.no_grad():
        print(error(model))
""",
        "F.dropout",
        NET
        + """
def error(model):
    return (model(x) != y).float().mean()

model = Net()
for x, y in batches:
    F.mse_loss(model(x), y).backward()
    model.eval()
    with torch.no_grad():
        print(error(model))
    model.train()
""",
    )


def test_the_evaluation_that_the_finding_stands_in():
    two = """
@torch.no_grad()
def train_loss(m):
    return F.mse_loss(m(x), y)

@torch.no_grad()
def evaluate(m):
    m(x)
    return 0
"""
    check(
        EnterEvalMode,
        program(two),
        "    m(x)",
        program(two.replace("    m(x)\n    return 0", "    m.eval()\n    m(x)\n    m.train()\n    return 0")),
    )


def test_after_the_last_training_the_mode_stays():
    end = """
with torch.no_grad():
    print(F.mse_loss(net(x), y))
"""
    check(EnterEvalMode, program("") + end, "F.dropout", program("") + end.replace("with", "net.eval()\nwith"))


def test_a_network_of_another_file_is_known_by_its_parameters():
    text = """
from models import build

class Run:
    def __init__(self):
        self.net = build()
        self.optimizer = optim.SGD(self.net.parameters(), lr=0.1)

    @torch.no_grad()
    def accuracy(self, x, y):
        self.net(x)
        return (self.net(x).argmax(1) == y).float().mean()
"""
    changed = text.replace("        self.net(x)\n", "        self.net.eval()\n        self.net(x)\n")
    changed = changed.replace("return (self", "result = (self")
    changed += "        self.net.train()\n        return result\n"
    check(EnterEvalMode, text, "        self.net(x)", changed)
