"""What tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest

from unstuck.trace import Location


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A line of a script in the current folder."""
    path = tmp_path / "train.py"
    path.write_text("import torch\n    h = torch.tanh(x @ W1)  # [bold]\n")
    monkeypatch.chdir(tmp_path)
    return Location(str(path), 2)
