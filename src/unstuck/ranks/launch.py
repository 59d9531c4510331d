"""Which of several processes this one is: by torch, or, before the program has told it, by what launched them.

torchrun sets RANK (https://docs.pytorch.org/docs/stable/elastic/run.html); `srun` and the launchers of MPI have names
of their own, which programs hand to `init_process_group`. Where one runs inside another, the inner one tells.
"""

from __future__ import annotations

import os

import torch

from unstuck.capture.wrappers import several_processes

VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def own_rank() -> int:
    """Return the rank of this process; 0 where nothing gives it one."""
    if several_processes():
        return torch.distributed.get_rank()
    ranks = (os.environ.get(name, "") for name in VARIABLES)
    return next((int(rank) for rank in ranks if rank.isdecimal()), 0)
