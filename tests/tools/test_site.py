"""The site builds with no warning, and asks for nothing of another host; patterns in its nav; options in its text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools.site import expanded, on_page_content

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"' >]+)|<link\b[^>]*\bhref=[\"']?([^\"' >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


class TestTheSite:
    def test_every_page_is_in_it(self, site):
        pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
        assert len(pages) > 100
        assert {page for page in pages if not (site / page).is_file()} == set()

    def test_no_page_loads_anything_from_elsewhere(self, site):
        loaded = [
            (path.name, url)
            for path in site.rglob("*.html")
            for found in LOADED.finditer(path.read_text("utf-8"))
            for url in found.groups()
            if url and re.match(r"(?:https?:)?//", url)
        ]
        assert loaded == []

    def test_nor_does_a_stylesheet(self, site):
        sheets = list(site.rglob("*.css"))
        assert sheets
        assert [path.name for path in sheets if re.search(r"url\([\"']?(?:https?:)?//", path.read_text("utf-8"))] == []

    def test_each_picture_is_there(self, site):
        for path in site.rglob("*.html"):
            for name in re.findall(r"<img\b[^>]*\bsrc=[\"']?([^\"' >]+)", path.read_text("utf-8")):
                assert name.startswith("data:") or (path.parent / name).is_file(), (path.name, name)


class TestNav:
    PAGES = ("index.md", "b.md", "a.md", "how-to/z.md", "how-to/index.md", "how-to/deep/x.md")

    def test_without_patterns_it_stays_as_it_is(self):
        nav = ["index.md", {"A": "a.md"}, {"More": ["b.md", {"Deep": "how-to/deep/x.md"}]}]
        assert expanded(nav, self.PAGES) == nav

    def test_a_pattern_takes_what_lies_in_its_folder_the_index_first(self):
        assert expanded([{"How": "how-to/*.md"}], self.PAGES) == [{"How": ["how-to/index.md", "how-to/z.md"]}]

    def test_and_not_what_another_line_names(self):
        nav = [{"More": "*.md"}, {"Start": ["index.md", "b.md"]}]
        assert expanded(nav, self.PAGES) == [{"More": ["a.md"]}, nav[1]]

    def test_patterns_in_a_list_and_a_page_that_two_match(self):
        nav = [{"Some": ["how-to/z.md", "b*.md"]}, {"More": "*.md"}]
        assert expanded(nav, self.PAGES) == [{"Some": ["how-to/z.md", "b.md"]}, {"More": ["index.md", "a.md"]}]

    def test_a_heading_without_pages_goes(self):
        assert expanded(["a.md", {"None": "none/*.md"}, {"Both": [{"In": "none/*.md"}]}], self.PAGES) == ["a.md"]

    def test_a_page_that_is_not_there_stays_for_mkdocs_to_tell(self):
        assert expanded(["gone.md"], self.PAGES) == ["gone.md"]


class TestOptions:
    @pytest.mark.parametrize(
        "html",
        [
            "<p>well-known --fix</p>",
            "<code>a-b per-site-ignores x - y a--b</code>",
            "<pre><span></span><code>run --fail-on error</code></pre>",
        ],
        ids=["text", "names", "block"],
    )
    def test_what_is_none_stays_as_it_is(self, html):
        assert on_page_content(html) == html

    def test_an_option_stays_in_one_line(self):
        html = "<p><code>run --fail-on error -v</code> and <code>-o</code></p>"
        assert on_page_content(html) == (
            '<p><code>run <span class="option">--fail-on</span> error <span class="option">-v</span></code> and '
            '<code><span class="option">-o</span></code></p>'
        )
