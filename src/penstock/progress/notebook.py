"""The live view in a notebook: an output of the cell that is replaced by each snapshot, as a table.

The display is made in the thread that starts the run, because a kernel sends what a thread displays to the
cell that this thread works for. The updates name their display, so they reach it from any thread, also after
the cell has ended.

IPython is never imported here: a program that runs in a kernel has it.
"""

from __future__ import annotations

from penstock.core.loaded import loaded
from penstock.progress.views import CallableView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.core.snapshot import Snapshot
    from penstock.runtime.dispatcher import Dispatcher

__all__ = ["NotebookView", "notebook_view"]


class NotebookView(CallableView):
    """Replaces one output of a cell."""

    interval_s = 0.5

    def __init__(self, handle: Any, dispatcher: Dispatcher) -> None:
        """`handle` is a display handle of IPython."""
        super().__init__(self._update, dispatcher)
        self._handle = handle

    def _update(self, snapshot: Snapshot) -> None:
        self._handle.update(_formats(snapshot), raw=True)


def notebook_view(dispatcher: Dispatcher) -> NotebookView | None:
    """Return a view in the cell that is being run; None if this is not a kernel, or if that shows nothing.

    In the thread that starts the run.
    """
    get_shell = loaded("IPython.core.getipython", "get_ipython")
    display = loaded("IPython.core.display_functions", "display")
    shell = None if get_shell is None else get_shell()
    if display is None or getattr(shell, "kernel", None) is None:  # a terminal's shell has no kernel
        return None
    try:
        handle = display({"text/plain": "starting"}, raw=True, display_id=True)
    except Exception:  # noqa: BLE001 - showing is not worth a failure
        return None
    return None if handle is None else NotebookView(handle, dispatcher)


def _formats(snapshot: Snapshot) -> dict[str, str]:
    return {"text/plain": str(snapshot), "text/html": snapshot._repr_html_()}
