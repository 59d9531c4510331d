"""`unstuck run --save ADDRESS`: stores by fsspec; what cannot be brought there stays here."""

from __future__ import annotations

import sys

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unstuck.cli import remote
from unstuck.cli.remote import SPOOL, is_remote
from unstuck.trace.store import read_info


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return tmp_path


@pytest.mark.parametrize("place", ["runs", "/tmp/a", "C:\\runs", "C:/runs", "a:b", "a/b://c", ".", "http:/x"])
def test_paths_are_no_addresses(place):
    assert not is_remote(place)


@pytest.mark.parametrize(
    "place", ["s3://a", "memory://", "file:///a", "simplecache::s3://a/b", "a::b::gs://c", "s3+x.y://a"]
)
def test_addresses(place):
    assert is_remote(place)


def test_an_address_that_fsspec_cannot_write_to_is_refused(cli, script, here):
    assert cli("run", "--save", "reference://x", script()).refusal.startswith(
        "cannot write the report to reference://x: "
    )
    assert list(here.iterdir()) == [here / "train.py"]


def test_a_store_that_nobody_knows(cli, script, here):
    assert cli("run", "--save", "no-such-store://a/b", script()).refusal.startswith(
        "cannot write the report to no-such-store://a/b: Protocol not known: no-such-store; name another folder"
    )
    assert not (here / ".unstuck").exists()


def test_without_the_package(cli, script, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert (
        cli("run", "--save", "s3://a/b", script()).refusal
        == "--save s3://a/b needs the package fsspec; install it: pip install 'unstuck[remote]'"
    )


def test_a_store_whose_package_is_missing(cli, script, here, monkeypatch):
    def no_store(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_store)
    assert cli("run", "--save", "s3://a/b", script()).refusal == (
        "--save s3://a/b needs a package of its store: Install s3fs to access S3"
    )


def test_a_store_that_refuses_is_found_before_the_script_runs(cli, script, here, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    assert cli("run", "--save", "memory://bucket/a", script()).refusal == (
        "cannot write the report to memory://bucket/a: Permission denied; name another folder"
    )


def test_all_files_come_to_a_store(cli, script, here):
    said = cli("run", "--save", "memory://bucket/a/", script())
    assert said.code == 0
    names = {name.rpartition("/")[2] for name in MemoryFileSystem.store}
    assert {"report.json", "report.txt", "run.sqlite"} <= names
    assert all(name.startswith("/bucket/a/") for name in MemoryFileSystem.store)
    assert "report saved: memory://bucket/a/report" in said.err
    assert list((here / SPOOL).iterdir()) == []
    assert (here / ".unstuck/.gitignore").read_text() == "*\n"


def test_a_folder_of_this_machine_by_its_address(cli, script, here):
    said = cli("run", "--save", (here / "there").as_uri(), script())
    assert said.code == 0
    assert "ended" in read_info(here / "there/run.sqlite")
    assert "unstuck" in (here / "there/report.txt").read_text()


def test_a_lost_connection_loses_nothing(cli, script, here, monkeypatch):
    def lose(self, local, there, **_):
        raise ConnectionError("the host\nis gone \x1b[2J")

    monkeypatch.setattr(MemoryFileSystem, "put_file", lose)
    said = cli("run", "--save", "memory://bucket/a", script())
    (spool,) = (here / SPOOL).iterdir()
    assert said.code == 0  # the script's own
    assert (
        f"unstuck: cannot upload the report to memory://bucket/a: the host is gone ␛[2J; it is kept in {spool}: "
        "copy it there, or name another folder\n"
    ) in said.err
    assert "report saved" not in said.err
    assert {"report.json", "report.txt", "run.sqlite"} <= {file.name for file in spool.iterdir()}


def test_fsspec_is_not_imported_unasked():
    assert "fsspec" not in vars(remote)
