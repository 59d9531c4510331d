"""The patches of real programs, under watch before and after."""

import contextlib
import io
import tomllib
from pathlib import Path

import pytest

from unstuck.api import Run
from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program
from unstuck.config import Config
from unstuck.findings import Finding
from unstuck.fixes.patches.catalogue import propose
from unstuck.fixes.patches.patch import Patch

ZOO = Path(__file__).parents[3] / "zoo" / "faulty"
STEPS = 80  # enough for each of these rules
SLUGS = {  # the first of each is tried here, all by `python -m zoo.evaluate --fix`
    "L004": ["weave-classes", "word-roles"],
    "L005": ["command-intents", "depot-dispatch"],
    "L006": ["flagged-events", "subscriber-churn"],
    "L008": ["article-topics", "faint-spots"],
    "L010": ["engine-power", "tide-height"],
    "A004": ["lookup-grammar", "robot-arm"],
    "N001": ["stroke-images", "wave-family"],
}


def watch(program: Path) -> list[Finding]:
    watched = Run(Config(), max_steps=STEPS, title=program.name)
    with contextlib.redirect_stdout(io.StringIO()), watched:
        run_program(read_program(program), [])
    return [finding for cause in watched.report().causes for finding in (cause.root, *cause.also, *cause.symptoms)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")  # torch's own word on L010
@pytest.mark.parametrize(("code", "slug"), [(code, slugs[0]) for code, slugs in SLUGS.items()])
def test_the_finding_is_gone_from_the_patched_program(code, slug, tmp_path):
    faulty = ZOO / slug / "faulty.py"
    assert tomllib.loads((faulty.parent / "expect.toml").read_text())["root"] == code
    text = faulty.read_text()
    patches = [p for p in propose(text, watch(faulty), faulty) if p.code == code]
    (patch,) = patches
    assert isinstance(patch, Patch), patch
    mended = tmp_path / "mended.py"
    mended.write_text(patch.after)
    assert code not in {finding.code for finding in watch(mended)}
