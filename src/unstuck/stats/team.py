"""Work shared out among the threads that torch computes with.

torch's OpenMP threads keep spinning for a while after each operation, so a thread of our own would have to share a core
with one of them and the work would take longer than without it. So ours runs on the same team, started as the compiler
starts a parallel region (`GOMP_parallel` of libgomp's ABI, https://gcc.gnu.org/onlinedocs/libgomp/, which other OpenMP
runtimes offer too). Where torch has no such function, a pool of threads does the work.
"""

from __future__ import annotations

import ctypes
import glob
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


@cache
def _parallel() -> Callable[..., Any] | None:
    """Return torch's `GOMP_parallel(function, data, threads, flags)`, or None."""
    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    for library in glob.glob(os.path.join(glob.escape(folder), "libtorch_cpu.*")):
        try:
            found = ctypes.CDLL(library).GOMP_parallel  # looked up in what the library itself is linked with
        except (OSError, AttributeError):
            continue
        found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        found.restype = None
        return found
    return None


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="unstuck-stats")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def run(function: int, data: int, threads: int) -> None:
    """Call the compiled function at address `function`, of C type void(int64 *), with `data` on `threads` threads."""
    parallel = _parallel()
    if parallel is not None:
        parallel(function, data, threads, 0)
        return
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    for done in [_pool().submit(call, data) for _ in range(threads)]:
        done.result()
