"""What SECURITY.md promises of files that strangers have made, and of what is never done."""

from __future__ import annotations

import ast
import json
import linecache
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tools.fuzz.targets import runs

from unstuck.capture.programs import read_program
from unstuck.config import Config, load
from unstuck.runs import read_report
from unstuck.trace import folder as stored_runs
from unstuck.trace import store
from unstuck.trace.store import StoreError, read, read_info

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HARM = "\x1b[31m\x1b]0;title\x07\r\n::stop-commands::x\n##[add-mask]y\u202e\u2028"


@pytest.fixture
def run(tmp_path) -> Path:
    path = tmp_path / "stranger.sqlite"
    path.write_bytes(runs()[0])
    return path


def change(path: Path, *statements: str, values: tuple[object, ...] = ()) -> Path:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement, values)
        db.commit()
    return path


def place_sites_in(path: Path, file: str, *, keep: bool = False) -> Path:
    """Let all sites of a run lie in a file; the run holds its text only with `keep`."""
    with closing(sqlite3.connect(path)) as db:
        for number, data in db.execute("SELECT number, data FROM sites").fetchall():
            made = json.loads(data)
            made["location"] = made["location"] and [file, 1, "f"]
            db.execute("UPDATE sites SET data = ? WHERE number = ?", (json.dumps(made), number))
        if not keep:
            db.execute("DELETE FROM sources")
        db.commit()
    return path


class TestStoredRuns:
    @pytest.mark.parametrize(
        "statements",
        [
            ("DROP TABLE samples", "CREATE VIEW samples AS SELECT 1 AS id, 1 AS step, zeroblob(9) AS data"),
            ("DROP TABLE names", "CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT AS (zeroblob(900000000)))"),
            ("CREATE TABLE more (a)",),
            ("DROP INDEX samples_by_step",),
        ],
        ids=["view", "computed", "more", "less"],
    )
    def test_other_tables_are_never_asked(self, run, statements):
        change(run, *statements)
        for reader in (read, read_info):
            with pytest.raises(StoreError, match="its tables are not those of a stored run"):
                reader(run)

    def test_one_of_many_bytes_is_not_opened(self, run):
        os.truncate(run, store.LARGEST_FILE + 1)  # sparse: it takes no room
        with pytest.raises(StoreError, match="it has 256 MiB"):
            read(run)
        assert "256 MiB" in stored_runs.describe(run).trouble

    def test_what_is_no_file_is_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.sqlite")
        for path in (tmp_path / "pipe.sqlite", Path("/dev/zero")):
            with pytest.raises(StoreError, match="there is no stored run"):
                read(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("run", {"title": 5}),
            ("run", {"title": "a", "command": "rm"}),
            ("run", {"title": "a", "steps": 1e300}),
            ("run", {"title": "a", "more": 1}),
            ("fixes", [{}]),
            ("withheld", [["a"]]),
            ("config", {"ignore": [1]}),
            ("stretches", {"a": 1}),
        ],
    )
    def test_what_it_says_of_itself_has_its_types(self, run, key, value):
        change(run, "UPDATE info SET value = ? WHERE key = ?", values=(json.dumps(value), key))
        with pytest.raises(StoreError, match="is damaged"):
            read_report(run)

    def test_the_lines_of_a_file_that_it_names_are_not_read(self, run, tmp_path, monkeypatch):
        secret = tmp_path / "secret.py"
        secret.write_text("KEY = 'do not tell'  # unstuck: ignore\n")
        place_sites_in(run, str(secret))
        monkeypatch.setattr(linecache, "updatecache", lambda *_: pytest.fail("a file of this machine was read"))
        report, _ = read_report(run)
        assert report.findings
        assert not report.silenced
        for name in ("text", "json", "sarif", "github", "html"):
            assert "do not tell" not in report.render(name)

    def test_a_device_that_it_names_is_not_read(self, run):
        report, _ = read_report(place_sites_in(run, "/dev/zero"))
        assert "I002" in report.render("json")

    def test_no_process_is_signalled(self, run, monkeypatch):
        asked = []
        monkeypatch.setattr(os, "kill", lambda process, number: asked.append(number))
        change(run, "DELETE FROM info WHERE key = 'ended'")
        read_report(run)
        assert set(asked) == {0}  # which only tells whether there is one


