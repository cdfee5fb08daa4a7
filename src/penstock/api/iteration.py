"""A run that somebody iterates over: started by the first step, ended with the last, or when it is left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from penstock.api.run import Run

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from penstock.engine.graph import PipelineSpec

__all__ = ["iterate"]


def iterate(pipeline: PipelineSpec, options: Mapping[str, Any]) -> Generator[bytes]:
    """Start a run with the first `next()`; what its last stage writes, in chunks as they come.

    Its failure is raised after the last. Closed early it ends the run, which is no failure then.
    """
    held: list[Run] = []
    try:
        run = Run(pipeline, options, iterate=True, held=held)
        if run.failed_to_start:
            run.wait()
        for chunk in _read(run):  # noqa: UP028 - what is thrown in here is not for the reader
            yield chunk
        run.reader.close()
        run.wait()
    except BaseException:
        try:
            _leave(held)
        except BaseException:  # one more interrupt
            _leave(held)
            raise
        raise


def _read(run: Run) -> Generator[bytes]:
    """What its last stage writes, until its end or until the run has a reason for there being no more."""
    try:
        yield from run.reader.chunks()
    except Exception as error:
        if not run.explains(error):
            raise


def _leave(held: list[Run]) -> None:
    """End a run that is no longer iterated over."""
    for run in held:
        if not run.done():
            run.close_reader()
        elif not sys.is_finalizing():  # else a lock may be held by a thread that will never go on
            run.close_streams()  # it had ended before, with what it wrote unread
