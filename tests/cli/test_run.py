"""`unstuck run`: the script runs as without us; what we have to say comes after it."""

from __future__ import annotations

import json
import linecache
import re
import sys
from textwrap import dedent

import pytest
from typer.main import get_command

from conftest import TINY_TRAINING
from unstuck.cli import app
from unstuck.cli.run import SWITCHES, module_arguments_apart

from .programs import EXAMPLE, FAILS_LATER, process


class TestHealthy:
    def test_the_scripts_output_then_the_verdict(self, unstuck, script):
        said = unstuck(script())
        lines = said.out.splitlines()
        assert lines[:4] == ["before training", "steps done: 12", "", "unstuck: no fault found in 12 steps of train.py"]
        assert (said.code, said.err) == (0, "")

    def test_it_says_what_it_could_not_check(self, unstuck, script):
        said = unstuck("-v", script())
        assert "not checked:\n" in said.out
        assert "need a normalisation layer\n" in said.out
        assert re.search(r"; \d+ rules not checked \(-v says why\)[;\n]", unstuck(script()).out)

    @pytest.mark.parametrize(
        "arguments",
        [["--steps", "7"], ["--fix", "--every", "2"], ["--help"], ["--", "-x"], ["--output-format=json"], ["other.py"]],
    )
    def test_what_follows_the_script_is_the_scripts_own(self, unstuck, script, arguments):
        text = "import sys\nprint(sys.argv[1:])\n" + FAILS_LATER.format("")
        said = unstuck(script(text.replace("\n    ", "\n")), *arguments)
        assert said.out.startswith(f"{arguments}\nfive steps done\n\nunstuck: ")
        assert said.code == 0

    def test_what_the_script_says_on_stderr_stays_there(self, unstuck, script):
        said = unstuck(script(FAILS_LATER.format("import sys; print('careful', file=sys.stderr)")))
        assert said.err == "careful\n"


class TestSteps:
    def test_the_training_ends_after_n_updates(self, unstuck, script):
        said = unstuck("--steps", 5, script())
        assert said.out.startswith("before training\n\nunstuck: no fault found in 5 steps of train.py\n")
        assert said.code == 0

    def test_more_steps_than_there_are(self, unstuck, script):
        assert "steps done: 12\n\nunstuck: no fault found in 12 steps" in unstuck("--steps", 99, script()).out

    def test_with_an_optimizer(self, unstuck, script):
        text = """
            import torch
            w = torch.nn.Parameter(torch.zeros(3))
            optimizer = torch.optim.SGD([w], lr=0.1)
            try:
                for step in range(50):
                    optimizer.zero_grad()
                    ((w - 1) ** 2).sum().backward()
                    optimizer.step()
            finally:
                print("left at", step)
            print("never")
        """
        said = unstuck("--steps", 5, script(text))
        assert said.out.startswith("left at 4\n\nunstuck: no fault found in 5 steps of train.py\n")
        assert said.code == 0


