"""What comments at source lines and settings silence, and what makes a run fail."""

import json

import pytest

NAIVE = """
import torch
import torch.nn.functional as F

torch.manual_seed(0)
W1 = torch.randn(100, 50, requires_grad=True)
W2 = (0.01 * torch.randn(50, 3)).requires_grad_()
for step in range(2):
    x, y = torch.randn(64, 100), torch.randint(0, 3, (64,))
    h = torch.tanh(x @ W1){}
    F.cross_entropy(h @ W2, y).backward()
    for p in (W1, W2):
        p.data -= 0.01 * p.grad
        p.grad = None
{}
"""


@pytest.fixture
def unstuck(cli):
    return lambda *arguments: cli("run", *arguments)


@pytest.fixture
def naive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(mark="", settings="", end=""):
        (tmp_path / "pyproject.toml").write_text(f"[tool.unstuck]\n{settings}\n")
        path = tmp_path / "train.py"
        path.write_text(NAIVE.format(mark, end), encoding="utf-8")
        return path

    return write


class TestSilencing:
    """What comments and settings silence is counted, and changes the verdict."""

    def test_a_comment_at_the_line(self, unstuck, naive):
        said = unstuck("--steps", 2, naive("  # unstuck: ignore[I002, A]"))
        assert "I002" not in said.out.split("silenced: ")[0]
        assert "; silenced: I002 unscaled-weights, A001 saturated; " in said.out
        long = unstuck("--steps", 2, "-v", naive("  # unstuck: ignore[I002, A]")).out
        assert "\nsilenced by comments or settings: I002 unscaled-weights, A001 saturated\n" in long

    def test_a_pattern(self, unstuck, naive):
        said = unstuck("--steps", 2, "--output-format", "json", naive(settings="per-site-ignores.'W1*' = ['I002']"))
        report = json.loads(said.out)
        assert [finding["code"] for finding in report["silenced"]] == ["I002"]
        assert "I002" not in {cause["root"]["code"] for cause in report["causes"]}

    def test_a_threshold(self, unstuck, naive):
        said = unstuck("--steps", 2, naive(settings="thresholds.I002.too_large = 50"))
        assert "I002" not in said.out.split("not checked")[0]


class TestFailOn:
    """The exit code is the script's own, unless findings are to make the run fail."""

    @pytest.mark.parametrize(("level", "code"), [("never", 0), ("warning", 1), ("error", 0)])
    def test_unless_told_to_fail_on_them(self, unstuck, naive, level, code):
        assert unstuck("--fail-on", level, naive()).code == code

    def test_a_run_without_findings_does_not_fail(self, unstuck, naive):
        assert unstuck("--ignore", "I002,L001,A001", "--fail-on", "warning", naive()).code == 0

    def test_nor_does_a_lesser_finding_than_asked_for(self, unstuck, naive):
        assert unstuck("--select", "N", "--fail-on", "warning", naive()).code == 0

    def test_the_scripts_own_failure_comes_first(self, unstuck, naive):
        assert unstuck("--fail-on", "warning", naive(end="raise SystemExit(3)")).code == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("thresholds.U01 = { max_ratio = 1 }", "no rule is called 'U01'; did you mean U001?"),
        ("thresholds.U001 = { ratio = 1 }", "U001 has no threshold 'ratio'; did you mean max_ratio?"),
        ("per-site-ignores.'fc*' = ['Q']", "no rule is called 'Q'; see `unstuck rule --all`"),
    ],
)
def test_settings_about_rules_that_nobody_knows(unstuck, naive, table, message):
    said = unstuck(naive(settings=table))
    assert (said.code, said.out) == (2, "")
    assert said.err.strip().endswith(message)
