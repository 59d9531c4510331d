"""The result of a run: findings, root causes, what was mended, what could not be checked."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from unstuck.findings import Finding, Severity
from unstuck.rules.causes import Cause
from unstuck.rules.together import of_ranks
from unstuck.trace import Location, Trace
from unstuck.trace.ending import ending

RUNNING_ON = {
    "running": "still runs",
    "broken off": "broke off (its record ends here: the process was killed or could not write)",
}
FORMATS = ("text", "json", "html", "sarif", "github")


class Proof(Protocol):
    """What a trial of a fix showed; see `unstuck.fixes.fix.Proof`."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def loss_before(self) -> float: ...  # noqa: D102
    @property
    def loss_after(self) -> float: ...  # noqa: D102
    @property
    def gone(self) -> bool: ...  # noqa: D102


class AppliedFix(Protocol):
    """What a report needs to know of a fix; see `unstuck.Fix`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def site(self) -> str: ...  # noqa: D102
    @property
    def location(self) -> Location | None: ...  # noqa: D102
    @property
    def statistic(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def before(self) -> float: ...  # noqa: D102
    @property
    def after(self) -> float | None: ...  # noqa: D102
    @property
    def snippet(self) -> str: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def proof(self) -> Proof | None: ...  # noqa: D102
    @property
    def kept(self) -> bool: ...  # noqa: D102
    @property
    def why(self) -> str: ...  # noqa: D102
    @property
    def restarted(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class Edit:
    """What is replaced in a file: from a line and column, 1-based, up to but without another, and the new text."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


@dataclass(frozen=True)
class SourcePatch:
    """The change of the user's source that removes a finding: as a unified diff, and as edits of the file it names.

    `reason` says why there is none; all else is empty then.
    """

    name: str = ""
    summary: str = ""
    diff: str = ""
    edits: tuple[Edit, ...] = ()
    reason: str = ""


def no_patches(findings: Sequence[Finding]) -> Mapping[Finding, SourcePatch]:  # noqa: ARG001
    """Return nothing: nobody looks for patches."""
    return {}


@dataclass(frozen=True)
class NotChecked:
    """A rule that could not judge, and the signal it lacked."""

    code: str
    name: str
    lacking: str


