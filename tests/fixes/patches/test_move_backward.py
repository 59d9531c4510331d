import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.move_backward import MoveBackward


@pytest.mark.parametrize(
    ("text", "mark", "reason"),
    [
        ("x = 1\n", "x = 1", "line 5 does not hold the call that the finding speaks of"),
        (
            "optimizer.step()\n",
            "optimizer",
            "no block of statements shows both the update and the backward call",
        ),
        (
            """
            for x in batches:
                loss.backward()
                optimizer.step()
            """,
            "optimizer",
            "in the order of the lines backward comes before the update, or both stand on one line",
        ),
        (
            """
            for x in batches:
                optimizer.step(); loss.backward()
            """,
            "optimizer",
            "in the order of the lines backward comes before the update, or both stand on one line",
        ),
        (
            """
            for x in batches:
                optimizer.step()
                print(x); loss.backward()
            """,
            "optimizer",
            "line 8 holds more than one statement",
        ),
        (
            """
            for x in batches:
                y = model(x)
                if warm:
                    optimizer.step()
                loss = y.mean()
                loss.backward()
            """,
            "optimizer",
            "backward needs what lines 9 to 11 compute, and the update stands in a block of its own",
        ),
        (
            """
            def update():
                optimizer.step()

            def learn(loss):
                loss.backward()

            run(update, learn)
            """,
            "optimizer",
            "no block of statements shows both the update and the backward call",
        ),
    ],
)
def test_refused(text, mark, reason):
    assert refused(MoveBackward, text, mark) == reason


def test_backward_moves_with_its_comments():
    check(
        MoveBackward,
        """
        for x in batches:
            optimizer.zero_grad()
            loss = loss_of(x)

            # now update
            optimizer.step()
            schedule.step()

            # and the gradient
            loss.backward()  # of the mean
            print(loss)
        """,
        "optimizer.step",
        """
        for x in batches:
            optimizer.zero_grad()
            loss = loss_of(x)

            # and the gradient
            loss.backward()  # of the mean
            # now update
            optimizer.step()
            schedule.step()
            print(loss)
        """,
    )


def test_clipping_and_unscaling_stay_between_the_two():
    check(
        MoveBackward,
        """
        class Trainer:
            def step(self, loss):
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
                self.scaler.scale(loss).backward()
        """,
        "scaler.step",
        """
        class Trainer:
            def step(self, loss):
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
        """,
    )


def test_the_update_moves_where_the_loss_is_computed_after_it():
    check(
        MoveBackward,
        """
        while True:
            logits = model(x)
            # clip first
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            loss = F.cross_entropy(logits, y)
            loss.backward()
        """,
        "optimizer.step",
        """
        while True:
            logits = model(x)
            optimizer.zero_grad()
            loss = F.cross_entropy(logits, y)
            loss.backward()
            # clip first
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        """,
    )


def test_the_update_moves_behind_a_loop_that_calls_backward():
    check(
        MoveBackward,
        """
        def train():
            for group in groups:
                losses = [loss_of(x) for x in group]
                optimizer.step()
                for loss in losses:
                    loss.backward()
        """,
        "optimizer.step",
        """
        def train():
            for group in groups:
                losses = [loss_of(x) for x in group]
                for loss in losses:
                    loss.backward()
                optimizer.step()
        """,
    )


def test_backward_moves_before_the_condition_of_the_update():
    check(
        MoveBackward,
        """
        for step, x in enumerate(batches):
            loss = loss_of(x)
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
            accelerator.backward(loss)
        """,
        "optimizer.step",
        """
        for step, x in enumerate(batches):
            loss = loss_of(x)
            accelerator.backward(loss)
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        """,
        "accelerator.backward",
    )


def test_two_methods_whose_call_sites_show_the_order():
    check(
        MoveBackward,
        """
        class Trainer:
            def update(self):
                self.optimizer.step()

            def learn(self, loss):
                loss.backward()

            def fit(self):
                for x in self.batches:
                    loss = self.loss(x)
                    self.update()
                    self.learn(loss)
        """,
        "optimizer.step",
        """
        class Trainer:
            def update(self):
                self.optimizer.step()

            def learn(self, loss):
                loss.backward()

            def fit(self):
                for x in self.batches:
                    loss = self.loss(x)
                    self.learn(loss)
                    self.update()
        """,
    )


def test_the_backward_call_that_the_finding_names():
    check(
        MoveBackward,
        """
        for x in batches:
            optimizer.step()
            if probing:
                probe(x).backward()
            loss.backward()
        """,
        "optimizer.step",
        """
        for x in batches:
            loss.backward()
            optimizer.step()
            if probing:
                probe(x).backward()
        """,
        "loss.backward",
    )


def test_backward_moves_before_what_reads_the_gradients():
    check(
        MoveBackward,
        """
        for x in batches:
            loss = loss_of(x)
            for p in params:
                p.grad = None
            for full, short in pairs:
                full.grad = short.grad.float()
            optimizer.step()
            loss.backward()
        """,
        "optimizer.step",
        """
        for x in batches:
            loss = loss_of(x)
            for p in params:
                p.grad = None
            loss.backward()
            for full, short in pairs:
                full.grad = short.grad.float()
            optimizer.step()
        """,
    )


def test_backward_moves_before_clipping_that_is_counted():
    check(
        MoveBackward,
        """
        for x in batches:
            print(last.grad)
            loss = loss_of(x)
            norm = nn.utils.clip_grad_norm_(params, 1.0)
            clipped += int(norm > 1.0)
            optimizer.step()
            loss.backward()
        """,
        "optimizer.step",
        """
        for x in batches:
            print(last.grad)
            loss = loss_of(x)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(params, 1.0)
            clipped += int(norm > 1.0)
            optimizer.step()
        """,
    )
