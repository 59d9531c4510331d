"""Several processes of one training, over gloo on this machine, forked from one that has torch imported."""

import json
import os
import socket
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr
from pathlib import Path

import torch
import torch.distributed as dist
from zoo.forked import CONTEXT

LIMIT = 60  # seconds


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(function, size, *arguments):
    """Call `function(rank, size, *arguments)` in so many processes; return (result or None, stderr, exit code) of each.

    A result is what `json` can hold.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            CONTEXT.Process(target=_be, args=(function, rank, size, port, folder, arguments)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + LIMIT
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
            process.join()
        seen = []
        for rank, process in enumerate(processes):
            texts = [Path(folder, f"{rank}.{name}") for name in ("json", "err")]
            result, said = (text.read_text() if text.exists() else "" for text in texts)
            seen.append((json.loads(result) if result else None, said, process.exitcode))
    assert late == [], (late, seen)
    return seen


def results(function, size, *arguments):
    """The results of `run`, where nobody failed."""
    seen = run(function, size, *arguments)
    assert [code for *_, code in seen] == [0] * size, seen
    return [result for result, *_ in seen]


def _be(function, rank, size, port, folder, arguments):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with Path(folder, f"{rank}.err").open("w", buffering=1) as file, redirect_stderr(file):
        try:
            dist.init_process_group("gloo")
            result = function(rank, size, *arguments)
            Path(folder, f"{rank}.json").write_text(json.dumps(result))
        except BaseException:  # noqa: BLE001  (told in the file that the test reads)
            traceback.print_exc()
            sys.exit(1)
    if dist.is_initialized():
        dist.destroy_process_group()
