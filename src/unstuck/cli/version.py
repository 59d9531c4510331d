"""`unstuck --version`: what a report of a fault needs to say of the machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from unstuck._version import __version__

PACKAGES = ("numba", "numpy", "triton")


def version_text() -> str:
    """Return the versions of unstuck, torch, what compiles its kernels, Python and system, and the devices."""
    import torch

    packages = [f"torch {torch.__version__}", *(f"{name} {_version_of(name)}" for name in PACKAGES)]
    return "\n".join(
        [
            f"unstuck {__version__}",
            ", ".join(packages),
            f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
            f"device: {_devices()}",
        ]
    )


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    import torch

    processor = f"CPU, {os.cpu_count()} cores, torch threads: {torch.get_num_threads()}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        return f"{', '.join(names)} ({kind}); {processor}"
    if torch.backends.mps.is_available():
        return f"Apple GPU (MPS); {processor}"
    return processor
