"""`unstuck check MODULE:CALLABLE`: what a function returns is judged before any training, and mended on demand."""

from __future__ import annotations

import json
import sys

import pytest

MODULE = """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    def data(number=64):
        g = torch.Generator().manual_seed(1)
        x = torch.randn(number, 10, generator=g)
        return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()

    def net(scale=1.0, seed=0):
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 3))
        made[2].weight.data *= scale
        return made

    def build():
        return net(), data(), cross_entropy

    def confident():
        print("building")
        made = net(300.0)
        return [made, data(), cross_entropy, torch.optim.SGD(made.parameters(), lr=0.01)]

    def loader():
        batches = torch.utils.data.TensorDataset(*data(256))
        return net(300.0), torch.utils.data.DataLoader(batches, batch_size=32), cross_entropy

    def generator():
        yielded = (data(number) for number in (32, 0))
        return net(300.0), yielded, cross_entropy

    def raising():
        try:
            open("/no/such/file")
        except OSError as error:
            raise RuntimeError("no data") from error

    def leaving():
        raise SystemExit(0)

    def interrupted():
        raise KeyboardInterrupt

    def needing(path):
        return build()

    def one_number():
        return 3

    def no_model():
        return 1, data(), cross_entropy

    def no_optimizer():
        return net(), data(), cross_entropy, 0.1

    def five():
        return net(), *data(), cross_entropy, None

    def one_tensor():
        return net(), data()[0], cross_entropy

    def other_shape():
        return net(), (torch.zeros(4, 3), torch.zeros(4).long()), cross_entropy

    def other_targets():
        return net(), (data()[0], data()[1][:5]), cross_entropy

    def many_losses():
        return net(), data(), lambda out, y: cross_entropy(out, y, reduction="none")

    def frozen():
        return net().requires_grad_(False), data(), cross_entropy

    class Class:
        pass

    number = 3
"""


@pytest.fixture
def unstuck(cli, script, tmp_path, monkeypatch):
    """The command, run in a folder with the module, in a package of its own too."""
    script(MODULE, "made_here.py")
    script("", "package_here/__init__.py")
    script(MODULE, "package_here/made.py")
    script("import no_such_thing\n", "importing_here.py")
    script("x = = 3\n", "broken_here.py")
    script("raise AttributeError('oh')\n", "raising_here.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield lambda *arguments: cli("check", *arguments)
    for name in [name for name in sys.modules if name.split(".")[0].endswith("_here")]:
        del sys.modules[name]


class TestRefused:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("made_here", "'made_here' is not MODULE:CALLABLE, for example: unstuck check train:build"),
            ("made_here:", "'made_here:' is not MODULE:CALLABLE, for example: unstuck check train:build"),
            (":build", "':build' is not MODULE:CALLABLE, for example: unstuck check train:build"),
            (
                "made_here.py:build",
                "made_here.py is a path; name the module as `import` does, for example: unstuck check train:build",
            ),
            (
                "package_here/made:build",
                "package_here/made is a path; name the module as `import` does, for example: unstuck check train:build",
            ),
            (
                "nothing_here:build",
                "no module named nothing_here in {} or among the installed packages; check the name",
            ),
            (
                "package_here.nothing:build",
                "no module named package_here.nothing in {} or among the installed packages; check the name",
            ),
            ("made_here:nix", "made_here has no nix; name a function that returns (model, batch, loss_fn)"),
            ("made_here:number", "made_here:number is 3, not a function that returns (model, batch, loss_fn)"),
            ("made_here:one_number", "made_here:one_number returned int, not (model, batch, loss_fn[, optimizer])"),
            ("made_here:Class", "made_here:Class returned Class, not (model, batch, loss_fn[, optimizer])"),
            (
                "made_here:five",
                "made_here:five returned (Sequential, Tensor, Tensor, function, NoneType), "
                "not (model, batch, loss_fn[, optimizer])",
            ),
            (
                "made_here:no_model",
                "made_here:no_model returned (int, tuple, function); "
                "the first must be a torch.nn.Module, the third a function",
            ),
            (
                "made_here:no_optimizer",
                "made_here:no_optimizer returned (Sequential, tuple, function, float); "
                "the fourth must be a torch.optim.Optimizer",
            ),
            (
                "made_here:one_tensor",
                "made_here:one_tensor: batch must be a pair (inputs, targets), "
                "or an iterable of such pairs, got Tensor",
            ),
            (
                "made_here:many_losses",
                "made_here:many_losses: loss_fn must return a tensor with one element, got shape (64,)",
            ),
            (
                "made_here:frozen",
                "made_here:frozen: the loss does not depend on any parameter that requires grad; "
                "is the whole model frozen?",
            ),
        ],
    )
    def test_in_one_line(self, unstuck, tmp_path, target, message):
        assert unstuck(target).refusal == message.format(tmp_path)

    def test_options(self, unstuck):
        assert unstuck().refusal == "Missing argument 'MODULE:CALLABLE'; see `unstuck check --help`"
        assert unstuck("--bogus", "made_here:build").refusal.startswith("No such option: --bogus")
        assert unstuck("--steps", 0, "--fix", "made_here:build").refusal.startswith("Invalid value for '--steps'")


