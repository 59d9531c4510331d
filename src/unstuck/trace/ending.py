"""How a run ended, in words, of what is stored of it: exit code, exception, signal."""

from __future__ import annotations

MOST_CHARACTERS = 200  # of an exception's first line; longer ones are cut


def exception_line(error: BaseException) -> str:
    """Return an exception's type and the first line of what it says, as the last line of its traceback does."""
    kind = type(error)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001  (it is the user's class)
        lines = []
    line = f"{module}{kind.__qualname__}" + (f": {lines[0]}" if lines else "")
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"


def ending(exit_code: int | None, exception: str = "", signal: str = "") -> str:
    """Return how a run ended otherwise than well ("was interrupted (Ctrl-C)"); "" where it ended well or goes on.

    `exception` is its `exception_line`, `signal` the name of the one that ended it, SIGINT or SIGTERM.
    """
    if signal:
        return "was interrupted (Ctrl-C)" if signal == "SIGINT" else f"was ended by {signal}"
    if exit_code:
        return f"ended with exit code {exit_code}" + (f" ({exception})" if exception else "")
    return f"ended with {exception}" if exception else ""
