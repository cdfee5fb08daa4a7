"""Give the terminal its modes back at the end of a run.

A program that is killed leaves the terminal as it was using it: without echo after a password prompt, without
line editing after a pager. A shell restores the modes after such a job, and so does a run. But the host may
manage the terminal itself, as an editor, a debugger or IPython does. So the modes are restored only if

- a command of this run was killed or cancelled; one that ended by itself may have changed them on purpose;
- the main thread waits in a method of this very run, and waits for its end: then the host does nothing else;
- no other run of the process is active, whose program may be using the terminal;
- this process is in the foreground, and the modes differ from those at the start of the run's first command.

Out of scope: the terminal itself (`system.terminal`).
"""

from __future__ import annotations

import signal
import threading

from penstock.runtime.supervisor import active_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.engine.execution import Execution
    from penstock.engine.tree import StageRun
    from penstock.runtime.supervisor import ActiveRun

__all__ = ["restore_terminal"]


def restore_terminal(execution: Execution, run: ActiveRun) -> None:
    """Restore the modes of the terminal after a run that has ended, if that cannot hurt the host."""
    modes = execution.services.terminal_modes
    if modes is None or threading.current_thread() is not threading.main_thread() or active_runs - {run}:
        return
    if execution.reason is not None or any(map(_was_killed, execution.leaves)):
        modes.restore()


def _was_killed(leaf: StageRun) -> bool:
    """Whether a stage was a command that a signal ended; SIGPIPE tells only that its reader has gone."""
    status = None if leaf.running is None else leaf.running.status
    return status is not None and status.returncode < 0 and status.returncode != -signal.SIGPIPE
