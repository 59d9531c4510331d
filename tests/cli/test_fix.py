"""`unstuck fix`: shows patches that were proven, writes them when told to, and never anything else."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from unstuck.cli import fix as command
from unstuck.cli.fix import render
from unstuck.fixes import scripts
from unstuck.fixes.files import SourceFile
from unstuck.fixes.fix import Proof
from unstuck.fixes.patches.patch import Patch
from unstuck.fixes.scripts import Repaired, ScriptRun, Tried

pytestmark = pytest.mark.usefixtures("run_here")

SOFTMAX = """
    import sys
    import torch
    from torch import nn

    torch.manual_seed(0)
    x = torch.randn(256, 10)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
HEALTHY = SOFTMAX.replace(", nn.Softmax(dim=1)", "")
TELLS = "unstuck: running train.py for 60 steps\nunstuck: trying drop-softmax for L004 at line 11: 60 steps\n"
DIFF = """
--- a/train.py
+++ b/train.py
@@ -5,7 +5,7 @@
 torch.manual_seed(0)
 x = torch.randn(256, 10)
 y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
-model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
+model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
 optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
 for step in range(60):
     loss = nn.functional.cross_entropy(model(x), y)
"""


@pytest.fixture
def unstuck(cli):
    return lambda *arguments: cli("fix", *arguments)


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Missing argument 'SCRIPT'; see `unstuck fix --help`"),
            (["--bogus", "train.py"], "No such option: --bogus; see `unstuck fix --help`"),
            (["nothing.py"], "no script at nothing.py; check the path (now in {})"),
            (["."], "no script at .; check the path (now in {})"),
        ],
    )
    def test_what_names_no_script(self, unstuck, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        assert unstuck(*arguments).refusal == message.format(tmp_path)

    def test_no_steps(self, unstuck, script, run_here):
        assert unstuck("--steps", 0, script()).refusal.startswith("Invalid value for '--steps'")
        assert run_here == []

    def test_a_notebook(self, unstuck, script, run_here):
        path = script("{}", "a.ipynb")
        assert unstuck(path).refusal == (
            f"{path} is a notebook, which cannot be patched; run it with `unstuck run` and mend the cells it names"
        )

    def test_a_script_or_folder_that_cannot_be_written_is_told_before_any_run(
        self, unstuck, script, run_here, monkeypatch
    ):
        path = script(SOFTMAX)
        for locked in (path, path.parent):
            monkeypatch.setattr(os, "access", lambda file, mode, locked=locked: (file, mode) != (locked, os.W_OK))
            assert unstuck("--write", path).refusal == (
                f"cannot write {path} or its folder; check the permissions, or leave --write out to see the patches"
            )
        assert run_here == []

    def test_bytes_of_no_encoding(self, unstuck, script, run_here):
        path = script(b"# coding: klingon\n")
        assert unstuck(path).refusal.startswith(f"cannot read {path}: unknown encoding")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("print('hello')\n", "no backward pass was seen in {}; name the script that trains"),
            ("x = (\n", "{} ends before any training (exit code 1): SyntaxError: '(' was never closed"),
        ],
    )
    def test_a_script_that_does_not_train(self, unstuck, script, text, reason):
        path = script(text)
        said = unstuck("--steps", 60, path)
        assert (said.code, said.out) == (2, "")
        assert said.err == f"unstuck: running train.py for 60 steps\nunstuck: {reason.format(path)}\n"


