"""End every run of the process by one call.

Out of scope: how a run is ended (`engine.cancellation`).
"""

from __future__ import annotations

from functools import partial

from penstock.core.public import exported
from penstock.engine.cancellation import reason_of
from penstock.runtime.supervisor import cancel_active

__all__ = ["cancel_all"]


@exported
def cancel_all(reason: BaseException | str | None = None) -> None:
    """End every run of this process, as `Run.cancel(reason)` ends one; each raises PipelineCancelled.

    It reaches the runs of all threads and event loops, those of `run()`, `output()` and the iterators too,
    and runs that are being started at this moment. Runs that are started later are not affected. Returns at
    once, and may be called again, from any thread or signal handler. A function that works in the thread of
    the caller of `run()` is woken from its streams; if it does something else, the run waits for it.

    `reason` is an exception, which all runs then have in common, or a text for one. Raises TypeError for
    anything else, and for `FinishEarly`.

    Python raises KeyboardInterrupt in the main thread alone. With runs in the threads of a pool, that thread
    ends them like this:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from penstock import cancel_all, command
    >>> with ThreadPoolExecutor() as pool:
    ...     jobs = [pool.submit(command("sleep", "1000").run) for _ in range(3)]
    ...     try:
    ...         raise KeyboardInterrupt  # from the user, while the main thread waits for the jobs
    ...     except KeyboardInterrupt:
    ...         pool.shutdown(wait=False, cancel_futures=True)
    ...         while not all(job.done() for job in jobs):  # a job may just be about to start a run
    ...             cancel_all("interrupted")
    >>> {str(job.exception()) for job in jobs if not job.cancelled()}
    {'interrupted'}
    """
    reason_of(reason)
    cancel_active(partial(reason_of, reason))
