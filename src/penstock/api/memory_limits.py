"""The constructors of stages whose memory is watched: a group around commands, with a watch in its options.

Out of scope: sampling memory (`limits.memory_sampler`) and acting on it (`engine.memory_watches`).
"""

from __future__ import annotations

from penstock.api.composition import checked_stage
from penstock.api.pipeline import watched
from penstock.core.options import check_handler, check_seconds
from penstock.core.public import exported
from penstock.core.sizes import parse_size
from penstock.engine.graph import PipelineSpec
from penstock.limits.memory_watch import MemoryWatch
from penstock.limits.sampling_interval import MAX_INTERVAL_S
from penstock.stages.command import Command
from penstock.stages.filters import Filtered
from penstock.system import process_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from penstock.api.pipeline import Pipeline
    from penstock.core.events import Event
    from penstock.core.stage import Stage

__all__ = ["memory_limit", "memory_observer"]


@exported
def memory_limit(
    stage: Stage | Pipeline,
    limit: int | str,
    *,
    on_event: Callable[[Event], object] | None = None,
    interval: float | timedelta = MAX_INTERVAL_S,
) -> Pipeline:
    """Make a stage that runs `stage` and cancels it if it uses more memory than `limit`.

    `stage` is a command or a pipeline of commands. `limit` is bytes, or a str like "500MB" (10^6 bytes) or
    "2GiB" (2^30 bytes). The anonymous memory (resident, and not backed by a file) of the commands and all
    their descendants is added up. The supervisor samples it, more often as it approaches the limit;
    `interval`, in seconds or a timedelta, is the longest pause. A command that allocates 1 GB/s is stopped
    before it holds 1.5 times the limit, if the limit is at least 20 MB.

    If the sum exceeds the limit, an event of kind `memory-limit` goes to `on_event` and to the pipeline's
    handler, the commands get SIGTERM, and the stage fails with `MemoryLimitExceeded`. SIGKILL follows after
    the grace time, or at once if the memory keeps growing.

    Raises TypeError if a stage is not a command, TypeError or ValueError for an invalid `limit` or
    `interval`, and ImportError if the system has no /proc and psutil is not installed.

    >>> from penstock import command
    >>> memory_limit(command("cat"), "2GiB").output(input="b")
    b'b'
    """
    return _watched("memory_limit", stage, parse_size("limit", limit), on_event, interval)


@exported
def memory_observer(
    stage: Stage | Pipeline,
    *,
    on_event: Callable[[Event], object] | None = None,
    interval: float | timedelta = MAX_INTERVAL_S,
) -> Pipeline:
    """Make a stage that runs `stage` and reports the most memory that it used.

    `stage` is a command or a pipeline of commands, and memory is measured as in `memory_limit`. When the
    stage ends, for whatever reason, an event of kind `memory-peak` goes to `on_event` and to the pipeline's
    handler. Its context holds `used` and `peak` (bytes), `samples` and `errors`. The peak of each command is
    its `StageResult.peak_memory`. Samples are at most `interval` seconds apart; between two of them memory
    may have been higher.

    Raises the same errors as `memory_limit`.

    >>> from penstock import command
    >>> kinds = []
    >>> observed = memory_observer(command("cat"), on_event=lambda event: kinds.append(event.kind))
    >>> observed.output(input="b")
    b'b'
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
