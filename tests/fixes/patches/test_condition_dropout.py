import pytest
from loop_lines import check, refused

from unstuck.fixes.patches.condition_dropout import ConditionDropout

ATTENTION = "F.scaled_dot_product_attention"


def method(line, base="nn.Module", name="forward", decorator=""):
    """Return a class with one method of two lines."""
    return (
        f"\nclass Net({base}):\n    {decorator}def {name}(self, x, p, **more):\n        {line}  # h\n        return h\n"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            method("h = nn.functional.relu(x)"),
            "line 8 calls neither F.dropout nor F.scaled_dot_product_attention by a ",
        ),
        (method("h = F.dropout(x, p, self.training)"), "dropout at line 8 follows the mode of its module already"),
        (method("h = F.dropout(x, p, training=p > 0.5)"), "F.dropout at line 8 is told by p > 0.5 whether to drop"),
        (method("h = F.dropout(x, **more)"), "what F.dropout is given at line 8 cannot be seen: it has * or ** in it"),
        (method("h = F.dropout(F.dropout(x, p), p)"), "line 8 has one dropout inside another"),
        (method(f"h = {ATTENTION}(x, x, x)"), f"{ATTENTION} is given no dropout_p"),
        (
            method("h = F.dropout(x, p)", base="object"),
            "F.dropout stands outside the methods of a module, so there is no mode to follow: pass the module's "
            "`training` to it",
        ),
        (
            method("h = F.dropout(x, p)", decorator="@staticmethod\n    "),
            "F.dropout stands outside the methods of a module, so there is no mode to follow: pass the module's "
            "`training` to it",
        ),
        (
            "def block(x):\n    return F.dropout(x)  # h\n",
            "F.dropout stands outside the methods of a module, so there is no mode to follow: pass the module's "
            "`training` to it",
        ),
    ],
)
def test_refused(text, reason):
    assert refused(ConditionDropout, text, "# h").startswith(reason)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("h = x + F.dropout(x, p)", "h = x + F.dropout(x, p, training=self.training)"),
        ("h = F.dropout(x)", "h = F.dropout(x, training=self.training)"),
        ("h = F.dropout2d(x,p=0.5)", "h = F.dropout2d(x,p=0.5,training=self.training)"),
        ("h = F.dropout(x, p, training=True)", "h = F.dropout(x, p, training=self.training)"),
        ("h = torch.dropout(x, p, True)", "h = torch.dropout(x, p, self.training)"),
        ("h = F.dropout(x, p, self.train)", "h = F.dropout(x, p, self.training)"),
        (
            "h = F.dropout(x) + F.dropout(x)",
            "h = F.dropout(x, training=self.training) + F.dropout(x, training=self.training)",
        ),
        ("h = [F.alpha_dropout(y, p) for y in x]", "h = [F.alpha_dropout(y, p, training=self.training) for y in x]"),
        (f"h = {ATTENTION}(x, x, x, dropout_p=p)", f"h = {ATTENTION}(x, x, x, dropout_p=p if self.training else 0.0)"),
        (f"h = {ATTENTION}(x, x, x, None, 0.1)", f"h = {ATTENTION}(x, x, x, None, 0.1 if self.training else 0.0)"),
        (
            f"h = {ATTENTION}(x, x, x, dropout_p=p if x.any() else 0.2)",
            f"h = {ATTENTION}(x, x, x, dropout_p=(p if x.any() else 0.2) if self.training else 0.0)",
        ),
    ],
)
def test_in_a_method(before, after):
    check(ConditionDropout, method(before), "# h", method(after))


def test_arguments_that_stand_on_lines_of_their_own_and_their_comments():
    check(
        ConditionDropout,
        """
        class Net(nn.Module):
            def forward(self, x):
                # drop some
                return F.dropout(
                    self.layer(x),  # hidden
                    self.p,  # probability
                )
        """,
        "F.dropout",
        """
        class Net(nn.Module):
            def forward(self, x):
                # drop some
                return F.dropout(
                    self.layer(x),  # hidden
                    self.p,  # probability
                    training=self.training,
                )
        """,
    )


def test_a_line_that_would_get_too_long_is_split():
    before = f"h = {ATTENTION}(self.split(self.q), self.split(self.k), self.split(self.v), dropout_p=self.dropout"
    check(
        ConditionDropout,
        method(before + ")"),
        "# h",
        method(
            "dropout = self.dropout if self.training else 0.0\n        "
            + before.replace("=self.dropout", "=dropout")
            + ")"
        ),
    )


def test_a_helper_method_of_a_class_that_inherits_from_one_of_the_file():
    check(
        ConditionDropout,
        """
        class Base(nn.Module):
            pass

        class Net(Base):
            def thinned(net, x):
                return F.dropout(x, 0.1)
        """,
        "F.dropout",
        """
        class Base(nn.Module):
            pass

        class Net(Base):
            def thinned(net, x):
                return F.dropout(x, 0.1, training=net.training)
        """,
    )


def test_a_function_imported_by_its_name_inside_a_closure():
    check(
        ConditionDropout,
        """
        from lightning import LightningModule
        from torch.nn.functional import dropout

        class Net(LightningModule):
            def forward(self, x):
                drop = lambda h: dropout(h, 0.1)
                return drop(x)
        """,
        "lambda",
        """
        from lightning import LightningModule
        from torch.nn.functional import dropout

        class Net(LightningModule):
            def forward(self, x):
                drop = lambda h: dropout(h, 0.1, training=self.training)
                return drop(x)
        """,
    )
