import pytest
from loss_lines import check_patched, check_refused, found, line_of, place, text_of

from unstuck.findings import Place
from unstuck.fixes.patches.normalise_log_probs import NormaliseLogProbs
from unstuck.trace import Location

RAW = """
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    for x, y in batches:
        loss = F.nll_loss(model(x), y)  # in nats
        loss.backward()
"""
MODULE = """
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    criterion = nn.NLLLoss(reduction="mean")  # in nats

    def train(batches):
        for x, y in batches:
            loss = criterion(model(x), y)
"""
MASKED = """
    def policy(x, closed):
        return F.log_softmax(head(x), dim=1).masked_fill(closed, float("-inf"))  # open ones

    loss = F.nll_loss(policy(x, closed), y)
"""


def finding(text, *related):
    return found("L005", place(text, "nll_loss", "loss = "), *related)


def check(body, *changes, related=None):
    text = text_of(body)
    places = [place(text, site, mark) for site, mark in (related or {}).items()]
    check_patched(NormaliseLogProbs, text, finding(text, *places), *changes)


class TestRefused:
    def test_a_loss_that_is_made_elsewhere(self):
        text = text_of("from mine import criterion\nfor x, y in batches:\n    loss = criterion(model(x), y)\n")
        line = line_of(text, "loss = ")
        reason = f"line {line} has no call of nll_loss, and no nn.NLLLoss is made in this file"
        check_refused(NormaliseLogProbs, text, finding(text), reason)

    def test_one_of_two_losses(self):
        text = text_of(MODULE.replace("criterion(model", "(criterion or other)(model") + "\n    other = nn.NLLLoss()\n")
        reason = f"which nn.NLLLoss line {line_of(text, 'loss = ')} uses is not clear"
        check_refused(NormaliseLogProbs, text, finding(text), reason)

    def test_a_softmax_in_another_file(self):
        text = text_of(RAW)
        softmax = Place("softmax", Location("/home/user/model.py", 3))
        check_refused(NormaliseLogProbs, text, finding(text, softmax), "the softmax stands in another file")

    def test_two_softmaxes_on_a_line(self):
        text = text_of(RAW.replace("model(x), y", "F.softmax(model(x), 1) + F.softmax(x, 1), y"))
        at = finding(text, place(text, "softmax", "loss = "))
        check_refused(NormaliseLogProbs, text, at, f"line {line_of(text, 'loss = ')} has 2 calls of softmax")

    def test_a_name_imported_under_another_name(self):
        text = text_of("from torch.nn.functional import nll_loss as nll\n" + "loss = nll(model(x), y)\n")
        check_refused(NormaliseLogProbs, text, finding(text), "nll_loss is imported as nll")

    @pytest.mark.parametrize("softmax", ["F.softmax(model(x), 1)", "model(x).softmax(1)"])
    def test_probabilities_that_the_file_uses(self, softmax):
        text = text_of(f"p = {softmax}  # made\nloss = F.nll_loss(p, y)\nprint(p > 0.9)\n")
        at = finding(text, place(text, "softmax", "# made"))
        reason = f"line {line_of(text, 'print')} takes the output for probabilities: hand the loss their logarithm"
        check_refused(NormaliseLogProbs, text, at, reason)


