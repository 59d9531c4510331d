"""Repairs a script's source: runs it in processes of its own, with and without each patch.

The script runs under watch for some steps, as `unstuck run --steps N` does; what that finds proposes patches
(`fixes.patches`); each is tried by a run of the patched text in the script's place, and only those that make their
finding go and do no harm are kept. Nothing is written here.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.findings import Evidence, Finding, Place, Severity
from unstuck.fixes.files import SourceFile, read_source
from unstuck.fixes.fix import Proof
from unstuck.fixes.patches.catalogue import Refusal, all_patchers, propose
from unstuck.fixes.patches.patch import Patch
from unstuck.trace.sites import Location

SEED = 0  # of what a script does not seed itself
MAX_ROUNDS = 10  # patches tried, one after the other
WORSE = 0.05  # of the loss; two runs of one script whose random numbers fall otherwise differ by as much


class ScriptFailedError(RuntimeError):
    """A run that ended without a report; the message holds the last lines it wrote."""


@dataclass(frozen=True)
class ScriptRun:
    """What a watched run of a script showed; `loss` is its mean objective over the last steps, infinite if it broke.

    `exit_code` is the script's own; `error` the last line on standard error of a script that failed; `stopped` says
    that the limit of steps ended it.
    """

    findings: tuple[Finding, ...]
    loss: float
    steps: int
    exit_code: int
    error: str = ""
    stopped: bool = False


@dataclass(frozen=True)
class Tried:
    """A patch, what proved it or did not, and why it was not kept."""

    patch: Patch
    proof: Proof
    kept: bool
    why: str = ""


@dataclass
class Repaired:
    """A script as it was, its text after, its runs, the patches tried in order, and which findings have none."""

    file: SourceFile
    arguments: Sequence[str]
    first: ScriptRun
    after: str
    last: ScriptRun
    tried: list[Tried] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    @property
    def kept(self) -> list[Tried]:
        """The patches that were proven."""
        return [tried for tried in self.tried if tried.kept]

    def line_in_script(self, text: str, line: int) -> int:
        """Return the line of the script as it was that became a line of `text`, its text after some patches.

        Of a line that a patch has made: where it was put.
        """
        before, after = self.file.text.split("\n"), text.split("\n")
        for _, start, end, first, last in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if first < line <= last:
                return min(start + line - first, max(start + 1, end), len(self.file.text.splitlines()))
        return line


def run_script(script: Path, arguments: Sequence[str], steps: int, options: Sequence[str] = ()) -> ScriptRun:
    """Run a script under watch for at most `steps` updates, from the beginning of its input if that is a file.

    Random numbers that the script does not seed itself, and the order of its sets, are the same in every run.
    Raises ScriptFailedError when it ends without any training that can be judged.
    """
    command = [sys.executable, "-m", "unstuck", "run", "--output-format", "json", "--steps", str(steps)]
    command += ["--seed", str(SEED), *options, "--", str(script), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=_input(),
        env={"PYTHONHASHSEED": str(SEED), **os.environ, "UNSTUCK_RECORD": "0"},
    )
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    last += "; its standard input is empty here, unless it is a file" if last.startswith("EOFError") else ""
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise ScriptFailedError(f"{script} gave no report (exit code {done.returncode}): {last}") from None
    loss, run = report["loss"]["recent"], report["run"]
    findings = tuple(finding for cause in report["causes"] for finding in _findings(cause))
    if run["internal_error"]:
        raise ScriptFailedError(f"watching {script} ended by an internal error: {run['internal_error']}")
    if run["exit_code"] and not run["backward_calls"]:
        raise ScriptFailedError(f"{script} ends before any training (exit code {run['exit_code']}): {last}")
    if not run["backward_calls"] and not findings:  # findings may say why there is no training
        raise ScriptFailedError(f"no backward pass was seen in {script}; name the script that trains")
    error = last if run["exit_code"] else ""
    loss = math.inf if loss is None else loss
    return ScriptRun(findings, loss, run["steps"], run["exit_code"], error, run["stopped_by_step_limit"])


def _input() -> int | None:
    """Return what a run has as standard input: a file that was redirected there, from its start; else nothing.

    A pipe or a terminal could be read by one run only.
    """
    try:
        if stat.S_ISREG(os.fstat(0).st_mode):
            os.lseek(0, 0, os.SEEK_SET)
            return None
    except OSError:  # it is closed
        pass
    return subprocess.DEVNULL


def repair_script(
    script: Path, arguments: Sequence[str], steps: int, said: Callable[[str], None] = lambda _: None
) -> Repaired:
    """Find and prove patches for a script, root causes first; `said` is told what is being done.

    Raises ScriptFailedError when the script does not train, OSError and ValueError when it cannot be read.
    """
    file = read_source(script)
    said(f"running {script.name} for {steps} steps")
    first = run_script(script, arguments, steps)
    result = Repaired(file, arguments, first, file.text, first)
    seen: set[str] = {file.text}
    for _ in range(MAX_ROUNDS):
        patch = next(_proposals(result, seen), None)
        if patch is None:
            break
        seen.add(patch.after)
        line = result.line_in_script(patch.before, patch.line)
        said(f"trying {patch.name} for {patch.code} at line {line}: {steps} steps")
        tried, run = _prove(result, patch, arguments, steps)
        result.tried.append(tried)
        if tried.kept:
            result.after, result.last = patch.after, run
    return result


def _proposals(result: Repaired, seen: set[str]) -> Iterator[Patch]:
    """Yield the patches of the text as it now is, by what was last found in it; note what has none."""
    result.refused = []
    for proposal in propose(result.after, result.last.findings, result.file.path):
        if isinstance(proposal, Refusal):
            result.refused.append(proposal)
        elif proposal.after not in seen:
            yield proposal


def _prove(result: Repaired, patch: Patch, arguments: Sequence[str], steps: int) -> tuple[Tried, ScriptRun]:
    """Run the patched text and compare it with the text before."""
    before = result.last
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
        script = result.file.path
        file = Path(folder) / script.name
        file.write_bytes(result.file.encoded(patch.after))
        try:
            after = run_script(script, arguments, steps, ["--text-of", str(file)])
        except ScriptFailedError as error:
            after = ScriptRun((), math.inf, 0, 1, str(error))
    gone = sum(f.code == patch.code for f in after.findings) < sum(f.code == patch.code for f in before.findings)
    proof = Proof(min(steps, max(before.steps, after.steps)), before.loss, after.loss, gone)
    why = _objection(before, after, patch, gone=gone)
    return Tried(patch, proof, not why, why), after


def _objection(before: ScriptRun, after: ScriptRun, patch: Patch, *, gone: bool) -> str:
    """Say why a patch is not to be kept; "" when it is."""
    if after.exit_code and (not before.exit_code or after.steps < before.steps):
        return f"the patched script fails: {after.error}"
    if not gone:
        return f"{patch.code} is still found"
    if not math.isfinite(after.loss):
        return "the patched training breaks"
    known = {finding.code for finding in before.findings}
    if worse := [f.code for f in after.findings if f.severity is Severity.ERROR and f.code not in known]:
        return f"the patched script shows {', '.join(dict.fromkeys(worse))}"
    comparable = not all_patchers()[patch.code].incomparable()
    if comparable and math.isfinite(before.loss) and after.loss - before.loss > WORSE * abs(before.loss):
        return "the loss became worse"
    return ""


def _findings(cause: dict[str, Any]) -> Iterable[Finding]:
    for data in (cause["root"], *cause["also"], *cause["explains"]):
        yield finding_from(data)


def finding_from(data: dict[str, Any]) -> Finding:
    """Rebuild a finding from a report's JSON."""
    return Finding(
        data["code"],
        data["name"],
        Severity[data["severity"].upper()],
        data["site"],
        _location(data["location"]),
        (data["steps"][0], data["steps"][1]),
        data["measured"],
        data["threshold"],
        data["unit"],
        data["message"],
        tuple(Evidence(e["name"], math.nan if e["value"] is None else e["value"], e["unit"]) for e in data["evidence"]),
        tuple(data["fixes"]),
        related=tuple(Place(place["site"], _location(place["location"])) for place in data["related"]),
    )


def _location(data: dict[str, Any] | None) -> Location | None:
    return None if data is None else Location(data["file"], data["line"], data["function"])
