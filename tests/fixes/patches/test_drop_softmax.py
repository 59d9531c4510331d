import dataclasses

import pytest
from loss_lines import FILE, check_patched, check_refused, found, line_of, place, text_of

from unstuck.findings import Place
from unstuck.fixes.patches.drop_softmax import DropSoftmax
from unstuck.trace import Location

NET = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 3)  # one output for each class

        def forward(self, x):
            return F.softmax(self.head(x), dim=1)

    model = Net()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
"""
STACK = """
    model = nn.Sequential(
        nn.Linear(8, 16),
        nn.ReLU(),
        nn.Linear(16, 3),  # classes
        nn.Softmax(dim=1),  # sums to 1
    )
    criterion = nn.CrossEntropyLoss()
    for x, y in batches:
        loss = criterion(model(x), y)
"""
LINE = """
    for x, y in batches:
        logits = model(x)
        probs = F.softmax(logits, dim=1)
        loss = F.cross_entropy(probs, y)
        loss.backward()
"""


def finding(text, softmax="softmax(", loss="loss = ", site="softmax"):
    return found("L004", place(text, "cross_entropy", loss), place(text, site, softmax))


def stack(text=STACK, after=""):
    text = text_of(text) + after
    return text, found("L004", place(text, "cross_entropy", "loss = "), place(text, "3 (softmax)", "loss = "))


def check(body, *changes, after="", **where):
    text = text_of(body) + after
    check_patched(DropSoftmax, text, finding(text, **where), *changes)


def refuse(body, reason, **where):
    """`LINE` in the reason stands for the line marked with `# here`."""
    text = text_of(body)
    if "LINE" in reason:
        reason = reason.replace("LINE", str(line_of(text, "# here")))
    check_refused(DropSoftmax, text, finding(text, **where), reason)


class TestRefused:
    def test_a_finding_that_does_not_say_where(self):
        text = text_of(NET)
        bare = found("L004", place(text, "cross_entropy", "loss = "))
        check_refused(DropSoftmax, text, bare, "the finding does not say where the softmax stands")

    def test_a_softmax_in_another_file(self):
        text = text_of(NET)
        elsewhere = Place("softmax", Location("/home/user/model.py", 12))
        there = found("L004", place(text, "cross_entropy", "loss = "), elsewhere)
        check_refused(DropSoftmax, text, there, "the softmax stands in another file")

    def test_a_line_behind_the_end(self):
        text = text_of(NET)
        at = finding(text)
        far = dataclasses.replace(at, related=(Place("softmax", Location(at.location.file, 999)),))
        check_refused(DropSoftmax, text, far, "line 999 is not in this file")

    def test_a_softmax_of_ones_own(self):
        body = NET.replace("F.softmax(self.head(x), dim=1)", "mine(self.head(x))  # softmax()")
        refuse(body, "no nn.Softmax or nn.Softmax2d that softmax could be is made in this file")

    def test_two_on_one_line(self):
        body = NET.replace(
            "F.softmax(self.head(x), dim=1)", "F.softmax(self.head(x), dim=1) + F.softmax(x, dim=1)  # here"
        )
        refuse(body, "line LINE has 2 calls of softmax", softmax="# here")

    def test_two_modules_that_it_could_be(self):
        text, at = stack(after="other = nn.Sequential(nn.Tanh(), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=1))\n")
        at = dataclasses.replace(at, related=(dataclasses.replace(at.related[0], site="m.x.3 (softmax)"),))
        lines = line_of(text, "# sums to 1"), line_of(text, "other = ")
        check_refused(DropSoftmax, text, at, "m.x.3 (softmax) may be any of those made at lines {}, {}".format(*lines))

    def test_an_output_that_something_else_is_made_of(self):
        body = NET.replace("F.softmax(self.head(x), dim=1)", "2 * F.softmax(self.head(x), dim=1)  # here")
        refuse(body, "what becomes of the softmax at line LINE is not understood")

    def test_a_variable_used_twice_whose_input_has_no_name(self):
        body = LINE.replace("logits = model(x)", "pass").replace("softmax(logits", "softmax(model(x)")
        body += "        sure = probs.max()  # here\n"
        refuse(body, "probs is used at line LINE too, where it may have to be a softmax")

    def test_an_input_that_is_overwritten_before_the_loss(self):
        body = LINE.replace("        loss = ", "        logits = probs.log()  # here\n        loss = ")
        refuse(body, "probs is used at line LINE too, where it may have to be a softmax")

    @pytest.mark.parametrize(
        "use",
        [
            "print(model(x) > 0.9)  # here",
            "print(1 - model(x)[:, 0])  # here",
            "print(model(x).log().sum())  # here",
            "print(torch.log(model(x)))  # here",
            "torch.multinomial(model(x), 1)  # here",
            "torch.distributions.Categorical(probs=model(x))  # here",
            "p = model(x)\nprint(0.5 < p[0])  # here",
            "def predict(x):\n    return model(x).squeeze()\nprint(predict(x).round())  # here",
            "p = model(x)\nconf = p.max(1).values.mean().item()  # here",
            "conf, best = model(x).max(dim=1)  # here\nprint(conf)",
            "conf = torch.max(model(x), 1)[0]  # here",
            "best = model(x).topk(3).values  # here",
            "share = model(x).mean(0)  # here",
            "share = torch.mean(model(x), 0)  # here",
            "print('says', model(x)) if 0 else print(model(x)[0].tolist())  # here",
            "text = f'{model(x)[0, 1].item():.2f}'  # here",
            "def sure(net, x):\n    return net(x) > 0.9  # here\n\nprint(sure(model, x))",
            "def sure(x, net):\n    return net(x) > 0.9  # here\n\nprint(sure(x, net=model))",
        ],
    )
    def test_an_output_taken_for_probabilities(self, use):
        for text, at in (stack(after=use), stack(NET, after=use)):
            reason = (
                f"line {line_of(text, '# here')} takes the network's output for probabilities: move the softmax there"
            )
            at = at if text.startswith(text_of(STACK)) else finding(text)
            check_refused(DropSoftmax, text, at, reason)


class TestCalls:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.softmax(self.head(x), dim=1)", "self.head(x)"),
            ("F.softmax(input=self.head(x), dim=1)", "self.head(x)"),
            ("torch.softmax(self.head(x), -1)", "self.head(x)"),
            ("nn.functional.softmax(self.head(x), -1).squeeze(1)", "self.head(x).squeeze(1)"),
            ("self.head(x).softmax(-1)", "self.head(x)"),
            ("self.head(x).softmax(dim=-1).float()", "self.head(x).float()"),
            ("F.softmax(self.head(x) / 2, dim=1)", "self.head(x) / 2"),
            ("F.softmax(self.head(x) / 2, dim=1).float()", "(self.head(x) / 2).float()"),
            ("(self.head(x) + x).softmax(1)", "(self.head(x) + x)"),
        ],
    )
    def test_what_forward_returns(self, old, new):
        body = NET.replace("F.softmax(self.head(x), dim=1)", f"{old}  # over classes")
        check(body, (f"return {old}", f"return {new}"))

    def test_over_several_lines(self):
        old = "F.softmax(\n                self.head(x)\n                + x,\n                dim=1,\n            )"
        text = text_of(NET.replace("F.softmax(self.head(x), dim=1)", old))
        after = DropSoftmax().patch(text, finding(text), FILE).after
        assert "        return (self.head(x)\n            + x)\n" in after

    def test_inside_the_loss(self):
        body = "for x, y in batches:\n    loss = nn.CrossEntropyLoss()(torch.softmax(model(x), dim=1), y)\n"
        check(body, ("torch.softmax(model(x), dim=1)", "model(x)"))

    def test_a_variable(self):
        check(LINE.replace("logits", "scores"), ("F.softmax(scores, dim=1)", "scores"))

    def test_a_variable_that_it_overwrites(self):
        body = LINE.replace("logits", "out").replace("probs", "out")
        check(body, ("    out = F.softmax(out, dim=1)\n", ""))

    def test_a_comment_is_not_taken_away_with_the_line(self):
        body = LINE.replace("logits", "out").replace("probs", "out").replace("dim=1)", "dim=1)  # rows")
        check(body, ("F.softmax(out, dim=1)", "out"))

    def test_the_best_class_is_the_same_one_without(self):
        after = "        right = probs.argmax(1) == y\n        best = torch.topk(probs, 2)\n"
        check(LINE + after, ("F.softmax(logits, dim=1)", "logits"))

    def test_probabilities_that_are_needed_stay(self):
        check(LINE + "        print(probs.max())\n", ("F.cross_entropy(probs, y)", "F.cross_entropy(logits, y)"))

    def test_a_name_imported_by_itself(self):
        body = "from torch.nn.functional import softmax\n" + NET.replace("\n    ", "\n").replace("F.softmax", "softmax")
        check(body, ("softmax(self.head(x), dim=1)", "self.head(x)"), softmax="return softmax(")

    @pytest.mark.parametrize(
        "use",
        [
            "_, best = model(x).max(1)",
            "_, best = torch.max(model(x), 1)\nprint(best)",
            "best = model(x).max(1).indices",
            "best = model(x).max(1)[1]",
            "best = model(x).topk(3)[1]",
            "print(model(x).argmax(1))",
            "print(model(x).shape)",
            "print(model, sum(p.numel() for p in model.parameters()))",
            "right = (model(x).argmax(1) == y).float().mean()\nprint(f'{right}')",
            "right = model(x).argmax(1).eq(y).sum().item()",
        ],
    )
    def test_which_class_is_the_largest_is_no_use_of_probabilities(self, use):
        check(NET, ("F.softmax(self.head(x), dim=1)", "self.head(x)"), after=use + "\n")

    def test_thresholds_of_other_things(self):
        after = "ok = (model(x).argmax(1) == y).float().mean() > 0.9\nif loss.item() < 0.5:\n    pass\n"
        check(NET, ("F.softmax(self.head(x), dim=1)", "self.head(x)"), after=after)


class TestModules:
    def test_the_last_of_a_sequential(self):
        text, at = stack()
        check_patched(DropSoftmax, text, at, ("    nn.Softmax(dim=1),  # sums to 1\n", ""))

    def test_on_one_line(self):
        text, at = stack("model = nn.Sequential(nn.Linear(8, 3), nn.Softmax(1))\nloss = F.cross_entropy(model(x), y)\n")
        check_patched(DropSoftmax, text, at, ("nn.Linear(8, 3), nn.Softmax(1)", "nn.Linear(8, 3)"))

    @pytest.mark.parametrize("use", ["print(model[-2].weight)", "features = model[:-1]"])
    def test_one_whose_neighbours_are_counted_from_the_end(self, use):
        text, at = stack(after=use + "\n")
        check_patched(DropSoftmax, text, at, ("nn.Softmax(dim=1)", "nn.Identity()"))

    def test_one_that_is_not_the_last(self):
        text, at = stack(STACK.replace("# sums to 1", "# sums to 1\n        nn.Flatten(),"))
        check_patched(DropSoftmax, text, at, ("nn.Softmax(dim=1)", "nn.Identity()"))

    def test_one_that_is_appended(self):
        body = "layers = [nn.Linear(8, 3)]\nlayers.append(nn.Softmax(-1))\nmodel = nn.Sequential(*layers)\n"
        text, at = stack(body + "loss = F.cross_entropy(model(x), y)\n")
        check_patched(DropSoftmax, text, at, ("nn.Softmax(-1)", "nn.Identity()"))

    def test_a_class_imported_by_itself(self):
        body = "from torch.nn import Linear, Softmax\nmodel = [Linear(8, 3), Softmax(dim=1)]\n"
        text, at = stack(body + "loss = F.cross_entropy(nn.Sequential(*model)(x), y)\n")
        changes = ("Linear, Softmax\n", "Linear, Identity\n"), ("Softmax(dim=1)", "Identity()")
        check_patched(DropSoftmax, text, at, *changes)

    def test_an_attribute_that_forward_calls(self):
        body = NET.replace("# one output for each class", "\n            self.softmax = nn.Softmax(dim=1)")
        body = body.replace("F.softmax(self.head(x), dim=1)", "self.softmax(self.head(x))")
        changes = ("        self.softmax = nn.Softmax(dim=1)\n", ""), ("self.softmax(self.head(x))", "self.head(x)")
        check(body, *changes, softmax="return self.softmax(", site="softmax (softmax)")

    def test_an_attribute_that_is_used_elsewhere_too(self):
        body = NET.replace("# one output for each class", "\n            self.softmax = nn.Softmax(dim=1)")
        body = body.replace("F.softmax(self.head(x), dim=1)", "self.softmax(self.head(x))")
        body += "        print(model.softmax(x), self.softmax)\n"
        check(body, ("self.softmax(self.head(x))", "self.head(x)"), softmax="return self.softmax(")
