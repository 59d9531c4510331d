"""Which process is which: numbers of processes are given anew, so that a number alone does not tell."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

GONE = "gone"
"""What `birth` gives for a process that has ended and whose parent has not asked yet."""


def birth(process: int) -> str:
    """Return what only this process has among all that ever had its number: boot and start time, in clock ticks.

    "" where the system does not tell (it does on Linux, https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html) or
    there is no such process.
    """
    with suppress(OSError, IndexError, UnicodeError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        stat = Path(f"/proc/{process}/stat").read_bytes()
        fields = stat[stat.rindex(b")") + 1 :].split()  # from the third on: the second, a name, may hold anything
        return GONE if fields[0] in (b"Z", b"X") else f"{boot} {fields[19].decode('ascii')}"
    return ""


@cache
def as_stored(process: int) -> dict[str, str | int]:
    """Return what a stored run says of the process that writes it; asked once of each."""
    return {"process": process, "process_born": birth(process), "host": platform.node()}


def lives(process: object, born: object = "") -> bool | None:
    """Tell whether a process exists on this machine; None where there is one that may be another of its number.

    `born` is what `birth` gave of it while it ran.
    """
    if not isinstance(process, int) or process <= 0:
        return False
    if os.name == "nt":  # where asking in this way would end it
        return None
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    now = birth(process)
    if now == GONE:
        return False
    return now == born if now and born else None