class TestScores:
    def test_the_function(self):
        check(RAW, ("F.nll_loss", "F.cross_entropy"))

    def test_the_evaluation_measures_the_same(self):
        body = RAW + "    print(torch.nn.functional.nll_loss(model(x), y, reduction='sum'))\n"
        check(body, ("F.nll_loss", "F.cross_entropy"), ("functional.nll_loss", "functional.cross_entropy"))

    def test_the_module(self):
        check(MODULE, ("nn.NLLLoss", "nn.CrossEntropyLoss"))

    def test_a_module_of_an_object(self):
        body = """
            class Trainer:
                def __init__(self):
                    self.criterion = nn.NLLLoss(weight=weights)

                def step(self, x, y):
                    loss = self.criterion(self.model(x), y)
        """
        check(body, ("nn.NLLLoss", "nn.CrossEntropyLoss"))

    def test_a_module_that_is_handed_over(self):
        body = MODULE.replace("def train(batches)", "def train(loss_fn)").replace("criterion(", "loss_fn(")
        check(body, ("nn.NLLLoss", "nn.CrossEntropyLoss"))

    def test_a_module_made_on_the_spot(self):
        check(RAW.replace("F.nll_loss(", "nn.NLLLoss()("), ("nn.NLLLoss", "nn.CrossEntropyLoss"))

    def test_an_import_is_exchanged(self):
        body = "from torch.nn.functional import nll_loss, relu\nloss = nll_loss(relu(model(x)), y)\n"
        check(body, ("import nll_loss", "import cross_entropy"), ("= nll_loss", "= cross_entropy"))

    def test_an_import_that_is_there_already(self):
        body = "from torch.nn import CrossEntropyLoss, NLLLoss\nc = NLLLoss()\nloss = c(model(x), y)\n"
        check(body, ("c = NLLLoss()", "c = CrossEntropyLoss()"))

    def test_an_import_that_is_needed_still(self):
        body = "from torch.nn import NLLLoss\nc = NLLLoss()\nloss = c(model(x), y)\nprint(NLLLoss)\n"
        check(body, ("import NLLLoss", "import NLLLoss, CrossEntropyLoss"), ("c = NLLLoss()", "c = CrossEntropyLoss()"))

    def test_a_log_softmax_that_is_masked_in_an_unknown_way_is_normalised_by_the_loss(self):
        body = MASKED.replace('.masked_fill(closed, float("-inf"))', " + closed.log()")
        check(body, ("F.nll_loss", "F.cross_entropy"), related={"log_softmax": "# open ones"})


class TestProbabilities:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("F.softmax(model(x), dim=1)", "F.log_softmax(model(x), dim=1)"),
            ("torch.softmax(model(x), 1)", "torch.log_softmax(model(x), 1)"),
            ("model(x).softmax(1)", "model(x).log_softmax(1)"),
        ],
    )
    def test_a_call(self, old, new):
        check(RAW.replace("model(x), y", f"{old}, y"), (old, new), related={"softmax": "loss = "})

    def test_a_module(self):
        body = MODULE.replace("nn.Linear(16, 3))", "nn.Linear(16, 3), nn.Softmax(dim=1))")
        check(body, ("nn.Softmax(", "nn.LogSoftmax("), related={"3 (softmax)": "loss = "})

    def test_an_attribute(self):
        body = """
            class Net(nn.Module):
                def __init__(self):
                    self.soft = nn.Softmax(dim=-1)

                def forward(self, x):
                    return self.soft(self.head(x))

            loss = F.nll_loss(Net()(x), y)
        """
        check(body, ("nn.Softmax(", "nn.LogSoftmax("), related={"soft (softmax)": "return"})


class TestMasks:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (
                'F.log_softmax(head(x), dim=1).masked_fill(closed, float("-inf"))',
                'F.log_softmax(head(x).masked_fill(closed, float("-inf")), dim=1)',
            ),
            ("F.log_softmax(x + 1, 1).masked_fill(~m, -1e9)", "F.log_softmax((x + 1).masked_fill(~m, -1e9), 1)"),
            ("head(x).log_softmax(1).masked_fill_(m, -1e9)", "head(x).masked_fill(m, -1e9).log_softmax(1)"),
            (
                "F.log_softmax(input=h, dim=1).masked_fill(mask=m, value=-1e9)",
                "F.log_softmax(input=h.masked_fill(mask=m, value=-1e9), dim=1)",
            ),
            (
                "torch.log_softmax(h, 1).masked_fill(m, -9.0)[:, 1:]",
                "torch.log_softmax(h.masked_fill(m, -9.0), 1)[:, 1:]",
            ),
        ],
    )
    def test_they_go_before_the_softmax(self, old, new):
        body = MASKED.replace('F.log_softmax(head(x), dim=1).masked_fill(closed, float("-inf"))', old)
        check(body, (old, new), related={"log_softmax": "# open ones"})
