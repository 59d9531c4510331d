"""`unstuck --version`: what a report of a fault needs."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest
import torch

from unstuck import __version__
from unstuck.cli import version


def test_versions_and_device(cli):
    said = cli("--version")
    first, packages, python, device = said.out.splitlines()
    assert first == f"unstuck {__version__}"
    assert packages.startswith(f"torch {torch.__version__}, numba {metadata.version('numba')}, numpy ")
    assert python.startswith(f"CPython {platform.python_version()}, ")
    assert device.startswith("device: ")
    assert "CPU, " in device


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(version, "PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in version.version_text()


@pytest.mark.parametrize(
    ("cuda", "hip", "kind"), [("13.0", None, "CUDA 13.0"), (None, "7.0", "ROCm 7.0")], ids=["cuda", "rocm"]
)
def test_a_device_with_a_name(monkeypatch, cuda, hip, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert f"device: GPU 0, GPU 1 ({kind}); CPU, " in version.version_text()
