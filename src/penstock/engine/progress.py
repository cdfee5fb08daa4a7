"""Choose how the progress of a run is shown: by a callable, a live view, or plain lines.

In the kernel of a notebook, `progress=True` is a live view in the cell.
A live view is drawn if our stderr is a terminal that can move its cursor, and if the run neither writes its
output to that terminal nor reads its input there in this process. Both would go to the line of the cursor,
and the view would write over it. A command that reads the terminal is noticed, and the view pauses.
"""

from __future__ import annotations

import os
from functools import partial

from penstock.core.constants import INHERIT
from penstock.core.file_targets import FileTarget
from penstock.core.loaded import loaded
from penstock.engine.run_outputs import given_descriptor
from penstock.progress.ticker import Progress
from penstock.stages.base import traits_of
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.engine.managed_run import ManagedRun
    from penstock.engine.run_plan import RunPlan
    from penstock.progress.views import View
    from penstock.runtime.tee import StderrRelay

__all__ = ["make_progress"]

_STDERR = 2


def make_progress(run: ManagedRun, plan: RunPlan, option: Any) -> Progress:
    """Return the progress of a run that is yet to be started; `option` is not None."""
    execution = run.execution
    make_view = partial(_make_view, run, plan, option)
    return Progress(
        run.snapshot,
        make_view,
        execution.reactor,
        is_starting=lambda: execution.starting,
        failed_to_start=lambda: execution.failure is not None,
    )


def _make_view(run: ManagedRun, plan: RunPlan, option: Any, open_relay: Callable[[], StderrRelay]) -> View:
    with late_import:  # no stage is started yet, and no worker waits for the modules of its first snapshot
        from penstock.engine import snapshots  # noqa: F401, PLC0415 - few runs show their progress
        from penstock.progress import views  # noqa: PLC0415 - few runs show their progress

    if callable(option):
        return views.CallableView(option, run.execution.dispatcher)
    if option is True and loaded("IPython.core.getipython", "get_ipython") is not None:
        with late_import:  # as above
            from penstock.progress.notebook import notebook_view  # noqa: PLC0415 - few runs are in a notebook

        in_cell = notebook_view(run.execution.dispatcher)
        if in_cell is not None:
            return in_cell
    relay = open_relay()
    if os.isatty(_STDERR) and (option == "tty" or (option is True and _has_terminal_for_itself(plan))):
        return views.live_view(relay, lambda: run.pids)
    return views.PlainView(relay, lambda: run.pids)


def _has_terminal_for_itself(plan: RunPlan) -> bool:
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return False
    with late_import:  # as above
        from penstock.system.terminal_use import is_same_terminal  # noqa: PLC0415 - as above

    outputs = [plan.option("stdout")] if plan.sink.kind not in ("iterate", "aiterate", "given") else []
    outputs += [end.options.get("stdout") for end in plan.graph.sinks[1:]]
    if any(value is not None and is_same_terminal(_place_of(value), _STDERR) for value in outputs):
        return False
    in_process = traits_of(plan.stages[plan.graph.first.index]).kind != "command"
    return not (in_process and plan.option("stdin") is INHERIT and is_same_terminal(0, _STDERR))


def _place_of(output: Any) -> int | str | os.PathLike[str]:
    """Return the path or the descriptor of an output; "" if it has neither."""
    if isinstance(output, FileTarget):
        return output.path
    if isinstance(output, str | os.PathLike):
        return output
    number = given_descriptor("stdout", output)
    return "" if number is None else number