class TestOutput:
    @pytest.fixture
    def hostile(self, run) -> Path:
        with closing(sqlite3.connect(run)) as db:
            for number, data in db.execute("SELECT number, data FROM sites").fetchall():
                made = {**json.loads(data), "path": HARM, "variable": HARM, "module": HARM}
                db.execute("UPDATE sites SET data = ? WHERE number = ?", (json.dumps(made), number))
            told = {"title": HARM, "started": "2026-01-01T00:00:00+00:00", "versions": {HARM: HARM}}
            db.execute("UPDATE info SET value = ? WHERE key = 'run'", (json.dumps(told),))
            db.execute("UPDATE info SET value = ? WHERE key = 'withheld'", (json.dumps([HARM]),))
            db.execute("UPDATE sources SET text = ?", ("\x1b[2J::error::x\n" * 900,))
            db.commit()
        return run

    @pytest.mark.parametrize("arguments", [(), ("-v",), ("--output-format", "github")])
    def test_a_terminal_and_a_runner_obey_nothing(self, cli, hostile, arguments):
        out = cli("report", hostile, *arguments).out
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]", out)
        commands = [line for line in out.splitlines() if line.lstrip().startswith("::")]
        assert all(re.match(r"::(error|warning|notice) ", line) for line in commands)
        assert bool(commands) == ("github" in arguments)
        assert "##[" not in "".join(line for line in out.splitlines() if line not in commands)
        assert "␛[31m" in out

    def test_the_list_of_runs(self, cli, hostile):
        out = cli("runs", hostile.parent).out
        assert "␛[31m" in out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]|##\[", out)

    @pytest.mark.parametrize("name", ["json", "sarif"])
    def test_programs_get_plain_ascii(self, hostile, name):
        text = read_report(hostile)[0].render(name)
        assert text.isascii()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        json.loads(text)

    def test_an_error(self, cli):
        assert cli("report", f"{HARM}.sqlite").refusal.startswith("there is no stored run '")
        assert "␛" in cli("run", "\x1b[2J.py").refusal


