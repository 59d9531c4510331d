import pytest

from unstuck.ranks.launch import VARIABLES, own_rank


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_by_itself_is_the_first():
    assert own_rank() == 0


@pytest.mark.parametrize("value", ["", "-1", "two", "1.0"])
def test_what_is_no_rank(monkeypatch, value):
    monkeypatch.setenv("RANK", value)
    assert own_rank() == 0


@pytest.mark.parametrize("name", VARIABLES)
def test_launchers(monkeypatch, name):
    monkeypatch.setenv(name, "3")
    assert own_rank() == 3


def test_torchrun_within_a_task_of_slurm(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("RANK", "0")
    assert own_rank() == 0
