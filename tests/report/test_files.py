"""Paths as other programs name them."""

from __future__ import annotations

import pytest

from unstuck.report.files import cell_of, relative, repository_of, uri


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    repository_of.cache_clear()
    yield
    repository_of.cache_clear()


@pytest.mark.parametrize("file", ["<stdin>", "<string>", "train.py", ""])
def test_what_is_no_absolute_file_has_no_repository(file):
    assert (repository_of(file), relative(file)) == (None, "")


def test_the_nearest_repository(tmp_path):
    (tmp_path / ".git").mkdir()
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / ".git").touch()  # as a submodule has it
    assert repository_of(str(tmp_path / "a" / "train.py")) == tmp_path
    assert relative(str(tmp_path / "a" / "train.py")) == "a/train.py"
    assert relative(str(inner / "train.py")) == "train.py"


def test_else_the_workspace_else_the_current_folder_else_its_own(tmp_path, monkeypatch):
    file = str(tmp_path / "a" / "b" / "train.py")
    assert repository_of(file) == tmp_path / "a" / "b"
    repository_of.cache_clear()
    monkeypatch.chdir(tmp_path)
    assert repository_of(file) == tmp_path
    repository_of.cache_clear()
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "a"))
    assert repository_of(file) == tmp_path / "a"
    assert relative("/elsewhere/train.py") == "train.py"


def test_cells_of_notebooks():
    assert cell_of("/a/b.ipynb[cell 3]") == ("/a/b.ipynb", "cell 3")
    assert cell_of("/a/b.py") == ("/a/b.py", "")
    assert cell_of("/a/b.ipynb") == ("/a/b.ipynb", "")


@pytest.mark.parametrize(
    ("path", "address"), [("a/b c.py", "a/b%20c.py"), ("ä#?.py", "%C3%A4%23%3F.py"), ("\udcff.py", "%FF.py")]
)
def test_addresses(path, address):
    assert uri(path) == address
