"""Take the pictures of the page in the README and the tutorial with the system's chromium.

    python -m tools.screenshots [--all FOLDER]

Writes docs/images/, of runs of the scripts in `SCRIPTS`. With `--all` it writes to FOLDER instead the whole page at
three widths, light and dark, of a run of the README's example and of one that was mended, to be looked at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path("examples", "naive_names.py")
IMAGES = ROOT / "docs" / "images"
PICTURES = {  # file -> theme, first and last element, width in CSS pixels
    "causes.png": ("light", "header", "#causes", 1000),
    "charts.png": ("dark", "#loss", "#dead-units", 1000),
    "tutorial.png": ("light", "header", "#causes > article >> nth=0", 1000),
}
SCRIPTS = dict.fromkeys(PICTURES, SCRIPT) | {"tutorial.png": Path("examples", "tutorial", "stuck.py")}
WIDTHS = (360, 800, 1400)
THEMES = ("light", "dark")
COMMANDS = ("chromium", "chromium-browser", "google-chrome")
MARGIN = 12  # CSS pixels around a part of the page


def record(folder: Path, *options: str, script: Path = SCRIPT) -> Path:
    """Run an example under watch; returns its page."""
    command = [sys.executable, "-m", "unstuck", "run", "--no-record", "--save", str(folder), *options, str(script)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=one_thread)
    return folder / "report.html"


def opened(browser: Browser, page: Path, width: int, theme: str) -> Page:
    """Open a page with all its charts drawn, in a window as high as it."""
    size: ViewportSize = {"width": width, "height": 900}
    tab = browser.new_page(viewport=size, color_scheme="dark" if theme == "dark" else "light", offline=True)
    tab.goto(page.as_uri())
    charts = tab.locator(".chart:visible")
    for number in range(charts.count()):
        charts.nth(number).scroll_into_view_if_needed()
        charts.nth(number).locator("canvas").wait_for()
    tab.set_viewport_size({"width": width, "height": tab.evaluate("document.documentElement.scrollHeight")})
    tab.evaluate("scrollTo(0, 0)")
    tab.wait_for_timeout(500)  # for what is drawn anew
    return tab


def picture(browser: Browser, page: Path, path: Path, theme: str, first: str, last: str, width: int) -> None:
    """Write the part of a page from one element to another."""
    tab = opened(browser, page, width, theme)
    top, bottom = tab.locator(first).bounding_box(), tab.locator(last).bounding_box()
    if top is None or bottom is None:
        raise SystemExit(f"{path.name}: the page has no {first} or no {last} to be seen")
    begin, end = max(0.0, top["y"] - MARGIN), bottom["y"] + bottom["height"] + MARGIN
    tab.screenshot(path=path, clip={"x": 0, "y": begin, "width": width, "height": end - begin})
    tab.close()


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="write the whole page at three widths, light and dark"
    )
    folder: Path | None = parser.parse_args().all
    chromium = next((found for found in map(shutil.which, COMMANDS) if found), None)
    if chromium is None:
        raise SystemExit(f"none of {', '.join(COMMANDS)} is on the PATH; `apt install chromium` brings one")
    target = folder or IMAGES
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        if folder is None:
            pages = {script: record(Path(runs, script.stem), script=script) for script in set(SCRIPTS.values())}
            for name, how in PICTURES.items():
                picture(browser, pages[SCRIPTS[name]], target / name, *how)
        else:
            found = {"naive": record(Path(runs, "naive")), "mended": record(Path(runs, "mended"), "--unsafe-fixes")}
            for name, page in found.items():
                for width in WIDTHS:
                    for theme in THEMES:
                        tab = opened(browser, page, width, theme)
                        tab.screenshot(path=target / f"{name}-{width}-{theme}.png")
                        tab.close()
        browser.close()
    for path in sorted(target.glob("*.png")):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1e3:.0f} kB\n")


if __name__ == "__main__":
    main()
