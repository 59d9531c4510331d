import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.insert_zero_grad import InsertZeroGrad


@pytest.mark.parametrize(
    ("text", "mark", "reason"),
    [
        ("loss = model(x)\n", "model(x)", "line 5 does not hold the call that the finding speaks of"),
        (
            """
            for x in batches:
                loss.backward()
            """,
            "backward",
            "no update is seen in this file: neither an optimizer's step nor one that uses .grad",
        ),
        (
            """
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            for x in batches:
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
            """,
            "backward",
            "the gradients are cleared already: those of optimizer at line 8",
        ),
        (
            """
            optimizer = optim.LBFGS(model.parameters())
            for x in batches:
                model(x).sum().backward()
                optimizer.step(closure)
            """,
            "backward",
            "optimizer.step is given a closure at line 9",
        ),
        (
            """
            def learn(loss):
                loss.backward()

            def update_all():
                encoder_optimizer.step()
                decoder_optimizer.step()
            """,
            "backward",
            "which of decoder_optimizer, encoder_optimizer uses the gradients of this backward call cannot be seen",
        ),
        (
            """
            for x in batches:
                a.backward(), b.backward()
                optimizer.step()
            """,
            "backward",
            "line 7 holds more than one such call",
        ),
        (
            """
            for x in batches:
                loss_of(x).backward()
                for p in chosen():
                    p.data -= 0.1 * p.grad
            """,
            "backward",
            "chosen() may give its values only once",
        ),
    ],
)
def test_refused(text, mark, reason):
    assert refused(InsertZeroGrad, text, mark) == reason


def test_a_loop_in_the_file_with_comments():
    check(
        InsertZeroGrad,
        """
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.StepLR(optimizer, 10)
        for x, y in batches:
            loss = F.mse_loss(model(x), y)  # a mean

            # backwards now
            loss.backward()
            optimizer.step()  # and on
            schedule.step()
        """,
        "loss.backward()",
        """
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.StepLR(optimizer, 10)
        for x, y in batches:
            loss = F.mse_loss(model(x), y)  # a mean

            optimizer.zero_grad()
            # backwards now
            loss.backward()
            optimizer.step()  # and on
            schedule.step()
        """,
    )


def test_a_method_and_its_optimizer_as_an_attribute():
    check(
        InsertZeroGrad,
        """
        class Trainer:
            def step(self, x, y):
                '''One update.'''
                self.loss(x, y).backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
        """,
        "backward",
        """
        class Trainer:
            def step(self, x, y):
                '''One update.'''
                self.optimizer.zero_grad()
                self.loss(x, y).backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
        """,
    )


def test_what_a_condition_accumulates_is_cleared_after_the_update():
    check(
        InsertZeroGrad,
        """
        while step < 100:
            (loss_of(next(batches)) / 4).backward()
            if step % 4 == 3:
                opt.step()
                ema.update(model)
            step += 1
        """,
        "backward",
        """
        while step < 100:
            (loss_of(next(batches)) / 4).backward()
            if step % 4 == 3:
                opt.step()
                opt.zero_grad()
                ema.update(model)
            step += 1
        """,
        "opt.step",
    )


def test_what_an_inner_loop_accumulates_is_cleared_before_it():
    check(
        InsertZeroGrad,
        """
        def train():
            for group in groups:
                for x in group:
                    (loss_of(x) / len(group)).backward()
                optimizer.step()
        """,
        "backward",
        """
        def train():
            for group in groups:
                optimizer.zero_grad()
                for x in group:
                    (loss_of(x) / len(group)).backward()
                optimizer.step()
        """,
    )


def test_two_losses_of_one_update_are_cleared_before_the_first():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            first(x).backward()
            second(x).backward()
            optimizer.step()
        """,
        "second",
        """
        for x in batches:
            optimizer.zero_grad()
            first(x).backward()
            second(x).backward()
            optimizer.step()
        """,
    )


def test_networks_by_turns_each_before_its_own_backward_call():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            d_loss(x).backward()
            d_optimizer.step()
            g_optimizer.zero_grad()
            g_loss(x).backward()
            g_optimizer.step()
        """,
        "d_loss",
        """
        for x in batches:
            d_optimizer.zero_grad()
            d_loss(x).backward()
            d_optimizer.step()
            g_optimizer.zero_grad()
            g_loss(x).backward()
            g_optimizer.step()
        """,
        "d_optimizer.step",
        "g_optimizer.step",
    )


def test_a_gradient_scaler_updates_with_the_optimizer_it_is_given():
    check(
        InsertZeroGrad,
        """
        scaler = torch.amp.GradScaler()
        for x in batches:
            with torch.autocast("cuda"):
                loss = loss_of(x)
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        """,
        "backward",
        """
        scaler = torch.amp.GradScaler()
        for x in batches:
            with torch.autocast("cuda"):
                loss = loss_of(x)
            opt.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        """,
    )


def test_a_library_calls_backward_in_a_with_block():
    check(
        InsertZeroGrad,
        """
        for x in batches:
            with accelerator.accumulate(model):
                loss = loss_of(x)
                accelerator.backward(loss)
                optimizer.step()
        """,
        "backward",
        """
        for x in batches:
            with accelerator.accumulate(model):
                loss = loss_of(x)
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
        """,
    )


def test_backward_in_a_function_that_the_loop_calls():
    check(
        InsertZeroGrad,
        """
        def learn(x):
            loss = loss_of(x)
            loss.backward()
            return loss

        for x in batches:
            loss = learn(x)
            optimizer.step()
        """,
        "backward",
        """
        def learn(x):
            loss = loss_of(x)
            loss.backward()
            return loss

        for x in batches:
            optimizer.zero_grad()
            loss = learn(x)
            optimizer.step()
        """,
    )
