import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.restore_train_mode import RestoreTrainMode

LOOP = """
def train(model):
    for x, y in batches:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        print(evaluate(model))

model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
train(model)
"""
NOT_SEEN = "no `.eval()` without a `.train()` after it is seen in the loop that trains"


def with_loop(text):
    return text.rstrip(" ") + LOOP


@pytest.mark.parametrize(
    ("text", "mark", "reason"),
    [
        ("model.eval()\n", "model", "no backward call is seen in this file, so not where training goes on"),
        (LOOP + "model.eval()\n", "F.mse_loss", NOT_SEEN),
        (with_loop("\ndef evaluate(m):\n    m.eval()\n    print(m(x))\n    m.train()\n"), "F.mse_loss", NOT_SEEN),
        (
            with_loop("\ndef evaluate(m):\n    teacher.eval()\n    m.eval()\n    return m(x)\n"),
            "F.mse_loss",
            "both teacher and m are put into eval mode in one place",
        ),
        (
            with_loop("\ndef evaluate(m):\n    m.eval()\n    for x in held_out:\n        yield m(x)\n"),
            "F.mse_loss",
            "evaluate is a generator: when it ends is up to its caller",
        ),
        (
            with_loop("\ndef evaluate(m):\n    m.eval()\n    if not held_out: return 0\n    return m(x)\n"),
            "F.mse_loss",
            "line 8 leaves the evaluation beside another statement",
        ),
        (
            """
            for x in batches:
                loss_of(model, x).backward()
                model.eval()
            """,
            "backward",
            "where the evaluation ends that begins at line 8 cannot be seen",
        ),
    ],
)
def test_refused(text, mark, reason):
    assert refused(RestoreTrainMode, text, mark) == reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            """
def evaluate(m):
    m.eval()
    # without gradients
    with torch.no_grad():
        # the mean
        return F.mse_loss(m(x), y).item()  # a number
""",
            """
def evaluate(m):
    m.eval()
    # without gradients
    with torch.no_grad():
        # the mean
        result = F.mse_loss(m(x), y).item()  # a number
    m.train()
    return result
""",
        ),
        (
            """
@torch.no_grad()
def evaluate(m):
    m.eval()
    losses = [F.mse_loss(m(x), y).item() for x, y in held_out]
    return sum(losses) / len(losses)
""",
            """
@torch.no_grad()
def evaluate(m):
    m.eval()
    losses = [F.mse_loss(m(x), y).item() for x, y in held_out]
    m.train()
    return sum(losses) / len(losses)
""",
        ),
        (
            """
def evaluate(m):
    m.eval()
    if not held_out:
        return None
    result = 0
    with torch.no_grad(), lock:
        for x in held_out:
            if m(x).isnan():
                return m(x), result
            result += 1
    log(result)
""",
            """
def evaluate(m):
    m.eval()
    if not held_out:
        m.train()
        return None
    result = 0
    with torch.no_grad(), lock:
        for x in held_out:
            if m(x).isnan():
                value = m(x), result
                m.train()
                return value
            result += 1
    log(result)
    m.train()
""",
        ),
        (
            """
def evaluate(m):
    m.eval()
    if quick:
        return m(x)
    else:
        return m(y)
""",
            """
def evaluate(m):
    m.eval()
    if quick:
        result = m(x)
        m.train()
        return result
    else:
        result = m(y)
        m.train()
        return result
""",
        ),
        (
            """
def evaluate(m):
    m.train(False)
    with torch.no_grad():
        correct = m(x).argmax(1) == y
        # a share
        return correct.float().mean().item()
""",
            """
def evaluate(m):
    m.train(False)
    with torch.no_grad():
        correct = m(x).argmax(1) == y
    m.train()
    # a share
    return correct.float().mean().item()
""",
        ),
    ],
)
def test_a_function_that_the_training_loop_calls(before, after):
    check(RestoreTrainMode, with_loop(before), "F.mse_loss(model(x)", with_loop(after))


def test_an_evaluation_in_the_loop_itself():
    check(
        RestoreTrainMode,
        """
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
        for epoch in range(9):
            for x, y in batches:
                F.mse_loss(net(x), y).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                test = F.mse_loss(net(x_test), y_test)
            print(test)
        net.eval()
        """,
        "backward",
        """
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
        for epoch in range(9):
            for x, y in batches:
                F.mse_loss(net(x), y).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                test = F.mse_loss(net(x_test), y_test)
            net.train()
            print(test)
        net.eval()
        """,
    )


def test_an_evaluation_before_training_in_a_while_loop():
    check(
        RestoreTrainMode,
        """
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
        while step < 9:
            net.eval()
            for x in held_out:
                print(net(x))

            loss = net(next(batches)).mean()
            loss.backward()
        """,
        "loss.backward",
        """
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
        while step < 9:
            net.eval()
            for x in held_out:
                print(net(x))
            net.train()

            loss = net(next(batches)).mean()
            loss.backward()
        """,
    )


def test_methods_whose_fit_sets_train_mode_only_once():
    check(
        RestoreTrainMode,
        """
        class Trainer:
            def evaluate(self):
                '''Return the loss.'''
                self.model.eval()
                return self.loss(self.test)

            def fit(self):
                self.model.train()
                for x in self.batches:
                    self.loss(x).backward()
                    self.optimizer.step()
                    print(self.evaluate())
        """,
        "backward",
        """
        class Trainer:
            def evaluate(self):
                '''Return the loss.'''
                self.model.eval()
                result = self.loss(self.test)
                self.model.train()
                return result

            def fit(self):
                self.model.train()
                for x in self.batches:
                    self.loss(x).backward()
                    self.optimizer.step()
                    print(self.evaluate())
        """,
    )
