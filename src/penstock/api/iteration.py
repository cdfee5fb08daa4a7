"""A run that somebody iterates over: started by the first step, ended with the last, or when it is left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from penstock.engine.managed_run import ManagedRun

if TYPE_CHECKING:
    from collections.abc import Generator

    from penstock.engine.run_plan import RunPlan

__all__ = ["iterate"]


def iterate(plan: RunPlan) -> Generator[bytes]:
    """Start a run with the first `next()`; yield the last stage's output, in chunks as they come.

    Its failure is raised after the last chunk. Closing the iterator early ends the run, and is no failure.
    """
    run = ManagedRun(plan)
    try:
        run.start()
        if run.failed_to_start:
            run.wait()
        for chunk in _read(run):  # noqa: UP028 - what is thrown in here is not for the reader
            yield chunk
        run.reader.close()
        run.wait()
    except BaseException:
        try:
            _leave(run)
        except BaseException:  # one more interrupt
            _leave(run)
            raise
        raise


def _read(run: ManagedRun) -> Generator[bytes]:
    """Yield the last stage's output, until its end or until the run has a reason for there being no more."""
    try:
        yield from run.reader.chunks()
    except Exception as error:
        if not run.explains(error):
            raise


def _leave(run: ManagedRun) -> None:
    """End a run that is no longer iterated over."""
    if not run.started:
        return
    if not run.done():
        run.close_reader()
    elif not sys.is_finalizing():  # else a lock may be held by a thread that will never go on
        run.close_streams()  # the run had ended before, with output unread