class TestExitCodes:
    def test_that_of_the_script_is_kept(self, unstuck, script):
        said = unstuck(script(FAILS_LATER.format("import sys; sys.exit(3)")))
        assert said.code == 3
        assert "\nunstuck: " in said.out

    def test_a_script_that_raises_shows_its_own_traceback_and_is_still_reported(self, script):
        path = script(FAILS_LATER.format("{}['lr']"))
        ours, plain = process("-m", "unstuck", "run", path), process(path)
        assert ours.stderr == plain.stderr
        assert ours.stderr.splitlines()[0] == "Traceback (most recent call last):"
        assert ours.returncode == plain.returncode == 1
        assert ours.stdout.startswith(plain.stdout + "\nunstuck: no fault found in 5 steps of train.py, which ended")

    def test_findings_do_not_change_it(self, unstuck):
        said = unstuck("--steps", 20, EXAMPLE)
        assert "unstuck: 2 root causes (I002, L001) in 20 steps" in said.out
        assert said.code == 0

    @pytest.mark.parametrize("text", ["print('hello')", "", "import torch; torch.randn(3).tanh()"])
    def test_a_script_that_never_trains(self, unstuck, script, text):
        said = unstuck(script(text, "data.py"))
        assert said.code == 2
        assert "unstuck" not in said.out
        assert said.err == (
            "unstuck: no backward pass was seen, so there is nothing to judge; name the script that trains; "
            "one that starts other processes for it needs `with unstuck.watch():` in what they run\n"
        )

    def test_a_script_whose_loader_is_empty(self, unstuck, script):
        text = """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            for (x,) in DataLoader(TensorDataset(torch.zeros(3, 1)), batch_size=4, drop_last=True):
                raise AssertionError
        """
        said = unstuck(script(dedent(text), "data.py"))
        assert (said.code, said.err) == (2, "")
        assert said.out.startswith("\nunstuck: 1 root cause (T005) in 0 steps of data.py\n")
        assert "T005 zero-steps  " in said.out

    def test_a_script_that_fails_before_it_trains_keeps_its_own_code(self, unstuck, script):
        said = unstuck(script("raise SystemExit(7)"))
        assert (said.code, said.out, said.err) == (7, "", "")

    def test_training_in_another_thread_is_said(self, unstuck, script):
        work = dedent(TINY_TRAINING).replace("\n", "\n    ")
        start = "t = threading.Thread(target=work); t.start(); t.join()"
        said = unstuck(script(f"import threading\ndef work():{work}\n{start}\n"))
        sentence = "the training was done in another thread than the script's own; it is not watched"
        assert (said.code, said.err) == (0, f"unstuck: {sentence}\n")

    def test_a_syntax_error_is_the_scripts_own(self, unstuck, script):
        said = unstuck(script("x = (\n"))
        assert said.code == 1
        assert said.err.endswith("SyntaxError: '(' was never closed\n")
        assert "unstuck" not in said.err


class TestWhatItCost:
    def test_is_the_last_line(self, unstuck, script):
        last = unstuck(script()).out.splitlines()[-1]
        assert re.search(
            r"watching cost [\d.,]+ m?s, ([\d.,]+ % of|more than the) [\d.,]+ m?s of training "
            r"\(11 of 12 steps sampled; [\d.]+ m?s to load not counted\)$",
            last,
        )

    def test_and_a_warning_when_it_was_more_than_allowed(self, unstuck, script):
        said = unstuck(script(FAILS_LATER.format("").replace("range(5)", "range(1100)")))
        assert len(said.out[said.out.index("\nunstuck: ") :].splitlines()) <= 5
        cost, warning = said.out.splitlines()[-1].split("; warning: ")
        assert cost.startswith("watching cost ")
        assert warning.startswith("more than the 1 % allowed: ")

    @pytest.mark.parametrize("options", [["--every", "1"], ["--overhead", "100%", "--steps", "1090"]])
    def test_which_an_option_may_change(self, unstuck, script, options):
        said = unstuck(
            "--output-format", "json", *options, script(FAILS_LATER.format("").replace("range(5)", "range(1100)"))
        )
        watching = json.loads(said.out)["watching"]
        assert watching["budget"] == (None if "--every" in options else 1.0)
        assert watching["sampled"] == 1100 if "--every" in options else watching["sampled"] > 46

    def test_it_is_measured(self, unstuck, script):
        """Steps that sleep take their time, watched or not, and what is added is far less."""
        text = FAILS_LATER.format("").replace("range(5)", "range(30)").replace("w.data", "time.sleep(0.01); w.data")
        report = json.loads(unstuck("--output-format", "json", script("import time\n" + dedent(text))).out)
        watching = report["watching"]
        assert watching["training_seconds"] > 0.2  # 30 sleeps of 0.01 s, of which what watching costs is taken off
        assert 0.0 < watching["seconds"] < 0.5 * watching["training_seconds"]
        assert watching["step_seconds"] > 0.01
        assert watching["sampled"] == len(report["run"]["sampled_steps"])
        assert watching["share"] == pytest.approx(watching["seconds"] / watching["training_seconds"])
        assert report["run"]["watching_seconds"] == watching["seconds"]


class TestRules:
    def test_select_and_ignore(self, unstuck):
        assert "1 root cause (L001)" in unstuck("--select", "L", "--steps", 15, EXAMPLE).out
        said = unstuck("--ignore", "L001,I002,A001,A002", "--steps", 15, EXAMPLE).out
        assert "no fault found" in said


