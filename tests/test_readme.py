"""The README's report and table are what the commands print."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def unstuck(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    text = unstuck("demo", "--out", str(out))
    return text, *(json.loads((out / name / "report.json").read_text()) for name in ("before", "after"))


SHARE = r"(\d+) % of the outputs"  # a median over the sampled steps, and which those are depends on measured time


def test_the_report_is_the_real_one(demo):
    quoted = re.search(r"(unstuck: 2 root causes.*?)\n```", README, re.DOTALL).group(1)
    quoted, printed = (" ".join(text.split()) for text in (quoted, demo[0]))  # lines break where the terminal ends
    assert re.sub(SHARE, "N", quoted) in re.sub(SHARE, "N", printed)
    said, measured = (int(re.search(SHARE, text).group(1)) for text in (quoted, printed))
    assert measured == pytest.approx(said, abs=3)


def test_the_table_is_the_real_one(demo):
    """Losses after 20,000 steps may differ in the third digit between processors; all else may not."""

    def rows(text, cell):
        return {r[0].strip(): [float(v.strip().rstrip("%")) for v in r[1:3]] for r in re.findall(cell, text)}

    quoted = rows(
        README.partition("<!-- run: unstuck demo -->")[2].partition("##")[0],
        r"^\| (.+?) +\| +([\d.]+%?) \| +([\d.]+%?) \|$".replace("^", "(?m)^"),
    )
    printed = rows(demo[0], r"│ (.+?) +│ ([\d.]+%?) +│ ([\d.]+%?) +│")
    assert len(quoted) == 7
    assert quoted.keys() == printed.keys()
    for name, values in quoted.items():
        tolerance = 0.03 if name.startswith(("train", "val")) else 1.5 if "%" in name or "median" in name else 2e-4
        assert printed[name] == pytest.approx(values, abs=tolerance), name


def test_the_demo_mends_the_run(demo):
    _, before, after = demo
    assert not before["ok"]
    assert after["ok"]
    assert [fix["code"] for fix in after["fixes"]] == ["I002", "L001"]
