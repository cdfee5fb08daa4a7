"""Print to our stderr while a live view may be drawn there."""

from __future__ import annotations

import sys

from penstock.core.public import exported
from penstock.system.fork_guard import late_import

__all__ = ["print_above"]


@exported
def print_above(*values: object, sep: str = " ", end: str = "\n") -> None:
    r"""Print to our stderr, above the live view of a run if there is one (`progress=True`).

    The next frame overwrites anything else that is printed to the terminal, by `print` for one. So handlers
    of events and Python stages print by this function. Without a live view it is
    `print(*values, file=sys.stderr)`. From any thread. Above a live view, a text without LF at its end is
    shown, too; control characters other than colours are shown with a backslash, and nothing is raised.

    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     print_above("file", 7)
    file 7
    """
    with late_import:
        from penstock.runtime import live_area  # noqa: PLC0415 - few programs print

    text = sep.join(map(str, values)) + end
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    if not _is_redirected() and live_area.write_above(text.encode(encoding, "backslashreplace")):
        return
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_redirected() -> bool:
    """Whether `sys.stderr` writes to something else than the descriptor 2, where a live view is drawn."""
    try:
        return sys.stderr.fileno() != 2
    except (AttributeError, OSError, ValueError):  # None, an object in memory, or closed
        return True
