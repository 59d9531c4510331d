"""Clearing gradients where the update is in another place, or made by hand."""

from loop_lines import check

from unstuck.fixes.patches.insert_zero_grad import InsertZeroGrad


def test_an_update_in_a_method_of_its_own():
    check(
        InsertZeroGrad,
        """
        class Trainer:
            def update(self):
                self.optimizer.step()

            def fit(self):
                for x in self.batches:
                    self.loss(x).backward()
                    self.update()
        """,
        "backward",
        """
        class Trainer:
            def update(self):
                self.optimizer.step()
                self.optimizer.zero_grad()

            def fit(self):
                for x in self.batches:
                    self.loss(x).backward()
                    self.update()
        """,
    )


def test_a_clearing_that_is_not_called_gets_its_parentheses():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            optimizer.zero_grad  # first
            loss_of(x).backward()
            optimizer.step()
        """,
        "backward",
        """
        for x in batches:
            optimizer.zero_grad()  # first
            loss_of(x).backward()
            optimizer.step()
        """,
    )


def test_a_clearing_in_the_loop_outside_is_not_enough():
    check(
        InsertZeroGrad,
        """
        for epoch in range(9):
            optimizer.zero_grad()
            for x in batches:
                loss_of(x).backward()
                optimizer.step()
        """,
        "backward",
        """
        for epoch in range(9):
            optimizer.zero_grad()
            for x in batches:
                optimizer.zero_grad()
                loss_of(x).backward()
                optimizer.step()
        """,
    )


def test_tensors_updated_by_hand_in_a_loop():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            loss_of(x).backward()
            with torch.no_grad():
                for p, m in zip(params, momentum):
                    m.mul_(0.9).add_(p.grad)
                    p.sub_(0.1 * m)
        """,
        "backward",
        """
        for x in batches:
            for p in params:
                p.grad = None
            loss_of(x).backward()
            with torch.no_grad():
                for p, m in zip(params, momentum):
                    m.mul_(0.9).add_(p.grad)
                    p.sub_(0.1 * m)
        """,
    )


def test_tensors_updated_by_hand_one_by_one():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            loss_of(x).backward()
            with torch.no_grad():
                W -= 0.1 * W.grad
                b -= 0.1 * b.grad
        """,
        "backward",
        """
        for x in batches:
            for p in (W, b):
                p.grad = None
            loss_of(x).backward()
            with torch.no_grad():
                W -= 0.1 * W.grad
                b -= 0.1 * b.grad
        """,
    )


def test_a_network_updated_by_hand():
    check(
        InsertZeroGrad,
        """
        def train(model):
            for x in batches:
                loss_of(model, x).backward()
                for p in model.parameters():
                    p.data -= 0.1 * p.grad
        """,
        "backward",
        """
        def train(model):
            for x in batches:
                model.zero_grad()
                loss_of(model, x).backward()
                for p in model.parameters():
                    p.data -= 0.1 * p.grad
        """,
    )


def test_two_optimizers_of_one_backward_call():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            loss_of(x).backward()
            tables.step()
            towers.step()
        """,
        "backward",
        """
        for x in batches:
            tables.zero_grad()
            towers.zero_grad()
            loss_of(x).backward()
            tables.step()
            towers.step()
        """,
    )
