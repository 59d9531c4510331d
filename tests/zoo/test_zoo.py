"""Every program of the zoo under `unstuck run`: faults are found and pointed at, healthy programs are left in peace."""

import importlib.util
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from zoo.collection import in_part

from unstuck.rules.catalogue import all_rules
from zoo import forked

ZOO = Path(__file__).resolve().parents[2] / "zoo"
FAULTY = sorted(path.parent for path in (ZOO / "faulty").glob("*/expect.toml"))
FIXED = [folder / "fixed.py" for folder in FAULTY]
HEALTHY = sorted(path for path in (ZOO / "healthy").glob("*.py") if path.stem != "__init__")
ARCHITECTURES = sorted((ZOO / "healthy" / "architectures").glob("*.py"))
NEEDS_TRANSFORMERS = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="needs the optional packages: pip install 'unstuck[third-party]'",
)
MISSED = {  # faults that are not led by their root, and working programs with an alarm: what the rules do not do yet
    "ring-throws": "the sign of a likelihood of torch.distributions, which is no call of a known loss",
    "coin_students": "43 % of a ReLU's units die, and it trains well all the same",
    "seven_segments": "updates are 6 % of a weight matrix, and it trains well all the same",
    "sketch_faces_vae": "49 % of a ReLU's units die, and it trains well all the same",
    "tile_codebook": "41 % of a ReLU's units die, and it trains well all the same",
}
PART = (1, 6)  # a fixed sixth, as `python -m zoo.evaluate --part 1/6` takes it


def expected(folder):
    """What must be found in a faulty program."""
    return tomllib.loads((folder / "expect.toml").read_text(encoding="utf-8"))


def part_of(paths, name, *marks):
    """Parameters for each program that belongs to the part, with these marks."""
    own = {slug: (pytest.mark.xfail(reason=why, strict=True),) for slug, why in MISSED.items()}
    kept = [path for path in paths if in_part(name(path), *PART)]
    return [
        pytest.param(path, marks=(*marks, *own.get(name(path), ())) if path.stem != "fixed" else marks) for path in kept
    ]


def watched(script, codes=(0,)):
    """Run a script under watch in a process of its own, which ends with one of these codes; return the report."""
    beside = script.parent / "expect.toml"
    processes = expected(script.parent).get("processes", 1) if beside.exists() else 1
    done = forked.python(["-m", "unstuck", "run", "--output-format", "json", str(script)], processes=processes)
    assert done.returncode in codes, done.stderr
    report = json.loads(done.stdout)
    assert report["run"]["internal_error"] is None
    return report


def test_the_collections_are_there():
    assert len(FAULTY) >= 90
    assert len(HEALTHY) >= 50
    assert len(ARCHITECTURES) >= 15


def test_each_rule_is_the_root_of_two_programs_or_more():
    roots = Counter(expected(folder)["root"] for folder in FAULTY)
    assert {code: roots[code] for code in all_rules() if roots[code] < 2} == {}
    assert len(ARCHITECTURES) >= 15


@pytest.mark.parametrize(
    "script",
    part_of(FIXED, lambda path: path.parent.name)
    + part_of(HEALTHY, lambda path: path.stem)
    + part_of(ARCHITECTURES, lambda path: path.stem, NEEDS_TRANSFORMERS),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_working_programs_are_left_in_peace(script):
    report = watched(script)
    severe = [cause["root"]["message"] for cause in report["causes"] if cause["root"]["severity"] != "info"]
    assert severe == []
    assert report["ok"]


@pytest.mark.parametrize("folder", part_of(FAULTY, lambda path: path.name), ids=lambda path: path.name)
def test_faults_are_found_and_pointed_at(folder):
    wanted = expected(folder)
    report = watched(folder / "faulty.py", (0, 2))  # 2: it never trained, which may be the fault
    found = {f["code"] for cause in report["causes"] for f in (cause["root"], *cause["explains"])}
    assert set(wanted["codes"]) <= found
    root = report["causes"][0]["root"]
    assert root["code"] == wanted["root"]
    assert Path(root["location"]["file"]).name == "faulty.py"
    assert root["location"]["line"] == wanted["line"]


@pytest.mark.parametrize("folder", FAULTY, ids=lambda path: path.name)
def test_nothing_gives_the_fault_away(folder):
    for name in ("faulty.py", "fixed.py"):
        text = (folder / name).read_text(encoding="utf-8").lower()
        assert "unstuck" not in text
        assert not re.search(r"\b(bug|fault|wrong|mistake|broken)", text)
