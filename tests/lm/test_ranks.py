"""Two gloo processes come to the numbers of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.lm.data import read_words
from unstuck.lm.errors import LmError
from unstuck.lm.ladder import Ladder, Plan, engine_of
from unstuck.lm.ladder_table import as_data, why_incomparable
from unstuck.lm.ranks import Ranks, cores, joined
from unstuck.lm.stages import stages_of

COMMAND = ("-m", "unstuck", "lm", "ladder", "--stages", "4,5", "--seeds", "3", "--steps", "40", "--threads", "1")


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.all(True)
        assert not ranks.all(False)


def test_alone_everything_is_kept() -> None:
    rows = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(Ranks().gather(rows), rows)


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100000")
    assert cores() == 1


@pytest.mark.parametrize("text", ["abc", "0", "-2", "", "²", "9" * 5000])
def test_an_environment_that_no_launcher_sets_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, asked in (("LOCAL_WORLD_SIZE", cores), ("WORLD_SIZE", joined().__enter__)):
        monkeypatch.setenv(variable, text)
        with pytest.raises(LmError, match=f"the environment variable {variable} is .*: unset it, or start by torchrun"):
            asked()


def test_processes_that_cannot_meet_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(variable, text)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(LmError, match=r"the processes cannot meet .*MASTER_ADDR"), joined():
        pass


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.txt"
    path.write_text("\n".join(read_words().words[:300]))
    return path


def launch(arguments: list[str], rank: int, size: int, port: int) -> subprocess.Popen[str]:
    """A process with the environment that torchrun gives it."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    environment = {**os.environ, **{key: str(value) for key, value in places.items()}, "MASTER_ADDR": "127.0.0.1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env={**environment, "OMP_NUM_THREADS": "1"}, **pipes)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested dicts and lists hold, with the way to it."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}/{key}")
    else:
        yield path, value


def test_two_processes_print_the_table_of_one(names: Path, tmp_path: Path) -> None:
    arguments = [*COMMAND, "--data", str(names), "--output-format", "json"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = [launch([*arguments, "--out", str(tmp_path / "out")], rank, 2, port) for rank in range(2)]
    outputs = [process.communicate(timeout=120) for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    words = read_words(names)
    alone = Ladder(Plan(stages_of("4,5"), 3, 40), words)
    alone.train(engine_of("compiled"))
    wanted = as_data(alone.results(), why_incomparable(words.words, 40), words.source, words.sha256)
    assert list(leaves(json.loads(outputs[0][0]))) == [
        (path, pytest.approx(value, rel=1e-5) if isinstance(value, float) else value) for path, value in leaves(wanted)
    ]  # products may round otherwise where arrays lie otherwise in memory
    assert outputs[1][0] == ""
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 6
