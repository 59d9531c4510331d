"""N005. After https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.models import Models
from unstuck.fixes.patches.modes import Leaving, Region, in_eval_mode, modes_set, without_gradients
from unstuck.fixes.patches.order import names_set
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, siblings
from unstuck.fixes.patches.statements import Edit, code, written

SCORES = ("loss", "entropy", "criterion", "accuracy", "error", "nll", "mse", "score", "metric")


class EnterEvalMode(Patcher):
    """Evaluates the network in eval mode.

    ## What it does
    Finds the functions and with-blocks without gradients that run a network to compute a loss or to compare, with no
    `model.eval()` before. Writes `model.eval()` at their start and `model.train()` at their end and before each return;
    what a return computes by running the network is computed before.

    ## When it must not be used
    Where noise in evaluation is wanted (Monte Carlo dropout), or running statistics are to be recalibrated. Refused:
    evaluations in which no network, or more than one, is recognised; networks made inside; generators.

    ## References
    - Autograd mechanics, evaluation mode,
      https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval
    """

    name = "enter-eval-mode"
    code = "N005"
    summary = "put the network into eval mode for each evaluation, and back into train mode"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with evaluations in eval mode."""
        flow = Flow(source)
        models = Models(source, flow)
        edit = Edit(source)
        for region, network in _evaluations(source, flow, models, finding):
            _wrap(source, flow, edit, region, network)
        return edit.module()


def _evaluations(source: Source, flow: Flow, models: Models, finding: Finding) -> list[tuple[Region, str]]:
    """Return the evaluations in train mode, each with its network; raises NoPatch when there are none."""
    regions = [region for region in without_gradients(source) if not _in_forward(source, region)]
    own = {r if isinstance(r, cst.FunctionDef) else source.enclosing(r, cst.FunctionDef) for r in regions}
    own |= {function for function in flow.functions if _sets_mode(source, function)}
    found = []
    for region in regions:
        here = region if isinstance(region, cst.FunctionDef) else source.enclosing(region, cst.FunctionDef)
        networks = models.run_by(region.body, without=[f for f in own if f is not None and f is not here])
        if networks:
            found.append((region, networks))
    line = finding.location.line if finding.location else 0
    inside = [(r, networks) for r, networks in found if source.lines(r)[0] <= line <= source.lines(r)[1]]
    scoring = [(r, networks) for r, networks in inside or found if inside or _scores(source, flow, r)]
    wrong: list[tuple[Region, str]] = []
    for region, networks in scoring:
        left = [network for network in networks if not in_eval_mode(source, flow, region, network)]
        if len(left) > 1:
            raise NoPatch(f"the evaluation at line {source.lines(region)[0]} runs {' and '.join(left)}")
        wrong += [(region, network) for network in left]
    if not wrong:
        raise NoPatch("no evaluation that runs a network without gradients and without `.eval()` is seen in this file")
    return [(r, n) for r, n in wrong if not any(other in source.around(r) for other, _ in wrong)]


def _wrap(source: Source, flow: Flow, edit: Edit, region: Region, network: str) -> None:
    start = written(f"{network}.eval()")
    if network in names_set(source, [region.body]):
        raise NoPatch(f"{network} is made in the evaluation at line {source.lines(region)[0]}")
    restored = any(train for _, train in modes_set(source, region, network))
    if isinstance(region, cst.With):
        whole = _with_loops(source, flow, region)
        body = list(siblings(source, whole))
        following = body[body.index(whole) + 1 :][:1]
        restored = restored or any(train for other in following for _, train in modes_set(source, other, network))
        edit.before(whole, start)
        if not restored and _trains_on(source, flow, whole):
            Leaving(source, edit, network).block(whole)
        return
    if not isinstance(region.body, cst.IndentedBlock):
        raise NoPatch(f"{region.name.value} is written on one line")
    first = region.body.body[0]
    documented = region.get_docstring() is not None
    if documented and len(region.body.body) > 1:
        first = region.body.body[1]
    edit.before(first, start)
    if not restored:
        Leaving(source, edit, network).function(region)


def _with_loops(source: Source, flow: Flow, region: cst.With) -> cst.With | cst.For | cst.While:
    """Return the outermost loop around a with-block that does nothing but evaluate, or the block itself."""
    backwards = [call for call in source.find(cst.Call) if called(call) == "backward" and flow.callee(call) is None]
    whole: cst.With | cst.For | cst.While = region
    for outer in source.around(region):
        if isinstance(outer, cst.FunctionDef) or flow.leads_to(outer, backwards):
            break
        if isinstance(outer, cst.For | cst.While):
            whole = outer
    return whole


def _trains_on(source: Source, flow: Flow, whole: cst.CSTNode) -> bool:
    """Tell whether training may follow: not after a block of the file's own lines that no backward call comes after."""
    backwards = [call for call in source.find(cst.Call) if called(call) == "backward" and flow.callee(call) is None]
    if not backwards or source.enclosing(whole, cst.FunctionDef) is not None:
        return True
    later = [
        statement
        for block, statement in flow.chain(whole)
        for statement in list(block.body)[list(block.body).index(statement) + 1 :]  # type: ignore[arg-type]
    ]
    looping = any(flow.leads_to(loop, backwards) for loop in flow.loops(whole))
    return looping or any(flow.leads_to(statement, backwards) for statement in later)


def _in_forward(source: Source, region: Region) -> bool:
    around = [region, *source.around(region)]
    return any(isinstance(outer, cst.FunctionDef) and outer.name.value == "forward" for outer in around)


def _sets_mode(source: Source, function: cst.FunctionDef) -> bool:
    return any(called(call) == "eval" and "." in code(call.func) for call in source.find(cst.Call, function))


def _scores(source: Source, flow: Flow, region: Region) -> bool:
    """Tell whether a region computes a loss or compares, itself or in a function that it calls."""
    pieces: list[cst.CSTNode] = [region.body]
    for call in source.find(cst.Call, region.body):
        callee = flow.callee(call)
        pieces += [callee.body] if callee is not None else []
    for piece in pieces:
        if source.find(cst.Comparison, piece):
            return True
        names = {code(call.func).lower() for call in source.find(cst.Call, piece)}
        if any(word in name for name in names for word in SCORES):
            return True
    return False