class TestPretrained:
    """Weights that the script has copied in by hand, which nobody can see."""

    def test_nothing_that_changes_the_training_is_done(self, unstuck):
        said = unstuck("--pretrained", "--unsafe-fixes", "--steps", 5, EXAMPLE)
        assert "mended before" not in said.out
        assert "not mended: rescale-weights at " in said.out
        assert ": the network has loaded weights\n" in said.out

    def test_the_start_is_not_judged(self, unstuck):
        report = json.loads(unstuck("--pretrained", "--output-format", "json", "--steps", 5, EXAMPLE).out)
        assert report["run"]["weights_loaded"]
        assert {"I002", "L001"} & {cause["root"]["code"] for cause in report["causes"]} == set()

    def test_every_option_without_a_value_is_known_as_such(self):
        (command,) = (command for name, command in get_command(app).commands.items() if name == "run")
        flags = [option for option in command.params if getattr(option, "is_flag", False)]
        assert {name for option in flags for name in (*option.opts, *option.secondary_opts)} | {"--help"} == SWITCHES

    def test_a_module_keeps_its_arguments_behind_it(self):
        arguments = ["run", "--pretrained", "-m", "package.train", "--steps", "3"]
        assert module_arguments_apart(arguments) == [*arguments[:4], "--", *arguments[4:]]


class TestTheExample:
    def test_it_prints_the_same_to_the_last_digit(self):
        plain = process(EXAMPLE, "--steps", 60)
        watched = process("-m", "unstuck", "run", EXAMPLE, "--steps", 60)
        assert plain.returncode == watched.returncode == 0
        assert plain.stdout.count("\n") >= 20
        assert watched.stdout.startswith(plain.stdout)
        rest = watched.stdout.removeprefix(plain.stdout)
        assert rest.startswith("\nunstuck: 2 root causes (I002, L001) in 60 steps of naive_names.py\n")
        assert f"{EXAMPLE.name}:57" in rest
        assert plain.stderr == watched.stderr == ""

    def test_fix_brings_the_loss_to_its_baseline(self, unstuck):
        before = json.loads(unstuck("--output-format", "json", EXAMPLE, "--steps", 30).out)
        after = json.loads(unstuck("--unsafe-fixes", "--output-format", "json", EXAMPLE, "--steps", 30).out)
        assert before["loss"]["at_start"] > 25
        assert after["loss"]["at_start"] < 3.5
        assert after["loss"]["recent"] < before["loss"]["recent"] / 2
        assert before["fixes"] == []
        assert [fix["code"] for fix in after["fixes"]] == ["I002", "L001"]
        assert {cause["root"]["code"] for cause in before["causes"]} == {"I002", "L001"}
        assert after["ok"] is True


class TestTextOf:
    """What `unstuck fix` runs a patch with: a script in its place, with another file's text."""

    def test_it_is_not_shown(self, unstuck):
        assert not {"--text-of", "--seed"} & set(unstuck("--help").out.split())

    def test_with_a_seed_the_random_numbers_are_given(self, unstuck, script):
        path = script(
            "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(()).item())\n"
        )
        first, same, other = (unstuck("--seed", seed, path).out for seed in (1, 1, 2))
        assert first == same
        assert not set(first.split()) & set(other.split())

    def test_a_file_that_is_not_there(self, unstuck, script, tmp_path):
        said = unstuck("--text-of", tmp_path / "no.py", script())
        assert said.refusal.startswith(f"no script at {tmp_path / 'no.py'}; ")

    def test_the_text_runs_as_the_script(self, unstuck, script, tmp_path):
        script("WORD = 'sibling'\n", "sibling_of_train.py")
        text = "import sys, sibling_of_train\nprint(__file__, sys.argv, sibling_of_train.WORD, 'ça')\n"
        other = script(f"# coding: latin-1\n{text}".encode("latin-1"), "elsewhere/patched.py")
        path = script("raise KeyError\n")
        said = unstuck("--text-of", other, path, "-x")
        assert said.out == f"{path} {[str(path), '-x']} sibling ça\n"
        sys.modules.pop("sibling_of_train")

    def test_a_report_quotes_the_text(self, unstuck, script):
        other = script("# one line more\n" + EXAMPLE.read_text(), "elsewhere/patched.py")
        said = unstuck("--steps", 5, "--output-format", "json", "--text-of", other, EXAMPLE)
        linecache.cache.pop(str(EXAMPLE))
        root = json.loads(said.out)["causes"][0]["root"]
        assert (root["code"], root["location"]["file"]) == ("I002", str(EXAMPLE))
        assert (root["location"]["line"], root["location"]["source"]) == (58, "h = torch.tanh(emb @ W1 + b1)")
