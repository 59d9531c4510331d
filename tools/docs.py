"""Write the pages that are made of something else: from docstrings, commands and measurements.

docs/rules/, docs/remedies/ and the README's table are what the rules and remedies say, docs/cli/ what the commands do
(`tools.cli_pages`), the tables of docs/accuracy.md and docs/cost.md what was measured (`tools.tables`).

    python -m tools.docs [--check]

With `--check` nothing is written; files that are not as they would be written are named, and the exit code is 1.
"""

import argparse
import inspect
import sys
from pathlib import Path

from tools import cli_pages, tables
from unstuck.fixes import fold_norm
from unstuck.fixes.catalogue import all_remedies
from unstuck.fixes.fix import Applicability
from unstuck.fixes.patches.catalogue import all_patchers
from unstuck.fixes.patches.patch import Patcher
from unstuck.fixes.remedy import Remedy
from unstuck.rules.catalogue import all_rules
from unstuck.rules.rule import Rule

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- rules: python -m tools.docs -->", "<!-- end of rules -->"
GROUPS = {
    "D": "Data",
    "I": "Initialisation",
    "L": "Loss and output layer",
    "N": "Normalisation, training and evaluation mode",
    "A": "Activations",
    "S": "Attention and sequences",
    "G": "Gradients",
    "U": "Updates and optimizer",
    "T": "Training loop",
    "R": "Several processes",
}


def page(rule: type[Rule]) -> str:
    """Return a rule's page."""
    facts = [f"- severity: {rule.severity}", f"- named at stage: {rule.stage.name.lower()}"]
    if rule.explains:
        known = all_rules()
        links = (f"[{code}]({code}.md)" for code in rule.explains if code in known)
        facts.append(f"- may explain: {', '.join(links)}")
    mending = [*rule.fixes, *([all_patchers()[rule.code].name] if rule.code in all_patchers() else [])]
    if mending:
        facts.append(f"- mended by: {', '.join(f'[{name}](../remedies/{name}.md)' for name in mending)}")
    limits = [f"| `{name}` | {limit.value:g} | {limit.unit} |" for name, limit in rule.thresholds().items()]
    if limits:
        where = f"Set in `[tool.unstuck.thresholds.{rule.code}]` of pyproject.toml."
        limits = ["", "## Thresholds", where, "", "| name | value | unit |", "|---|---:|---|", *limits]
    return "\n".join([f"# {rule.code} {rule.name}", "", rule.documentation(), *limits, "", *facts, ""])


def remedy_page(remedy: type[Remedy]) -> str:
    """Return a remedy's page."""
    offered = [code for code, rule in all_rules().items() if remedy.name in rule.fixes]
    when = "while it trains" if remedy.in_flight else "after its first forward pass"
    option = "--fix" if remedy.applicability is Applicability.SAFE else "--unsafe-fixes"
    facts = [
        f"- applicability: {remedy.applicability.value}",
        f"- applied to a model by `unstuck.fix` and `unstuck check {option}`, "
        f"to a script {when} by `unstuck run {option}`",
        *([f"- offered by: {_links(offered)}"] if offered else []),
    ]
    return "\n".join([f"# {remedy.name}", "", remedy.documentation(), "", *facts, ""])


def _links(codes: list[str]) -> str:
    return ", ".join(f"[{code}](../rules/{code}.md)" for code in codes)


def patch_page(patcher: type[Patcher]) -> str:
    """Return a patch's page."""
    facts = ["- shown, proven and with `--write` applied by `unstuck fix SCRIPT`", f"- for: {_links([patcher.code])}"]
    return "\n".join([f"# {patcher.name}", "", patcher.documentation(), "", *facts, ""])


def fold_page() -> str:
    """Return the page of folding norms, which no finding offers."""
    facts = ["- applicability: safe", "- applied by `unstuck.fold_norms`, to a trained model"]
    return "\n".join([f"# {fold_norm.NAME}", "", inspect.cleandoc(fold_norm.__doc__ or ""), "", *facts, ""])