class TestRaising:
    """The traceback is the user's own, and one line says what raised it."""

    @pytest.mark.parametrize(
        ("target", "frame", "error", "what"),
        [
            ("made_here:leaving", 'made_here.py", line 39, in leaving', "SystemExit: 0", "made_here:leaving"),
            (
                "importing_here:build",
                'importing_here.py", line 1, in <module>',
                "ModuleNotFoundError: No module named 'no_such_thing'",
                "importing importing_here",
            ),
            ("broken_here:build", 'broken_here.py", line 1', "SyntaxError: invalid syntax", "importing broken_here"),
            ("raising_here:build", 'raising_here.py", line 1', "AttributeError: oh", "importing raising_here"),
        ],
    )
    def test_first_frame_and_error(self, unstuck, target, frame, error, what):
        said = unstuck(target)
        assert (said.code, said.out) == (2, "")
        *trace, text, last = said.err.splitlines()
        assert frame in next(line for line in trace if line.startswith("  File"))
        assert text == error
        assert last == f"unstuck: {what} raised {error.split(':')[0]}; nothing is judged"

    def test_causes_are_shown(self, unstuck):
        said = unstuck("made_here:raising")
        assert said.err.count("Traceback (most recent call last):") == 2
        assert "FileNotFoundError: " in said.err
        assert said.err.endswith(
            "RuntimeError: no data\nunstuck: made_here:raising raised RuntimeError; nothing is judged\n"
        )
        assert "unstuck/cli" not in said.err

    def test_an_interrupt_is_no_fault_of_it(self, unstuck):
        said = unstuck("made_here:interrupted")
        assert (said.code, said.out, said.err) == (130, "", "")

    def test_arguments_that_nobody_gives(self, unstuck):
        said = unstuck("made_here:needing")
        assert said.err == (
            "TypeError: needing() missing 1 required positional argument: 'path'\n"
            "unstuck: made_here:needing raised TypeError; nothing is judged\n"
        )

    @pytest.mark.parametrize("options", [[], ["--fix"]])
    @pytest.mark.parametrize(
        ("name", "error"), [("other_shape", "RuntimeError: mat1"), ("other_targets", "ValueError: Expected")]
    )
    def test_the_network(self, unstuck, options, name, error):
        said = unstuck(*options, f"made_here:{name}")
        assert (said.code, said.out) == (2, "")
        assert f"\n{error}" in said.err
        assert "/unstuck/" not in said.err
        assert said.err.splitlines()[-1] == (
            f"unstuck: the network of made_here:{name} raised {error.split(':')[0]}; nothing is judged"
        )


class TestJudged:
    @pytest.mark.parametrize("target", ["made_here:build", "package_here.made:build"])
    def test_a_network_without_a_fault(self, unstuck, target):
        said = unstuck(target)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("\nunstuck: no fault found in a check of Sequential\n")

    @pytest.mark.parametrize("name", ["confident", "loader", "generator"])
    def test_one_with_a_fault(self, unstuck, name):
        """Of a loader the first batch is judged."""
        said = unstuck(f"made_here:{name}")
        assert (said.code, said.err) == (1, "")
        assert "unstuck: 1 root cause (L001) in a check of Sequential\n" in said.out

    @pytest.mark.parametrize(("level", "code"), [("error", 1), ("warning", 1), ("never", 0)])
    def test_the_exit_code(self, unstuck, level, code):
        assert unstuck("--fail-on", level, "made_here:confident").code == code

    def test_sarif_alone_on_stdout_and_annotations_beside_what_is_printed(self, unstuck):
        said = unstuck("--output-format", "sarif", "made_here:confident")
        (run,) = json.loads(said.out)["runs"]
        assert [result["ruleId"] for result in run["results"]] == ["L001"]
        assert (said.code, said.err) == (1, "building\n")
        said = unstuck("--output-format", "github", "made_here:confident")
        assert said.out.startswith("building\nunstuck: 1 root cause (L001) in a check of Sequential\n::error ")

    def test_verbose_tells_what_was_not_checked(self, unstuck):
        assert "\nnot checked:\n" in unstuck("-v", "made_here:build").out
        assert " rules not checked (-v says why)\n" in unstuck("made_here:build").out

    def test_json_alone_on_stdout(self, unstuck):
        said = unstuck("--output-format", "json", "made_here:confident")
        assert [cause["root"]["code"] for cause in json.loads(said.out)["causes"]] == ["L001"]
        assert (said.code, said.err) == (1, "building\n")

    def test_weights_that_are_not_initial(self, unstuck):
        assert unstuck("--pretrained", "made_here:confident").code == 0


class TestMended:
    def test_safe_fixes_announce_the_others_in_one_line(self, unstuck):
        said = unstuck("--fix", "--steps", 20, "made_here:confident")
        assert said.code == 1
        (line,) = (line for line in said.out.splitlines() if line.startswith("not mended: "))
        assert line.startswith("not mended: shrink-output-layer")
        assert line.endswith(": only with --unsafe-fixes (unsafe=True), for they change the training")

    @pytest.mark.parametrize("name", ["confident", "loader"])
    def test_unsafe_ones_are_proven(self, unstuck, name):
        said = unstuck("--unsafe-fixes", "--steps", 20, f"made_here:{name}")
        assert said.code == 0
        assert "unstuck: no fault found in 20 steps of a repair of Sequential\n" in said.out
        text = " ".join(said.out.split())
        assert "mended before the first step: L001 shrink-output-layer: 2.weight" in text
        assert "loss after 20 steps" in text

    def test_as_json(self, unstuck):
        said = unstuck("--unsafe-fixes", "--steps", 20, "--output-format", "json", "made_here:confident")
        report = json.loads(said.out)
        assert [(fix["name"], fix["kept"]) for fix in report["fixes"]] == [("shrink-output-layer", True)]
        assert (report["run"]["steps"], said.code) == (20, 0)
