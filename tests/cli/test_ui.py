"""`unstuck ui` on the command line: what is refused, what is said, and which browser is asked to open what."""

from __future__ import annotations

import sys
import webbrowser
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from unstuck.capture.script import INTERRUPTED
from unstuck.cli import ui


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The addresses that a browser was told to open."""
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


@pytest.fixture
def served(cli, monkeypatch):
    """Run the command until it would serve, and be interrupted then."""
    server = pytest.importorskip("unstuck.ui.server")

    def interrupted(made) -> None:
        made._socket.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(server.Server, "serve", interrupted)
    return lambda *arguments: cli("ui", "--no-open", *arguments)


class TestRefused:
    @pytest.mark.parametrize("missing", ["starlette", "uvicorn", "altair", "vl_convert"])
    def test_without_the_extra(self, cli, monkeypatch, missing):
        real = ui.find_spec
        monkeypatch.setattr(ui, "find_spec", lambda name: None if name == missing else real(name))
        said = cli("ui").refusal
        assert said.endswith("install them: pip install 'unstuck[ui]'")

    def test_what_is_not_there(self, cli, here):
        assert cli("ui", "--runs-folder", "none").refusal.startswith("there is no folder none; name one in which ")
        assert cli("ui", "latest").refusal.startswith("no run is stored in ")
        assert cli("ui", "2099").refusal == f"there is no stored run '2099' in {here}; `unstuck runs` lists them"
        (here / "x.sqlite").write_text("text")
        assert "is not a run that unstuck has stored" in cli("ui", "x.sqlite", "--no-open").refusal

    def test_a_port_that_is_none(self, cli):
        assert "--port" in cli("ui", "--port", 70_000).refusal

    def test_a_port_that_may_not_be_used(self, cli, monkeypatch):
        server = pytest.importorskip("unstuck.ui.server")

        def refuse(_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(server, "listen", refuse)
        said = cli("ui", "--port", 80).refusal
        assert said == "cannot listen on port 80 of this machine: Permission denied; name another one: --port"


def test_nothing_of_it_is_loaded_with_the_command_line():
    import subprocess

    code = "import sys, unstuck.cli; print([n for n in ('starlette', 'uvicorn', 'unstuck.ui') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"


class TestSaid:
    def test_the_address_with_its_secret_and_nothing_else_on_standard_output(self, served):
        said = served("--port", 0)
        address = urlsplit(said.out.strip())
        assert (address.scheme, address.hostname, said.code) == ("http", "127.0.0.1", INTERRUPTED)
        assert len(address.path.strip("/")) == 43
        assert said.err.splitlines()[-1] == "unstuck: ended"

    def test_another_one_each_time(self, served):
        assert urlsplit(served("--port", 0).out).path != urlsplit(served("--port", 0).out).path

    def test_a_port_in_use(self, served):
        from unstuck.ui.server import listen

        with closing(listen(0)) as taken:
            port = taken.getsockname()[1]
            said = served("--port", port)
        other = urlsplit(said.out.strip()).port
        assert said.err.splitlines()[0] == f"unstuck: port {port} is in use; this is port {other}"

    def test_the_page_of_a_run(self, cli, served, script, here):
        cli("run", "--save", here / "a & b", script())
        (here / "sub").mkdir()
        for arguments in (["a & b"], ["latest"], [here / "a & b" / "run.sqlite", "--runs-folder", here / "sub"]):
            said = served("--port", 0, *arguments)
            assert urlsplit(said.out.strip()).query == "name=a+%26+b", said


class TestBrowser:
    def test_it_is_given_an_address_for_one_use(self, served, cli, opened):
        said = cli("ui", "--open", "--port", 0)
        (address,) = opened
        assert urlsplit(address).netloc == urlsplit(said.out).netloc
        assert urlsplit(address).path != urlsplit(said.out.strip()).path  # others see a browser's command line

    def test_none_unless_someone_sits_there(self, served, cli, opened):
        cli("ui", "--port", 0)
        assert opened == []

    def test_none_can_be_opened(self, served, cli, monkeypatch):
        monkeypatch.setattr(webbrowser, "open", lambda _: False)
        assert "unstuck: no browser could be opened" in cli("ui", "--open", "--port", 0).err
