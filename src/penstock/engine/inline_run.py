"""A run from its start to its end in one call, which nobody else gets hold of.

The calling thread waits for the end anyway, so it is put to use. If commands take part, it drives the run. If
all stages are Python functions, it is the first thread that works off the stages, and the supervisor drives
the run, which has nothing to do in most of them. Waking another thread takes longer than most such runs.

A function that works in the caller's thread cannot be left in the middle. So these runs have workers all the
same: one with a deadline, `fail_fast` or `on_exception`, one inside a running event loop, and one that is
started deep in a recursion, where a chain of generators would find no room on the stack.
"""

from __future__ import annotations

import sys

from penstock.core.options import ends_stages
from penstock.engine.managed_run import ManagedRun
from penstock.runtime.supervisor import supervisor
from penstock.system.running_loop import in_event_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.engine.run_plan import RunPlan

__all__ = ["run_inline"]

_DEEP_STACK = 300
"""Frames of the caller from which on workers, whose stacks are empty, run the stages."""


def run_inline(plan: RunPlan) -> ManagedRun:
    """Run a plan to its end in this thread; nobody else gets hold of the run before that.

    An interrupt ends the run, between the steps too. KeyboardInterrupt, SystemExit and what a signal handler
    raises go through unchanged, also out of a function that works in this thread.
    """
    by_caller = plan.graph.works_in_threads and _can_work(plan)
    run = ManagedRun(plan, inline=not by_caller, by_caller=by_caller)
    try:
        run.start()
        if by_caller:
            run.work()
        else:
            run.wait_done()
    except BaseException as error:
        if not run.absorb(error):
            run.end(error)
            raise
    return run


def _can_work(plan: RunPlan) -> bool:
    """Whether the calling thread may work off the stages of a run."""
    if ends_stages(plan.options) or in_event_loop() or _is_deep():
        return False
    try:
        supervisor()
    except (OSError, RuntimeError, MemoryError):  # no descriptor or thread for it is left
        return False
    return True


def _is_deep() -> bool:
    try:
        sys._getframe(_DEEP_STACK)  # noqa: SLF001 - the only way to ask
    except ValueError:
        return False
    return True
