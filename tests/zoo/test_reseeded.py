"""Programs run with other seeds."""

import pytest
import torch
from zoo.collection import programs
from zoo.reseeded import main, reseeded


def test_afterwards_seeds_are_what_they_were():
    original = torch.manual_seed
    with pytest.raises(RuntimeError, match="within"), reseeded(3):
        raise RuntimeError("within")
    assert torch.manual_seed is original


def test_a_script_draws_what_it_would_with_the_other_seed(tmp_path, capsys):
    script = tmp_path / "draws.py"
    script.write_text("import torch\ntorch.manual_seed(4)\nprint(torch.rand(1).item())\n")
    assert main([str(script), "--by", "3"]) == 0
    assert capsys.readouterr().out.strip() == str(torch.rand(1, generator=torch.Generator().manual_seed(7)).item())


@pytest.mark.parametrize(
    "draws",
    [
        "import random\nrandom.seed({})\nprint(random.random())",
        "import numpy as np\nprint(np.random.default_rng({}).random())",
    ],
)
def test_other_libraries_seeds_move_too(tmp_path, capsys, draws):
    moved, other = tmp_path / "moved.py", tmp_path / "other.py"
    moved.write_text(draws.format(4))
    other.write_text(draws.format(7))
    assert main([str(moved), "--by", "3"]) == main([str(other), "--by", "0"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second


def test_no_program_of_the_collection_takes_its_seed_from_elsewhere():
    """(Some draw data or batches with generators of their own.)"""
    others = ("from random", "numpy.random", "torch.seed(")
    for program in programs()[0]:
        text = program.path.read_text(encoding="utf-8")
        assert "torch.manual_seed(" in text, program.name
        assert not [other for other in others if other in text], program.name
