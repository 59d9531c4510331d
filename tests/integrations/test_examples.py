"""The examples of neighbours do what their pages show."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "neighbours"
HOW_TO = ROOT / "docs" / "how-to"
LONGEST = 40  # lines of a how-to page


def run(folder, *command):
    """Run Python beside a copy of the examples; returns what it did."""
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, env=environment, timeout=400
    )


def blocks(page, kind):
    """The fenced blocks of a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def assert_shown(page, said):
    """Each line of a page's text block was printed; `…` stands for what differs from run to run."""
    (block,) = blocks(page, "text")
    wanted = [line for line in block.splitlines() if line.strip()]
    assert wanted
    assert [line for line in wanted if not re.search(".*".join(map(re.escape, line.split("…"))), said)] == []


def assert_within(part, whole, where=""):
    """Everything in `part` stands in `whole`; lists have the same length."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{where}.{key}"
            assert_within(value, whole[key], f"{where}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), where
        for index, (one, other) in enumerate(zip(part, whole, strict=True)):
            assert_within(one, other, f"{where}[{index}]")
    else:
        assert part == whole, where


def test_each_neighbour_has_an_example_and_a_page_that_is_short():
    names = {path.stem.removeprefix("with_") for path in EXAMPLES.glob("with_*")} | {"pytest"}
    pages = {name: HOW_TO / f"{name}.md" for name in names}
    assert {name for name, page in pages.items() if not page.exists()} == set()
    assert {name: n for name, page in pages.items() if (n := len(page.read_text().splitlines())) > LONGEST} == {}


@pytest.mark.parametrize(
    ("name", "library"), [("lightning", "lightning"), ("transformers", "transformers"), ("accelerate", "accelerate")]
)
def test_a_trainer(name, library, tmp_path):
    pytest.importorskip(library)
    done = run(tmp_path, f"with_{name}.py")
    assert done.returncode == 0, done.stderr
    assert_shown(HOW_TO / f"{name}.md", done.stdout)
    assert "see `unstuck rule" in done.stderr


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("wandb", "wandb/offline-run-*/run-*.wandb"),
        ("mlflow", "mlruns/**/report.html"),
        ("trackio", "trackio/unstuck.db"),
    ],
)
def test_a_tracker(name, written, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    done = run(tmp_path, "with_trackers.py", name)
    assert done.returncode == 0, done.stderr
    assert "unstuck: no fault found in 100 steps" in done.stdout
    assert "cannot go on logging" not in done.stderr
    assert len(list(tmp_path.glob(written))) == 1


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run(tmp_path, "with_trackers.py", "tensorboard")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    known = EventAccumulator(str(folder)).Reload().Tags()["scalars"]
    (names,) = blocks(HOW_TO / "trackers.md", "names")
    assert set(names.split("\n")) - {""} <= set(known)
    assert (folder / "unstuck-report.html").exists()


BEFORE = {  # what the blocks of a page stand among: the reader's own names
    "accelerate": "from accelerate import Accelerator\naccelerator, loader = Accelerator(cpu=True), [(x, y)]",
    "lightning": "",
    "pytest": "model, inputs, targets = network, x, y",
    "trackers": "def train():\n    F.cross_entropy(network(x), y).backward()",
    "transformers": "import transformers\ntrainer = transformers.Trainer(network)",
}
AFTER = {"pytest": "test_one_with_an_overconfident_start(unstuck.assert_trainable)"}
MADE = """
import torch, unstuck
import torch.nn.functional as F
network, x, y = torch.nn.Linear(20, 3), torch.randn(64, 20), torch.randint(0, 3, (64,))
"""


def test_the_code_on_the_pages_runs_as_it_stands(tmp_path):
    for library in ("lightning", "transformers", "accelerate", "wandb"):
        pytest.importorskip(library)
    pages = {page.stem: blocks(page, "python") for page in sorted(HOW_TO.glob("*.md")) if page.stem != "jupyter"}
    assert {name for name, found in pages.items() if found} == BEFORE.keys()
    parts = [MADE]
    for name, before in BEFORE.items():
        parts += [before, *pages[name], AFTER.get(name, ""), f"print('ran {name}')"]
    done = run(tmp_path, "-c", "\n".join(parts))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("ran ")] == [f"ran {name}" for name in BEFORE]


def test_pytest(tmp_path):
    done = run(tmp_path, "-m", "pytest", "--unstuck-report", "reports", "test_with_pytest.py")
    assert done.returncode == 1, done.stderr
    assert_shown(HOW_TO / "pytest.md", done.stdout)


def test_github_actions(cli, tmp_path, monkeypatch):
    workflow = (EXAMPLES / "github" / "unstuck.yml").read_text()
    commands = [line.split("run: ")[1] for line in workflow.splitlines() if "run: unstuck" in line]
    page = ROOT / "docs" / "github-actions.md"
    assert commands[0] in blocks(page, "sh")[0]
    shutil.copy(EXAMPLES / "accumulating.py", tmp_path / "train.py")
    monkeypatch.chdir(tmp_path)
    said = cli(*commands[0].split()[1:])
    assert said.code == 1
    assert_shown(page, said.out)
    sarif, _, target = commands[1].partition(" > ")
    assert target == "unstuck.sarif"
    assert json.loads(cli(*sarif.split()[1:]).out)["version"] == "2.1.0"


def test_what_agents_read(cli, tmp_path, monkeypatch):
    shutil.copy(EXAMPLES / "accumulating.py", tmp_path / "train.py")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "agents.md"
    shown, rule = map(json.loads, blocks(page, "json"))
    command = blocks(page, "sh")[0].split(" 2>")[0].split()[1:]
    report = json.loads(cli(*command).out)
    assert_within(shown, report)
    assert_within(rule, json.loads(cli("rule", "T001", "--output-format", "json").out))
    patched = (
        (tmp_path / "train.py").read_text().replace("    loss.backward", "    optimizer.zero_grad()\n    loss.backward")
    )
    diff = report["causes"][0]["root"]["patch"]["diff"]
    assert "+    optimizer.zero_grad()\n     loss.backward()" in diff
    (tmp_path / "train.py").write_text(patched)
    after = json.loads(cli(*command).out)
    assert (after["ok"], after["causes"]) == (True, [])


def test_keys_that_the_page_for_agents_names_are_in_the_schema(cli):
    text = (ROOT / "docs" / "agents.md").read_text()
    schema = json.loads(cli("schema").out)
    for path in re.findall(r"^\| `([a-z_\[\].]+)` \|", text, re.MULTILINE):
        node = schema
        for part in path.split("."):
            name = part.removesuffix("[]")
            node = node["properties"][name]
            for _ in range(4):
                if "$ref" in node:
                    node = schema["$defs"][node["$ref"].rpartition("/")[2]]
                elif part.endswith("[]") and "items" in node:
                    node = node["items"]
        assert node, path
