"""The patches of real training loops: the finding is gone, and the program does as well as its twin."""

import contextlib
import io
import math
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
CLOSED = 0.8  # of the gap between a faulty program and its twin
PAIRS = {  # the first of each is tried here, all by `python -m zoo.evaluate --fix`
    "T001": ["harbour-waves", "ring-points"],
    "T002": ["bracket-depth", "wine-quality"],
    "T003": ["letter-shapes", "pulse-autoencoder"],
    "N004": ["clinic-triage", "leaf-outlines"],
    "N005": ["pair-grammar", "river-gauges"],
    "N010": ["paired-items", "wind-profile"],
}


def watch(program: Path) -> tuple[list[Finding], float]:
    """Return a program's findings and the loss that it prints last."""
    watched, output = Run(Config(), title=program.name), io.StringIO()
    with contextlib.redirect_stdout(output), watched:
        run_program(read_program(program), [])
    found = [finding for cause in watched.report().causes for finding in (cause.root, *cause.also, *cause.symptoms)]
    name, value = output.getvalue().splitlines()[-1].split()
    assert name == "final_loss"
    return found, float(value)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "slug"), [(code, slugs[0]) for code, slugs in PAIRS.items()])
def test_a_patched_loop_trains_as_its_twin_does(code, slug, tmp_path):
    faulty = ZOO / slug / "faulty.py"
    assert tomllib.loads((faulty.parent / "expect.toml").read_text())["root"] == code
    found, before = watch(faulty)
    (patch,) = [patch for patch in propose(faulty.read_text(), found, faulty) if patch.code == code]
    assert isinstance(patch, Patch), patch
    mended = tmp_path / "mended.py"
    mended.write_text(patch.after)
    found, after = watch(mended)
    _, wanted = watch(faulty.with_name("fixed.py"))
    assert code not in {finding.code for finding in found}
    worst = wanted + (1 - CLOSED) * (before - wanted) if math.isfinite(before) else 1.05 * wanted
    assert after <= worst