class TestShown:
    def test_a_proven_patch(self, unstuck, script):
        path = script(SOFTMAX)
        before = path.read_bytes()
        said = unstuck("--steps", 60, path)
        first, proof, *rest = said.out.splitlines(keepends=True)
        assert first == (
            "kept: drop-softmax for L004 at train.py:11: "
            "hand the logits to the loss, which applies the softmax itself\n"
        )
        assert proof.startswith("    loss after 60 steps ")
        assert proof.endswith(", the finding is gone\n")
        assert "".join(rest) == f"{DIFF}\nnothing is written; `unstuck fix --write --steps 60 {path}` does\n"
        assert (said.code, said.err) == (0, TELLS)
        assert (path.read_bytes(), os.listdir(path.parent)) == (before, ["train.py"])

    def test_the_command_to_write_with_is_the_whole_one(self, unstuck, script, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        script(SOFTMAX, "-odd.py")
        assert unstuck("--", "-odd.py", "--name", "a b").out.endswith(
            "nothing is written; `unstuck fix --write -- -odd.py --name 'a b'` does\n"
        )

    def test_the_scripts_own_options_are_the_scripts(self, unstuck, script, run_here):
        path = script(HEALTHY)
        assert unstuck("--steps", 99, path, "--write", "--steps", "7").out == "no fault found in 60 steps\n"
        assert run_here[0][-4:] == [str(path), "--write", "--steps", "7"]

    def test_more_may_be_found_in_more_steps(self, unstuck, script):
        said = unstuck("--steps", 20, script(HEALTHY))
        assert said.out == "no fault found in 20 steps; a larger --steps looks at more, such as an evaluation\n"

    def test_a_script_that_fails_after_its_training(self, unstuck, script):
        said = unstuck("--steps", 99, script(HEALTHY + "    raise KeyError('lr')\n"))
        assert said.out == "train.py itself fails after 60 steps: KeyError: 'lr'\nno fault found in 60 steps\n"
        assert said.code == 0

    def test_a_fault_in_a_module_is_named_and_left(self, unstuck, script, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        script(
            "from torch import nn\ndef loss_of(p, y):\n    return nn.functional.cross_entropy(p.softmax(1), y)\n",
            "losses_of_the_script.py",
        )
        text = HEALTHY.replace("import sys", "import losses_of_the_script")
        said = unstuck(
            "--steps", 60, script(text.replace("nn.functional.cross_entropy(", "losses_of_the_script.loss_of("))
        )
        assert said.out == (
            "no patch for L004 at losses_of_the_script.py:3: only train.py is patched; "
            "`unstuck rule L004` says what to change there\n"
        )

    def test_a_fault_that_is_mended_while_it_trains(self, unstuck, script):
        text = HEALTHY.replace("    optimizer = ", "    model[2].weight.data *= 90\n    optimizer = ")
        path = script(text)
        said = unstuck("--steps", 60, path, "7")
        (line,) = said.out.splitlines()
        assert line.startswith("no patch for ")
        assert "L001" in line
        assert line.endswith(f": mended while it trains by `unstuck run --unsafe-fixes {path} 7`")

    def test_a_fault_that_nothing_mends(self, unstuck, script):
        path = script(
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            model = torch.nn.Linear(3, 1)
            loader = DataLoader(TensorDataset(torch.randn(5, 3)), batch_size=8, drop_last=True)
            for (x,) in loader:
                model(x).sum().backward()
            """
        )
        assert unstuck("--steps", 60, path).out == f"no patch for T005: see `unstuck run {path}`\n"

    def test_a_fault_whose_form_is_not_understood(self, unstuck, script):
        text = HEALTHY.replace("cross_entropy(model(x), y)", "cross_entropy(*[model(x).softmax(1), y])")
        text = text.replace("model(x).softmax(1)", "getattr(model(x), 'softmax')(1)")
        said = unstuck("--steps", 60, script(text))
        assert said.out.startswith("no patch for L004 at train.py:11: ")

    @pytest.mark.parametrize(
        ("code", "after", "said"),
        [
            ("L004", 2.0, "; the loss is another one, so the two numbers do not compare"),
            ("T001", 2.0, "; the updates are of another size, so the two numbers do not compare"),
            ("T002", 2.0, ""),
            ("L004", 0.5, ""),
        ],
    )
    def test_a_patch_that_is_kept_with_a_larger_number_says_why(self, code, after, said):
        file = SourceFile(Path("train.py"), "a\nb\nc\n", "utf-8")
        run = ScriptRun((), 1.0, 60, 0)
        patch = Patch("first", code, file.path, 3, "a\nnew\nb\nc\n", "a\nnew\nC\n", "do it")
        proof = Proof(60, 1.0, after, True)
        result = Repaired(file, [], run, patch.after, run, [Tried(patch, proof, True)])
        assert render(result).splitlines()[:2] == [
            f"kept: first for {code} at train.py:2: do it",
            f"    loss after 60 steps 1 → {after:g}, the finding is gone{said}",
        ]

    def test_a_patch_that_was_not_proven(self, unstuck, script, monkeypatch):
        monkeypatch.setattr(scripts, "_objection", lambda *_, **__: "it did harm")
        path = script(SOFTMAX)
        before = path.read_bytes()
        said = unstuck("--steps", 60, "--write", path)
        assert said.out.startswith("not kept: drop-softmax for L004 at train.py:11: ")
        _, proof, *shown = said.out.splitlines(keepends=True)
        assert proof.endswith(", the finding is gone; it did harm\n")
        assert "\n" + textwrap.dedent("".join(shown)) == DIFF
        assert (path.read_bytes(), os.listdir(path.parent)) == (before, ["train.py"])


class TestWritten:
    def test_the_patch_and_a_backup(self, unstuck, script):
        path = script(SOFTMAX)
        before = path.read_bytes()
        path.chmod(0o750)
        said = unstuck("--steps", 60, "--write", path)
        backup = path.with_name("train.py.orig")
        assert said.out.endswith(f"{DIFF}\n{path} is patched; the script as it was: {backup}\n")
        assert path.read_bytes() == before.replace(b", nn.Softmax(dim=1)", b"")
        assert backup.read_bytes() == before
        assert {stat.S_IMODE(file.stat().st_mode) for file in (path, backup)} == {0o750}
        assert sorted(os.listdir(path.parent)) == ["train.py", "train.py.orig"]

    def test_each_time_a_new_backup(self, unstuck, script):
        path = script(SOFTMAX)
        before = path.read_bytes()
        for _ in range(3):
            path.write_bytes(before)
            assert unstuck("--steps", 60, "--write", path).code == 0
        backups = ["train.py.orig", "train.py.orig1", "train.py.orig2"]
        assert sorted(os.listdir(path.parent)) == ["train.py", *backups]
        assert [path.with_name(name).read_bytes() for name in backups] == [before] * 3

    def test_twice_the_second_time_there_is_nothing_to_do(self, unstuck, script):
        path = script(SOFTMAX)
        unstuck("--steps", 60, "--write", path)
        assert unstuck("--steps", 99, "--write", path).out == "no fault found in 60 steps\n"
        assert sorted(os.listdir(path.parent)) == ["train.py", "train.py.orig"]

    @pytest.mark.parametrize(
        ("start", "encoding"), [("", "utf-8"), ("\ufeff", "utf-8"), ("# coding: latin-1\n", "latin-1")]
    )
    def test_byte_for_byte_outside_the_change(self, unstuck, script, start, encoding):
        text = start + "".join(line.removeprefix("    ") for line in SOFTMAX.lstrip().splitlines(keepends=True))
        data = (text.replace("\n", "\r\n") + "# \tfin, ça va  ").encode(encoding)
        path = script(data)
        assert unstuck("--steps", 60, "--write", path).code == 0
        assert path.read_bytes() == data.replace(b", nn.Softmax(dim=1)", b"")
        assert path.with_name("train.py.orig").read_bytes() == data

    def test_through_a_symbolic_link(self, unstuck, script, tmp_path):
        path = script(SOFTMAX)
        before = path.read_bytes()
        (tmp_path / "links").mkdir()
        link = tmp_path / "links" / "go.py"
        link.symlink_to(path)
        assert unstuck("--steps", 60, "--write", link).code == 0
        assert link.is_symlink()
        assert path.read_bytes() == before.replace(b", nn.Softmax(dim=1)", b"")
        assert sorted(os.listdir(link.parent)) == ["go.py", "go.py.orig"]
        assert (link.with_name("go.py.orig").is_symlink(), os.listdir(path.parent).count("train.py")) == (False, 1)

    def test_not_over_a_script_that_was_changed_meanwhile(self, unstuck, script, monkeypatch):
        path, prove = script(SOFTMAX), scripts._prove

        def edit(*arguments):
            path.write_text("edited = True\n")
            return prove(*arguments)

        monkeypatch.setattr(scripts, "_prove", edit)
        said = unstuck("--steps", 60, "--write", path)
        assert said.code == 2
        assert said.err.endswith(
            f"unstuck: {path} was changed while it was tried; nothing is written, run the command again\n"
        )
        assert (path.read_text(), os.listdir(path.parent)) == ("edited = True\n", ["train.py"])

    @pytest.mark.parametrize("name", ["replace", "chmod", "fdopen"])
    def test_all_or_nothing(self, unstuck, script, monkeypatch, name):
        path = script(SOFTMAX)
        before = path.read_bytes()

        def full(file, *_, **__):
            if isinstance(file, int):
                os.close(file)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as here:
            here.setattr(command.os, name, full)
            said = unstuck("--steps", 60, "--write", path)
        assert said.code == 2
        assert said.err.endswith(f"unstuck: cannot write {path}: No space left on device; it is as it was\n")
        assert (path.read_bytes(), os.listdir(path.parent)) == (before, ["train.py"])


class TestInterrupted:
    def test_in_a_trial(self, unstuck, script, monkeypatch, tmp_path):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        run, path = scripts.run_script, script(SOFTMAX)

        def interrupted(script, arguments, steps, options=()):
            if options:
                assert len(os.listdir(tmp_path / "temporary")) == 1
                raise KeyboardInterrupt
            return run(script, arguments, steps)

        monkeypatch.setattr(scripts, "run_script", interrupted)
        before = path.read_bytes()
        said = unstuck("--steps", 60, "--write", path)
        assert (said.code, said.out, said.err) == (130, "", TELLS)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path / "temporary") == []
        assert sorted(os.listdir(tmp_path)) == ["temporary", "train.py"]

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_as_processes(self, script, tmp_path, number, code):
        """The run that was going on ends as well."""
        (tmp_path / "temporary").mkdir()
        text = SOFTMAX.replace("60", "10 ** 9").replace(
            "        loss.b", "        open('going', 'a').close()\n        loss.b"
        )
        path = script(text.replace("import sys", "import sys, time"))
        process = subprocess.Popen(
            [sys.executable, "-m", "unstuck", "fix", "--write", "--steps", str(10**9), "train.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs of a script's shell ignore it
        )
        going = tmp_path / "going"
        while not going.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (code, "", f"unstuck: running train.py for {10**9} steps\n")
        assert not list((tmp_path / "temporary").glob("unstuck-*"))
        going.unlink()
        time.sleep(0.3)
        assert not going.exists()
        assert path.read_text().count("Softmax") == 1


@pytest.mark.slow
def test_as_processes_from_a_fresh_folder(script, tmp_path):
    """The whole of it, as a user has it: a sibling module, a file beside the script, arguments."""
    script("SIZE = 16\n", "sizes.py")
    script("256", "n.txt")
    text = SOFTMAX.replace("import sys", "import sys, sizes").replace("Linear(10, 16)", "Linear(10, sizes.SIZE)")
    text = text.replace("randn(256", "randn(int(open('n.txt').read())").replace("lr=0.1", "lr=float(sys.argv[1])")
    path = script(text)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", "fix", "--write", "--steps", "60", "train.py", "0.1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, TELLS)
    assert done.stdout.endswith("train.py is patched; the script as it was: train.py.orig\n")
    assert path.read_bytes() == before.replace(b", nn.Softmax(dim=1)", b"")
    assert Path(tmp_path / "train.py.orig").read_bytes() == before
