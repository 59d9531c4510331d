"""How large a stored run becomes and how long its page takes: `python -m benchmarks.page [--steps N] [--places N]`.

First a run is simulated: a loss at each step, and 2,500 sampled steps of ten layers (100 units, tanh) with the numbers
that capture takes of them. Printed are the largest size that its file had and the seconds from the file to the page, in
this process (in brackets: of the CPU) and for `unstuck report` as a whole, which loads torch and makes Vega's code.
Then a page of many places is opened in chromium, if there is one: until it stands, until search has answered, and the
longest time it was not to be spoken to.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.report.html import library
from unstuck.runs import read_report
from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Edge, Kind, LossCall, Role, Site, Trace
from unstuck.trace.recording import Recording
from unstuck.trace.store import bytes_of

UNITS, BATCH = 100, 32
TANH = (-2.0845, 2.0845)
SAMPLED = 2_500
MIB = 2**20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONGEST = """() => new Promise((done) => {
  let longest = 0;
  const note = (task) => { longest = Math.max(longest, task.duration); };
  new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ type: "longtask", buffered: true });
  setTimeout(() => done(longest), 1000);
})"""
ANSWER = """(wanted) => new Promise((done) => {
  const began = performance.now();
  const box = document.getElementById("search");
  box.value = wanted;
  box.dispatchEvent(new Event("input"));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began), 0)); // after the next picture
})"""


def network(layers: int) -> tuple[Trace, list[tuple[int, Role]], SummaryTable]:
    """Return a trace with the sites of a chain of layers, and what one step enters: keys and their summaries."""
    trace, entries = Trace(), []
    g = torch.Generator().manual_seed(0)

    def normal(std: float, *shape: int) -> torch.Tensor:
        return std * torch.randn(*shape, generator=g)

    def site(kind: Kind, op: str, path: str, **fields: Any) -> Site:
        made = Site(len(trace.sites), kind, op, path, None, len(trace.sites), **fields)
        trace.sites.append(made)
        return made

    def enter(at: Site, role: Role, summary: TensorSummary) -> None:
        entries.append(((at.index, role), summary))

    before: Site | None = None
    for k in range(layers):
        layer = site(Kind.WEIGHT_LAYER, "linear", f"blocks.{k}.fc", fan_in=UNITS)
        weight = site(Kind.PARAMETER, "parameter", f"blocks.{k}.fc.weight", slot="weight", shape=(UNITS, UNITS))
        weight.owner, layer.parameters = layer.index, (weight.index,)
        activation = site(Kind.ACTIVATION, "tanh", f"blocks.{k}.act", interval=TANH, gain=5 / 3, bounded=True)
        trace.edges.add(Edge(layer.index, activation.index, True))
        if before is not None:
            trace.edges.add(Edge(before.index, layer.index, True))
        before = activation
        pre = normal(1.2, BATCH, UNITS)
        enter(layer, Role.OUTPUT, summarise(pre))
        enter(layer, Role.OUTPUT_GRADIENT, summarise(normal(1e-3, BATCH, UNITS)))
        enter(activation, Role.INPUT, summarise(pre, unit_dim=-1, interval=TANH))
        for role, std in ((Role.VALUE, 0.1), (Role.GRADIENT, 1e-3), (Role.UPDATE, 1e-4)):
            enter(weight, role, summarise(normal(std, UNITS, UNITS)))
    keys, summaries = zip(*entries, strict=True)
    return trace, list(keys), SummaryTable.of(list(summaries))


def simulate(path: Path, steps: int, layers: int = 10) -> int:
    """Write a run of so many steps; returns the largest size its files had together, in bytes."""
    trace, keys, table = network(layers)
    recording, largest = Recording(path), 0
    recording.follow(trace)
    info = {"run": {"title": "simulated.py", "steps": steps}, "ended": time.time()}
    sampled = {*range(10), *np.unique(np.linspace(0, steps - 1, SAMPLED).astype(int)).tolist()}
    for step in range(steps):
        trace.objective[step] = 1.0 + 2.0 / math.sqrt(step + 1)
        if step not in sampled:
            continue
        trace.facts.backward_calls = step + 1
        trace.loss_calls.append(LossCall(step, keys[0][0], trace.objective[step], 3.3))
        trace.add_step(step)
        trace.add_table(step, keys, table)
        while not recording.hand_over(trace, info):  # a real run samples at most a few steps a second
            time.sleep(1e-3)
        largest = max(largest, bytes_of(path))
    recording.close(trace, info)
    return max(largest, bytes_of(path))


def time_page(path: Path, page: Path) -> str:
    """Write a run's page; return in words the seconds it took here, of the CPU in brackets, and as a command."""
    library()  # Vega's JavaScript is made once a process
    read_report(path)  # rules are imported
    marks = [(time.perf_counter(), time.process_time())]
    report, _ = read_report(path)
    marks.append((time.perf_counter(), time.process_time()))
    text = report.render("html")
    marks.append((time.perf_counter(), time.process_time()))
    page.write_text(text, encoding="utf-8")
    reading, drawing = (
        f"{after[0] - before[0]:.2f} s ({after[1] - before[1]:.2f})" for before, after in itertools.pairwise(marks)
    )
    begun = time.perf_counter()
    command = [sys.executable, "-m", "unstuck", "report", str(path), "-o", str(page)]
    subprocess.run(command, check=True, capture_output=True)
    whole = time.perf_counter() - begun
    size = page.stat().st_size / MIB
    return f"page: {reading} to read and judge, {drawing} to draw; `unstuck report`: {whole:.2f} s; {size:.1f} MiB"


def time_browser(page: Path, wanted: str) -> str:
    """Return in words how long a page takes to stand and to answer a search; "" without a browser."""
    browser = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if browser is None:
        return ""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=browser) as chromium:
        tab = chromium.new_page()
        begun = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator("#loss canvas").wait_for()
        stands = time.perf_counter() - begun
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.wait_for_timeout(2_000)
        answer = tab.evaluate(ANSWER, wanted)
        found = tab.locator("#found").inner_text()
        longest = tab.evaluate(LONGEST)
    return (
        f"{stands:.2f} s until the loss is drawn; search: {found} after {answer:.0f} ms; longest task {longest:.0f} ms"
    )


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the simulated run")
    parser.add_argument("--places", type=int, default=300, help="of the page that is opened in a browser")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, page = Path(folder, "run.sqlite"), Path(folder, "page.html")
        largest, left = simulate(run, given.steps) / MIB, bytes_of(run) / MIB
        print(f"{given.steps:,} steps: at most {largest:.1f} MiB while written, {left:.1f} MiB at the end")
        print(time_page(run, page))
        many = Path(folder, "many.sqlite")
        simulate(many, 5_000, layers=max(1, given.places // 3))
        print(f"{given.places} places")
        print(time_page(many, page))
        print(time_browser(page, "blocks.7.") or f"no browser ({', '.join(BROWSERS)}): the page was not opened")


if __name__ == "__main__":
    main()
