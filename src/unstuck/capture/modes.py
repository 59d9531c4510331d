"""This thread's stack of function modes: where ours stand in it.

Ours stand below the program's own, so that leaving theirs never takes ours away.
"""

from __future__ import annotations

from typing import Any

from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode


def stack() -> list[Any]:
    """Return this thread's function modes, outermost first."""
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]


def put_below(mode: TorchFunctionMode) -> None:
    """Put a mode of ours below all others; harmless when it is on."""
    modes = stack()
    if mode not in modes:
        replace([mode, *modes])


def take_away(mode: TorchFunctionMode) -> None:
    """Take a mode of ours away, wherever it stands; harmless when it is not on."""
    modes = stack()
    if mode in modes:
        replace([other for other in modes if other is not mode])


def replace(modes: list[Any]) -> None:
    """Make these the thread's function modes, outermost first."""
    for _ in range(len(stack())):
        _pop_mode()  # type: ignore[no-untyped-call]
    for mode in modes:
        _push_mode(mode)  # type: ignore[no-untyped-call]
