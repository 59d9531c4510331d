"""The fixtures see what they are there to see."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error

from . import conftest


class TestWithoutABrowser:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")

    def test_it_is_skipped(self, monkeypatch):
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match="apt install chromium"):
            conftest.chromium()

    def test_but_fails_in_continuous_integration(self, monkeypatch):
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
            conftest.chromium()


class TestVisit:
    def test_messages_errors_and_requests_are_noted(self, visit, tmp_path):
        path = tmp_path / "page.html"
        path.write_text("<img src=x.png><script>console.log('a'); setTimeout(() => { throw new Error('b'); })</script>")
        made = visit(path)
        made.page.wait_for_timeout(100)
        assert "log: a" in made.said
        assert "error: b" in made.said
        assert made.asked == [path.as_uri(), (tmp_path / "x.png").as_uri()]

    def test_there_is_no_network(self, visit):
        with pytest.raises(Error, match="ERR_INTERNET_DISCONNECTED"):
            visit("http://127.0.0.1:9/")

    def test_what_sticks_out_is_measured(self, visit, tmp_path):
        path = tmp_path / "page.html"
        path.write_text("<body style='margin:0'><p style='width:400px'>wide</p></body>")
        assert visit(path, width=360).overflow == 40
        assert visit(path, width=800).overflow == 0
