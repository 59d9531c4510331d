import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.move_zero_grad import MoveZeroGrad

NOT_SEEN = "no statement that clears gradients is seen between backward and the update"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            """
            for x in batches:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            """,
            NOT_SEEN,
        ),
        (
            """
            for x in batches:
                d_loss.backward()
                g_optimizer.zero_grad()
                optimizer.step()
                g_optimizer.step()
            """,
            NOT_SEEN,
        ),
        (
            """
            for x in batches:
                loss.backward()
                if always:
                    optimizer.zero_grad()
                optimizer.step()
            """,
            "line 9 is all that its block holds",
        ),
        (
            """
            for x in batches:
                loss.backward()
                if always:
                    optimizer.zero_grad()
                    print(x)
                optimizer.step()
            """,
            "the clearing at line 9 stands in a block that has no update in it",
        ),
        (
            """
            for x in batches:
                loss.backward(); optimizer.zero_grad()
                optimizer.step()
            """,
            NOT_SEEN,
        ),
        (
            """
            for x in batches:
                loss.backward()
                optimizer.zero_grad(); print(x)
                optimizer.step()
            """,
            "line 8 holds more than one statement",
        ),
    ],
)
def test_refused(text, reason):
    assert refused(MoveZeroGrad, text, "    optimizer.step") == reason


def test_a_loop_in_the_file_with_comments():
    check(
        MoveZeroGrad,
        """
        for x in batches:
            loss = loss_of(x)
            loss.backward()  # gradients

            # tidy up
            optimizer.zero_grad(set_to_none=True)  # memory
            optimizer.step()
        """,
        "optimizer.step",
        """
        for x in batches:
            loss = loss_of(x)
            # tidy up
            optimizer.zero_grad(set_to_none=True)  # memory
            loss.backward()  # gradients
            optimizer.step()
        """,
    )


def test_a_method_that_clears_the_model_before_clipping():
    check(
        MoveZeroGrad,
        """
        class Trainer:
            def step(self, x):
                self.accelerator.backward(self.loss(x))
                self.model.zero_grad()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
        """,
        "optimizer.step",
        """
        class Trainer:
            def step(self, x):
                self.model.zero_grad()
                self.accelerator.backward(self.loss(x))
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
        """,
    )


def test_what_is_accumulated_stays_until_after_the_update():
    check(
        MoveZeroGrad,
        """
        while step < 9:
            loss_of(next(batches)).backward()
            optimizer.zero_grad()
            if step % 2:
                scaler.step(optimizer)
                scaler.update()
            step += 1
        """,
        "scaler.step",
        """
        while step < 9:
            loss_of(next(batches)).backward()
            if step % 2:
                scaler.step(optimizer)
                optimizer.zero_grad()
                scaler.update()
            step += 1
        """,
    )


def test_two_losses_of_one_update():
    check(
        MoveZeroGrad,
        """
        for x in batches:
            first(x).backward()
            second(x).backward()
            optimizer.zero_grad()
            optimizer.step()
        """,
        "optimizer.step",
        """
        for x in batches:
            first(x).backward()
            second(x).backward()
            optimizer.step()
            optimizer.zero_grad()
        """,
    )


def test_a_clearing_between_two_losses_stays():
    check(
        MoveZeroGrad,
        """
        for x in batches:
            first(x).backward()
            opt.zero_grad()
            second(x).backward()
            opt.zero_grad()
            optimizer.step()
        """.replace("optimizer", "opt"),
        "opt.step",
        """
        for x in batches:
            first(x).backward()
            opt.zero_grad()
            second(x).backward()
            opt.step()
            opt.zero_grad()
        """,
    )


def test_a_loop_that_sets_gradients_to_none():
    check(
        MoveZeroGrad,
        """
        def train(model, optimizer):
            for x in batches:
                loss_of(model, x).backward()
                for p in model.parameters():
                    if p.grad is not None:
                        p.grad.zero_()
                with lock:
                    optimizer.step()
        """,
        "optimizer.step",
        """
        def train(model, optimizer):
            for x in batches:
                for p in model.parameters():
                    if p.grad is not None:
                        p.grad.zero_()
                loss_of(model, x).backward()
                with lock:
                    optimizer.step()
        """,
    )


def test_a_function_of_its_own_for_the_update():
    check(
        MoveZeroGrad,
        """
        def update():
            optimizer.zero_grad()
            optimizer.step()

        def learn(x):
            loss_of(x).backward()

        for x in batches:
            learn(x)
            update()
        """,
        "optimizer.step",
        """
        def update():
            optimizer.step()
            optimizer.zero_grad()

        def learn(x):
            loss_of(x).backward()

        for x in batches:
            learn(x)
            update()
        """,
    )


def test_backward_that_clears_in_a_method_of_its_own():
    check(
        MoveZeroGrad,
        """
        class Trainer:
            def learn(self, loss):
                loss.backward()
                self.optimizer.zero_grad()

            def fit(self):
                for x in self.batches:
                    self.learn(self.loss(x))
                    self.optimizer.step()
        """,
        "optimizer.step",
        """
        class Trainer:
            def learn(self, loss):
                self.optimizer.zero_grad()
                loss.backward()

            def fit(self):
                for x in self.batches:
                    self.learn(self.loss(x))
                    self.optimizer.step()
        """,
    )