class TestPlaces:
    def test_a_scripts_name_leads_nowhere_else(self, tmp_path):
        for title in ("../../evil.py", "/etc/passwd", "..", "a\0b", "\x1b[2J", "x" * 400, ".", "con.py"):
            path = stored_runs.new_path(title, tmp_path)
            assert path.parent == tmp_path / ".unstuck/runs"
            assert re.fullmatch(r"[\w.-]+\.sqlite", path.name)

    def test_a_link_is_removed_and_not_what_it_leads_to(self, cli, run, tmp_path):
        runs_here = tmp_path / "here/.unstuck/runs"
        runs_here.mkdir(parents=True)
        (runs_here / "a.sqlite").symlink_to(run)
        assert "1 run deleted, 0 B freed" in cli("runs", tmp_path / "here", "--prune", "0").out
        assert run.is_file()
        assert not (runs_here / "a.sqlite").is_symlink()

    def test_a_name_finds_runs_of_the_list_alone(self, tmp_path):
        (tmp_path / "secret").write_text("x")
        with pytest.raises(StoreError, match="no stored run"):
            stored_runs.find("../secret", tmp_path / "empty")

    def test_settings_of_a_folder_above_name_no_file_and_no_code(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text('[tool.unstuck]\nselect = ["A"]\n')
        (tmp_path / "a/b").mkdir(parents=True)
        assert load(tmp_path / "a/b", {}).select == ("A",)
        names = {"every", "select", "ignore", "overhead", "extend_select", "fail_on", "record", "keep_runs"}
        assert set(Config.__dataclass_fields__) - names == {"keep_megabytes", "thresholds", "per_site_ignores"}


class TestNotExecuted:
    def test_a_notebook_is_read_without_running_it(self, tmp_path):
        code = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
        (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": code}]}))
        read_program(tmp_path / "a.ipynb")
        assert not (tmp_path / "ran").exists()

    def calls(self) -> list[tuple[str, str]]:
        found = []
        for path in SOURCES:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found.append(
                        (path.relative_to(ROOT / "src").as_posix().removeprefix("unstuck/"), ast.unparse(node.func))
                    )
                    found += [(found[-1][0], f"{k.arg}={ast.unparse(k.value)}") for k in node.keywords if k.arg]
        return found

    def test_only_run_executes_what_it_is_given(self):
        executing = {
            (file, name) for file, name in self.calls() if name in ("exec", "eval", "compile", "runpy.run_path")
        }
        assert executing == {("capture/programs.py", "compile"), ("capture/script.py", "exec")}

    def test_no_pickle_and_no_shell(self):
        names = re.compile(
            r"(torch\.load|(np|numpy)\.load|.*pickle.*|marshal\..*|shelve\..*|yaml\..*|os\.system|os\.popen|shell=True)"
        )
        assert [(file, name) for file, name in self.calls() if names.fullmatch(name)] == []

    def where(self, pattern: str) -> set[tuple[str, str]]:
        return {(file, name) for file, name in self.calls() if re.fullmatch(pattern, name)}

    def test_only_check_imports_what_it_is_told(self):
        ours = {"capture/probes/__init__.py", "fixes/catalogue.py", "fixes/patches/catalogue.py", "rules/catalogue.py"}
        found = {file for file, _ in self.where(r".*import_module|__import__|runpy\..*|.*\.run_module|.*spec_from_.*")}
        assert found == {*ours, "cli/check.py"}
        for file in ours:
            text = (ROOT / "src/unstuck" / file).read_text("utf-8")
            assert re.search(r"for (\w+) in (pkgutil\.)?(iter_modules|walk_packages)\(", text), file
        assert self.where(r".*run_cell|.*\.ex|.*\.safe_execfile") == {("integrations/ipython.py", "shell.run_cell")}

    def test_only_two_start_processes(self):
        assert self.where(
            r"subprocess\..*|os\.(exec|spawn|posix_spawn|fork|startfile).*|.*\bProcess|.*ProcessPoolExecutor|pty\..*"
        ) == {("cli/demo.py", "subprocess.Popen"), ("fixes/scripts.py", "subprocess.run")}

    def test_only_the_page_of_runs_opens_a_port(self):
        wanted = re.compile(
            r"^\s*(?:import|from) (socket|ssl|http|urllib|requests|httpx|uvicorn|asyncio)\b", re.MULTILINE
        )
        found = {
            p.relative_to(ROOT / "src").as_posix().removeprefix("unstuck/")
            for p in SOURCES
            if wanted.search(p.read_text("utf-8"))
        }
        assert {path for path in found if not path.startswith("ui/")} <= {
            "cli/ui.py",
            "report/files.py",
            "integrations/ipython.py",
        }

    def test_only_ranks_and_named_addresses_are_connected_with(self):
        assert self.where(
            r".*ProcessGroup\w*|.*init_process_group|.*new_group|(.*\.)?\w*[a-z]Store|.*url_to_fs|fsspec\..*"
        ) == {
            ("cli/remote.py", "url_to_fs"),
            ("lm/ranks.py", "distributed.init_process_group"),
            ("ranks/tree.py", "PrefixStore"),
            ("ranks/tree.py", "dist.ProcessGroupGloo"),
        }

    def test_only_these_read_files(self):
        """Who adds a reader adds it to the table of SECURITY.md, and to what is fuzzed if it is a stranger's file."""
        readers = r"open|np\.(memmap|fromfile)|sqlite3\.connect|linecache\.\w+|.*\.(open|read_text|read_bytes)"
        own = r".*files\('unstuck|webbrowser|os\.open"  # of the package; no contents
        found = {file for file, name in self.where(readers) if not re.match(own, name)}
        assert found == {
            *("trace/store.py", "trace/writer.py", "trace/processes.py"),  # stored runs; processes of this machine
            *("report/html.py", "report/text.py", "report/sarif.py", "rules/silence.py"),  # lines that Python has read
            *("report/snippets.py", "report/json.py", "cli/demo.py", "integrations/tables.py"),  # made by unstuck
            *("capture/programs.py", "cli/fix.py", "fixes/files.py"),  # the program that is run, or mended
            *("lm/data.py", "lm/tokens.py", "lm/files.py", "config.py"),
        }


def test_each_variable_that_is_read_is_in_the_table():
    read = re.compile(
        r"environ(?:\.get\(|\[)\"(\w+)|\"(\w+)\" (?:not )?in os\.environ|_number\(\"(\w+)\"\)|^VARIABLES = (.*)", re.M
    )
    found = {
        name
        for path in SOURCES
        for held in read.findall(path.read_text("utf-8"))
        for name in re.findall(r"\w+", " ".join(held))
    }
    assert {"RANK", "WORLD_SIZE"} < found
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert {name for name in found if f"`{name}`" not in text} == set()


def test_the_table_names_tests_that_there_are():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?", text)
    assert len(named) > 15
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or re.search(rf"(def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8")), name
