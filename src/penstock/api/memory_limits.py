"""The constructors of stages whose memory is watched: a group around commands, with a wish among its options.

The watching itself is done by `watches` and `control.sampler`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.api.pipeline import checked_stage, watched
from penstock.core.options import check_handler, check_seconds
from penstock.core.sizes import parse_size
from penstock.engine.tree import PipelineSpec
from penstock.limits.memory_watch import MemoryWatch
from penstock.limits.sampling_interval import MAX_INTERVAL_S
from penstock.stages.command import Command
from penstock.stages.filters import Filtered
from penstock.system import process_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from penstock.api.pipeline import Pipeline
    from penstock.core.events import Event
    from penstock.core.stage import Stage

__all__ = ["memory_limit", "memory_observer"]


def memory_limit(
    stage: Stage | Pipeline,
    limit: int | str,
    *,
    on_event: Callable[[Event], object] | None = None,
    interval: float | timedelta = MAX_INTERVAL_S,
) -> Pipeline:
    """Make a stage that is `stage`, a command or a pipeline of commands, and is ended past a memory limit.

    `limit` is bytes, or a text like "500MB" (10^6) or "2GiB" (2^30). What counts is the anonymous memory
    (resident, and not backed by a file) of the commands and all their descendants, added up. The supervisor
    looks at it, the more often the nearer the limit is; `interval`, in seconds or a timedelta, is the longest
    pause. What allocates 1 GB/s is stopped before it holds 1.5 times a limit of 20 MB or more.

    Past the limit there is an event of kind `memory-limit`, given to `on_event` and to the pipeline's own
    handler, the commands get SIGTERM, and the stage fails with `MemoryLimitExceeded`. SIGKILL follows after
    the grace time, or at once where memory goes on to grow. TypeError or ValueError for what is no command,
    and for a limit or an interval that is none. Without /proc it needs psutil, or raises ImportError.

    >>> from penstock import command
    >>> memory_limit(command("cat"), "2GiB").output(input="b")
    b'b'
    """
    return _watched("memory_limit", stage, parse_size("limit", limit), on_event, interval)


def memory_observer(
    stage: Stage | Pipeline,
    *,
    on_event: Callable[[Event], object] | None = None,
    interval: float | timedelta = MAX_INTERVAL_S,
) -> Pipeline:
    """Make a stage that is `stage`, a command or a pipeline of commands, and tells how much memory it had.

    The peak of what `memory_limit` counts is told at the end, however that comes about, in an event of kind
    `memory-peak`, given to `on_event` and to the pipeline's own handler: `used` and `peak` (bytes), `samples`
    and `errors` are in its context. Each command's own peak is its `StageResult.peak_memory`. Between two
    looks, at most `interval` seconds apart, memory may have been higher. Raises as `memory_limit` does.
    """
    return _watched("memory_observer", stage, None, on_event, interval)


def _watched(
    what: str,
    stage: Stage | Pipeline,
    limit: int | None,
    on_event: Callable[[Event], object] | None,
    interval: float | timedelta,
) -> Pipeline:
    stage = checked_stage(stage)
    for leaf in _leaves(stage):
        if not isinstance(leaf, Command):
            name = getattr(leaf, "name", leaf)
            raise TypeError(
                f"{what}() needs a command or a pipeline of commands, but {name!r} is a Python stage"
            )
    check_handler("on_event", on_event)
    longest = check_seconds("interval", interval)
    if not longest:
        raise ValueError("interval must be more than 0 seconds")
    process_memory.require()
    return watched(stage, MemoryWatch(stage.name, limit, on_event, longest))


def _leaves(stage: object) -> Iterator[object]:
    if isinstance(stage, PipelineSpec) and stage.stages:
        for each in stage.stages:
            yield from _leaves(each)
    elif isinstance(stage, Filtered):
        yield from _leaves(stage.stage)
    else:  # an empty pipeline, too, is a stage in Python: it copies
        yield stage