@dataclass(frozen=True)
class RunInfo:
    """What was run: a title, the command line, the environment, how many steps, how long (seconds).

    `exception` is the type and first line of the one that ended it, `signal` SIGINT or SIGTERM where that did.
    `unfinished` says of a stored run without an end that it was "running" when it was read, or is "broken off": its
    process was killed or could not write.
    """

    title: str = "training"
    command: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    steps: int = 0
    seconds: float = 0.0
    watching_seconds: float = 0.0
    exit_code: int | None = None
    stopped: bool = False
    probe: bool = False  # one pass before training, by `check`
    unfinished: str = ""
    exception: str = ""
    signal: str = ""

    @property
    def ending(self) -> str:
        """How it ended otherwise than well, or that it has not ended, as what follows "which"; "" else."""
        return RUNNING_ON.get(self.unfinished) or ending(self.exit_code, self.exception, self.signal)

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than well."""
        return self.unfinished != "running" and bool(self.ending)


@dataclass(frozen=True)
class Report:
    """What unstuck found in a run.

    `findings` in causal order, `causes` the same grouped under their root, `fixes` what was applied, `withheld` what
    was not and why, `not_checked` the rules that lacked a signal, `silenced` the findings that the user does not want
    to hear of. `source_patches` finds the patch of each finding whose rule has one, or why there is none; it is asked
    by renderings for programs alone, since it reads the user's files. Printing a report gives its text.
    """

    findings: tuple[Finding, ...]
    causes: tuple[Cause, ...]
    not_checked: tuple[NotChecked, ...]
    trace: Trace = field(repr=False)
    fixes: tuple[AppliedFix, ...] = ()
    withheld: tuple[str, ...] = ()
    run: RunInfo = RunInfo()
    silenced: tuple[Finding, ...] = ()
    source_patches: Callable[[Sequence[Finding]], Mapping[Finding, SourcePatch]] = field(
        default=no_patches, repr=False, compare=False
    )

    @property
    def ok(self) -> bool:
        """Whether nothing of warning or worse was found in a run that trained."""
        return self.trace.facts.backward_calls > 0 and self.worst < Severity.WARNING

    @property
    def worst(self) -> Severity:
        """The highest severity among the findings; INFO when there are none."""
        return max((finding.severity for finding in self.findings), default=Severity.INFO)

    def codes(self) -> list[str]:
        """Return the codes found, each once, in causal order."""
        return list(dict.fromkeys(finding.code for finding in self.findings))

    def render(
        self, output_format: str = "text", *, width: int = 100, color: bool = False, verbose: bool = False
    ) -> str:
        """Return the report as "text", "json", "html" (a page by itself, without network), "sarif" or "github".

        SARIF is for code scanning, "github" for the log of a workflow. Text that is not `verbose` has 40 lines at most;
        other formats always have everything. Raises ValueError for another format, and ImportError for "html" without
        the extra `html`.
        """
        state = random.getstate()  # importing rich draws from it, and the script may be in mid-training
        try:
            from unstuck.report import github, json, sarif, text  # they import this module

            match output_format:
                case "text":
                    return text.render(self, width=width, color=color, verbose=verbose)
                case "json":
                    return json.render(self)
                case "sarif":
                    return sarif.render(self)
                case "github":
                    return github.render(self)
                case "html":
                    from unstuck.report import html

                    return html.render(self)
                case _:
                    raise ValueError(f"no output format {output_format!r}; choose from {', '.join(FORMATS)}")
        finally:
            random.setstate(state)

    def save(self, folder: Path) -> list[Path]:
        """Write report.json, report.txt and, when there are fixes, fixes.py into an existing or new folder.

        fixes.py holds the snippets that do the same in the user's own code; one of an earlier report goes. With the
        extra `html`, report.html is written as well. A fixes.py of the user stays: the snippets are report.fixes.py
        then. Links in the folder are replaced. Returns the paths of what was written; raises OSError.
        """
        from unstuck.report import snippets, style  # the former imports this module

        folder.mkdir(parents=True, exist_ok=True)
        texts = {f"report.{end}": self.render(name, verbose=True) for end, name in (("json", "json"), ("txt", "text"))}
        texts |= {"report.html": self.render("html")} if style.installed() else {}
        theirs = (folder / snippets.FILE).exists() and not snippets.is_ours(folder / snippets.FILE)
        snippet_file = f"report.{snippets.FILE}" if theirs else snippets.FILE
        texts |= {snippet_file: snippets.render(self)} if any(fix.kept for fix in self.fixes) else {}
        for name, text in texts.items():
            if (folder / name).is_symlink():  # it may lead to any file
                (folder / name).unlink()
            (folder / name).write_text(text, encoding="utf-8")
        if snippets.FILE not in texts and snippets.is_ours(folder / snippets.FILE):
            (folder / snippets.FILE).unlink()
        return [folder / name for name in texts]

    def __str__(self) -> str:
        return self.render().rstrip("\n")

    def _repr_html_(self) -> str:
        """Return what a notebook shows: verdict and root causes, and the loss as a picture with the extra `html`."""
        state = random.getstate()
        try:
            from unstuck.report import html  # it imports this module

            return html.compact(self)
        finally:
            random.setstate(state)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return the same for front ends that ask for all forms at once, with the text."""
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def starting_loss(trace: Trace) -> tuple[float | None, float | None]:
    """Return (objective at step 0, its baseline).

    The baseline is that of the loss call, and is known only where that call alone makes up the objective: with a
    penalty, a sum or several losses the two are not of one kind.
    """
    objective = trace.objective.get(0)
    for call in trace.loss_at_start():
        if objective is None or math.isclose(call.value, objective, rel_tol=1e-3):
            return call.value, call.baseline
    return objective, None


def recent_loss(trace: Trace, window: int = 100) -> float | None:
    """Return the mean finite loss over the last `window` steps, in the loss's own unit."""
    values = [v for _, v in sorted(trace.objective.items())[-window:] if math.isfinite(v)]
    return sum(values) / len(values) if values else None


def rank_losses(trace: Trace, window: int = 100) -> list[float]:
    """Return each rank's mean finite loss (NaN: none) over the merges of the last `window` steps, one at least.

    Empty for a process by itself. A merge brings a rank's mean since the one before, and counts for as many steps.
    """
    steps, losses = of_ranks(trace, "rank_loss")
    if not steps:
        return []
    late = max(1, sum(step > max(trace.objective, default=steps[-1]) - window for step in steps))
    weights = np.diff([-1, *steps])[-late:, None] * np.isfinite(losses[-late:])
    with np.errstate(invalid="ignore"):
        means: list[float] = (np.nansum(losses[-late:] * weights, 0) / weights.sum(0)).tolist()
    return means


def shared(findings: Sequence[Finding]) -> list[tuple[str, int]]:
    """Return (code name, how many) for findings, in order of first appearance."""
    counts: dict[str, int] = {}
    for finding in findings:
        key = f"{finding.code} {finding.name}"
        counts[key] = counts.get(key, 0) + 1
    return list(counts.items())
