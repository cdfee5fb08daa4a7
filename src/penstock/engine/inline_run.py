"""A run from its start to its end in one call, which nobody else gets hold of."""

from __future__ import annotations

from penstock.engine.managed_run import ManagedRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.engine.run_plan import RunPlan

__all__ = ["run_inline"]


def run_inline(plan: RunPlan) -> ManagedRun:
    """Run a plan to its end, driving it in this thread; nobody else gets hold of the run before that.

    An interrupt ends the run, between the two steps too.
    """
    run = ManagedRun(plan, inline=True)
    try:
        run.start()
        run.wait_done()
    except BaseException as error:
        if not run.absorb(error):
            run.end(error)
            raise
    return run
