"""Mend one program and say, as JSON on the last line, what was done and what came of it.

    python -m zoo.fix_one PROGRAM.py [--metric NAME] [--root CODE]

A program whose root has a patch is mended in its source, as `unstuck fix PROGRAM` does; any other while it trains, as
`unstuck run --unsafe-fixes PROGRAM` does. Either way it then runs to its end under watch.
"""

import argparse
import io
import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from unstuck.api import Run
from unstuck.capture.programs import read_script
from unstuck.capture.script import run_program
from unstuck.config import Config
from unstuck.fixes.patches.catalogue import Refusal, all_patchers, propose
from unstuck.fixes.scripts import repair_script

STEPS = 1000  # at most, of each run that proves a patch: some evaluate after their last step alone


def fix(program: Path, metric: str, root: str | None) -> dict[str, Any]:
    """Mend a program by a patch or in flight, run it, and return what was seen."""
    patches, refused = [], []
    if root in all_patchers():
        repaired = repair_script(program, [], STEPS)
        patches, refused = [tried.patch.name for tried in repaired.kept], [r.reason for r in repaired.refused]
        with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
            text_of = Path(folder) / program.name
            text_of.write_text(repaired.after, encoding="utf-8")
            read = read_script(program, text_of)
    else:
        read = read_script(program)
    watched, output = Run(Config(), unsafe_fixes=root not in all_patchers()), io.StringIO()
    with redirect_stdout(output), watched:
        outcome = run_program(read, [])
    report = watched.report()
    values = [line.split()[1] for line in output.getvalue().splitlines() if line.startswith(f"{metric} ")]
    fixes = [] if root in all_patchers() else [fix.name for fix in report.fixes]
    proposals = propose(program.read_text(encoding="utf-8"), report.findings, program) if root is None else []
    named = [name for finding in report.findings if finding.code == root for name in finding.fixes]
    mended = [fix for fix in report.fixes if fix.code == root]
    return {
        "exit_code": outcome.exit_code,
        "internal_error": report.trace.facts.internal_error,
        "metric": values[-1] if values else None,
        "codes": report.codes(),
        "not_checked": [rule.code for rule in report.not_checked],
        "fixes": list(dict.fromkeys([*patches, *fixes])),
        "patched": root in all_patchers(),
        "offered": bool(named or mended or root in all_patchers()),
        "withheld": [*report.withheld, *refused],
        "proposed": [proposal.name for proposal in proposals if not isinstance(proposal, Refusal)],
    }


def main() -> int:
    """Read the arguments, mend the program, and print the result."""
    parser = argparse.ArgumentParser(prog="python -m zoo.fix_one", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--metric", default="final_loss")
    parser.add_argument("--root")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(fix(options.program.resolve(), options.metric, options.root)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
