"""How far each threshold of a rule could be moved before a program of the zoo is judged otherwise.

    python -m tools.margins CODE ... [--half tuned|frozen|all] [--records FOLDER]

Every program is run under watch once and its record kept in FOLDER, so that a second call takes seconds. A threshold
is then moved both ways, up to a thousandfold, and each program judged again: printed is the value nearest to the
present one at which a silent working program raises an alarm, and at which a faulty one is no longer found. None (–)
means that no value does it, since other conditions of the rule decide. Thresholds are set by the tuned half alone.
"""

import argparse
import io
import math
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

from zoo.evaluate import Program, frozen, programs

from unstuck.api import Run
from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program
from unstuck.config import Config
from unstuck.findings import Severity
from unstuck.rules.catalogue import get_rule
from unstuck.rules.rule import Rule
from unstuck.trace import Trace

ROOT = Path(__file__).resolve().parents[1]
FACTOR = 1000.0  # times, by which a threshold is moved at most
HALVINGS = 14  # of that range, on a logarithmic scale; the value is then known to 0.1 %
HEAD = "| threshold | value | alarm in a working program | which | fault not found | which |\n"
Named = tuple[str, Trace]  # a program's name and its record


def record(program: str, file: str) -> None:
    """Run a program under watch and keep its record."""
    watched = Run(Config(), title=program)
    with redirect_stdout(io.StringIO()), watched:
        run_program(read_program(Path(program)), [])
    Path(file).write_bytes(pickle.dumps(watched.report().trace))


def read(program: Program, folder: Path) -> Named:
    """Return a program's record, from the folder if it is there, else from a run in a process of its own."""
    kind = program.path.stem if program.path.stem in ("faulty", "fixed") else "healthy"
    file = folder / f"{kind}--{program.name}.pkl"
    if not file.exists():
        call = f"from tools.margins import record; record({str(program.path)!r}, {str(file)!r})"
        subprocess.run([sys.executable, "-c", call], cwd=ROOT, check=True)
    return program.name, pickle.loads(file.read_bytes())


def fires(rule: type[Rule], trace: Trace, settings: dict[str, float]) -> bool:
    """Tell whether a rule raises an alarm; for one that is for information only, whether it says anything."""
    judge, least = rule(settings), min(rule.severity, Severity.WARNING)
    return judge.lacking(trace) is None and any(finding.severity >= least for finding in judge.detect(trace))


def turn(rule: type[Rule], trace: Trace, name: str) -> float | None:
    """Return the value nearest to a threshold's present one at which the verdict turns, or None."""
    value = rule.thresholds()[name].value
    now, turns = fires(rule, trace, {}), []
    for end in (value / FACTOR, value * FACTOR):
        if fires(rule, trace, {name: end}) == now:
            continue
        same, other = value, end
        for _ in range(HALVINGS):
            middle = math.sqrt(same * other)
            same, other = (middle, other) if fires(rule, trace, {name: middle}) == now else (same, middle)
        turns.append(other)
    return min(turns, key=lambda x: abs(math.log(x / value)), default=None)


def nearest(rule: type[Rule], name: str, traces: Iterable[Named], *, fired: bool) -> tuple[float, str] | None:
    """Return where the first of the programs turns that are judged rightly at present (`fired`, or silent)."""
    value = rule.thresholds()[name].value
    turns = [(x, p) for p, trace in traces if fires(rule, trace, {}) == fired and (x := turn(rule, trace, name))]
    return min(turns, key=lambda found: abs(math.log(found[0] / value)), default=None)


def rows(rule: type[Rule], faulty: list[Named], working: list[Named]) -> str:
    """Return the rows of a rule's thresholds."""
    text = ""
    for name, threshold in rule.thresholds().items():
        turns = [nearest(rule, name, working, fired=False), nearest(rule, name, faulty, fired=True)]
        cells = [f"{found[0]:.3g} | {found[1]}" if found else "– | –" for found in turns]
        text += f"| {rule.code} `{name}` | {threshold.value:g} | {' | '.join(cells)} |\n"
    return text


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.margins", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("codes", nargs="+", metavar="CODE", help="the rules whose thresholds are moved")
    parser.add_argument("--half", choices=("tuned", "frozen", "all"), default="tuned")
    parser.add_argument("--records", type=Path, default=Path(tempfile.gettempdir()) / "unstuck-zoo", metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.records.mkdir(parents=True, exist_ok=True)
    rules, apart = [get_rule(code) for code in options.codes], frozen()
    sides = {"tuned": [False], "frozen": [True], "all": [False, True]}[options.half]
    faulty, working = ([p for p in half if (p.name in apart) in sides] for half in programs())
    silent = [read(program, options.records) for program in working]
    sys.stdout.write(f"{HEAD}|---|---:|---:|---|---:|---|\n")
    for rule in rules:
        own = [read(program, options.records) for program in faulty if rule.code in program.codes]
        sys.stdout.write(rows(rule, own, silent))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