def remedy_index() -> str:
    """Return the page that lists the remedies and the patches."""
    lines = ["# Remedies", "", "Written by `python -m tools.docs` from their own docstrings.", ""]
    lines += ["Changes of a model, made by `unstuck.fix`, `unstuck check --fix` and `unstuck run --fix`:", ""]
    remedies, patchers = all_remedies(), sorted(all_patchers().values(), key=lambda patcher: patcher.name)
    lines += [
        f"- [{name}]({name}.md) ({remedy.applicability.value}): {_first(remedy.documentation())}"
        for name, remedy in remedies.items()
    ]
    folding = f"[{fold_norm.NAME}]({fold_norm.NAME}.md), `unstuck.fold_norms`"
    lines += ["", f"By hand, for a trained model: {folding}; `unstuck.recalibrate`.", ""]
    lines += ["Patches of a script, made by `unstuck fix SCRIPT`:", ""]
    lines += [f"- [{p.name}]({p.name}.md) ({p.code}): {_first(p.documentation())}" for p in patchers]
    return "\n".join([*lines, ""])


def _first(text: str) -> str:
    return text.splitlines()[0]


def table(link: str) -> str:
    """Return the table of all rules; `link` is the path of their pages."""
    rows = ["| code | name | what it finds |", "|---|---|---|"]
    for code, rule in all_rules().items():
        rows.append(f"| [{code}]({link}{code}.md) | {rule.name} | {rule.sections()[''].rstrip('.')} |")
    return "\n".join(rows)


def index() -> str:
    """Return the page that lists the rules by group."""
    lines = ["# Rules", "", "Written by `python -m tools.docs` from the rules' own docstrings.", ""]
    for letter, title in GROUPS.items():
        own = [rule for code, rule in all_rules().items() if code[0] == letter]
        if own:
            lines += [f"## {title}", ""]
            lines += [f"- [{rule.code} {rule.name}]({rule.code}.md): {rule.sections()['']}" for rule in own]
            lines.append("")
    return "\n".join(lines)


def readme() -> str:
    """Return the README with its table of rules as it should be; raises ValueError when it has no place for one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN!r} and {END!r} to put the table between")
    return f"{before}{BEGIN}\n{table('docs/rules/')}\n{END}{after}"


def wanted() -> dict[Path, str]:
    """Return the files as they should be."""
    folder = ROOT / "docs" / "rules"
    pages = {folder / f"{code}.md": page(rule) for code, rule in all_rules().items()}
    remedies = ROOT / "docs" / "remedies"
    pages |= {remedies / f"{name}.md": remedy_page(remedy) for name, remedy in all_remedies().items()}
    pages |= {remedies / f"{patcher.name}.md": patch_page(patcher) for patcher in all_patchers().values()}
    pages[remedies / f"{fold_norm.NAME}.md"] = fold_page()
    commands = ROOT / "docs" / "cli"
    pages |= {commands / name: text for name, text in cli_pages.pages().items()}
    for name in tables.PAGES:
        pages[ROOT / name] = tables.filled((ROOT / name).read_text(encoding="utf-8"), name)
    return {
        ROOT / "README.md": readme(),
        folder / "index.md": index(),
        remedies / "index.md": remedy_index(),
        **pages,
    }


def stale() -> list[Path]:
    """Return the files that are not as they should be, and pages of what there is not."""
    files = wanted()
    gone = [path for folder in ("rules", "remedies", "cli") for path in (ROOT / "docs" / folder).glob("*.md")]
    gone = [path for path in gone if path not in files]
    changed = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return [*changed, *gone]


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; name the files that are stale")
    options = parser.parse_args(arguments)
    old = stale()
    for path in old:
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    if options.check:
        return 1 if old else 0
    files = wanted()
    for path in old:
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
