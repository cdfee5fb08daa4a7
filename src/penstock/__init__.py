r"""Streaming pipelines of external commands and Python functions.

`command("git", "log") | map_lines(f) | command("sort")` is a pipeline. Its methods `run`, `output`, `text`,
`iter_lines`, `start` and others run it; `arun` and others run it in an event loop. A failed run raises a
`PipelineError`.

>>> from penstock import command, map_lines
>>> (command("printf", "b\na\n") | map_lines(bytes.upper) | command("sort")).text().split()
['A', 'B']

Names are imported when they are first used, so `import penstock` costs next to nothing until a program makes
a pipeline.
"""

from __future__ import annotations

import sys

from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.api.cancellation import cancel_all
    from penstock.api.commands import command
    from penstock.api.error_filters import filter_error, ignore_error
    from penstock.api.events import on_event
    from penstock.api.factories import (
        each_line,
        echo,
        filter_lines,
        function,
        map_line_batches,
        map_lines,
        scan,
        source,
        transform,
        transform_lines,
    )
    from penstock.api.graphs import concat, merge, reading, route, shared, tee, writing
    from penstock.api.memory_limits import memory_limit, memory_observer
    from penstock.api.pipeline import Pipeline
    from penstock.api.printing import print_above
    from penstock.api.run import Run
    from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, NEXT, PIPE, STDOUT, TEE, closing
    from penstock.core.errors import (
        CaptureLimitExceeded,
        ExitError,
        FinishEarly,
        LineTooLong,
        MemoryLimitExceeded,
        PenstockError,
        PipelineCancelled,
        PipelineError,
        PipelineTimeout,
        RemoteError,
        SpoolLimitExceeded,
        Stalled,
        StartError,
        WorkerDied,
    )
    from penstock.core.events import Event
    from penstock.core.file_targets import appending, atomic
    from penstock.core.item import item
    from penstock.core.limits import Limits
    from penstock.core.matchers import (
        any_error,
        is_closed_pipe,
        is_epipe,
        is_error,
        is_pipe_error,
        is_signal,
        is_sigpipe,
    )
    from penstock.core.plan import Plan
    from penstock.core.profile import Profile, Sample
    from penstock.core.requirements import Requirements, Stream
    from penstock.core.result import Result, StageResult
    from penstock.core.secret import Secret
    from penstock.core.snapshot import EdgeSnapshot, Snapshot, StageSnapshot
    from penstock.core.stage import RunningStage, Stage
    from penstock.jobs.errors import MapError
    from penstock.jobs.job import Job
    from penstock.jobs.mapping import map_runs
    from penstock.stages.context import StageContext
    from penstock.stages.substitution import Arg
    from penstock.streams.buffer_pool import BufferPool, buffer_pool
    from penstock.streams.stage_ends import Input, Output

__all__ = [
    "CAPTURE",
    "DEVNULL",
    "INHERIT",
    "NEXT",
    "PIPE",
    "STDOUT",
    "TEE",
    "Arg",
    "BufferPool",
    "CaptureLimitExceeded",
    "EdgeSnapshot",
    "Event",
    "ExitError",
    "FinishEarly",
    "Input",
    "Job",
    "Limits",
    "LineTooLong",
    "MapError",
    "MemoryLimitExceeded",
    "Output",
    "PenstockError",
    "Pipeline",
    "PipelineCancelled",
    "PipelineError",
    "PipelineTimeout",
    "Plan",
    "Profile",
    "RemoteError",
    "Requirements",
    "Result",
    "Run",
    "RunningStage",
    "Sample",
    "Secret",
    "Snapshot",
    "SpoolLimitExceeded",
    "Stage",
    "StageContext",
    "StageResult",
    "StageSnapshot",
    "Stalled",
    "StartError",
    "Stream",
    "WorkerDied",
    "any_error",
    "appending",
    "atomic",
    "buffer_pool",
    "cancel_all",
    "closing",
    "command",
    "concat",
    "each_line",
    "echo",
    "filter_error",
    "filter_lines",
    "function",
    "ignore_error",
    "is_closed_pipe",
    "is_epipe",
    "is_error",
    "is_pipe_error",
    "is_signal",
    "is_sigpipe",
    "item",
    "map_line_batches",
    "map_lines",
    "map_runs",
    "memory_limit",
    "memory_observer",
    "merge",
    "on_event",
    "print_above",
    "reading",
    "route",
    "scan",
    "shared",
    "source",
    "tee",
    "transform",
    "transform_lines",
    "writing",
]

_HOMES = {
    "penstock.stages.context": ("StageContext",),
    "penstock.core.constants": (
        "CAPTURE",
        "DEVNULL",
        "INHERIT",
        "NEXT",
        "PIPE",
        "STDOUT",
        "TEE",
        "closing",
    ),
    "penstock.core.secret": ("Secret",),
    "penstock.core.errors": (
        "CaptureLimitExceeded",
        "ExitError",
        "FinishEarly",
        "LineTooLong",
        "MemoryLimitExceeded",
        "PenstockError",
        "PipelineCancelled",
        "PipelineError",
        "PipelineTimeout",
        "RemoteError",
        "SpoolLimitExceeded",
        "Stalled",
        "StartError",
        "WorkerDied",
    ),
    "penstock.core.events": ("Event",),
    "penstock.core.file_targets": (
        "appending",
        "atomic",
    ),
    "penstock.core.item": ("item",),
    "penstock.core.limits": ("Limits",),
    "penstock.core.matchers": (
        "any_error",
        "is_closed_pipe",
        "is_epipe",
        "is_error",
        "is_pipe_error",
        "is_signal",
        "is_sigpipe",
    ),
    "penstock.core.plan": ("Plan",),
    "penstock.core.profile": (
        "Profile",
        "Sample",
    ),
    "penstock.core.result": ("StageResult",),
    "penstock.engine.results": ("Result",),
    "penstock.core.requirements": (
        "Requirements",
        "Stream",
    ),
    "penstock.core.stage": (
        "RunningStage",
        "Stage",
    ),
    "penstock.core.snapshot": (
        "EdgeSnapshot",
        "Snapshot",
        "StageSnapshot",
    ),
    "penstock.stages.substitution": ("Arg",),
    "penstock.streams.buffer_pool": (
        "BufferPool",
        "buffer_pool",
    ),
    "penstock.streams.stage_ends": (
        "Input",
        "Output",
    ),
    "penstock.api.cancellation": ("cancel_all",),
    "penstock.api.commands": ("command",),
    "penstock.api.error_filters": (
        "filter_error",
        "ignore_error",
    ),
    "penstock.api.events": ("on_event",),
    "penstock.api.factories": (
        "each_line",
        "echo",
        "filter_lines",
        "function",
        "map_line_batches",
        "map_lines",
        "scan",
        "source",
        "transform",
        "transform_lines",
    ),
    "penstock.api.graphs": (
        "concat",
        "merge",
        "reading",
        "route",
        "shared",
        "tee",
        "writing",
    ),
    "penstock.api.pipeline": ("Pipeline",),
    "penstock.api.printing": ("print_above",),
    "penstock.api.run": ("Run",),
    "penstock.jobs.errors": ("MapError",),
    "penstock.jobs.job": ("Job",),
    "penstock.jobs.mapping": ("map_runs",),
    "penstock.api.memory_limits": (
        "memory_limit",
        "memory_observer",
    ),
}
# Not public, but pickles of public things name them, as they do the public ones: by `penstock`.
_PICKLED = {
    "penstock.core.item": ("Placeholder", "_Item"),
    "penstock.aio.stages": ("AsyncFunction", "AsyncLineStage", "AsyncSource", "AsyncTransform"),
    "penstock.api.pipeline": ("_restore_pipeline",),
    "penstock.core.constants": ("Special",),
    "penstock.core.errors": ("Cancelled", "ClosedPipe", "_restore_error"),
    "penstock.core.matchers": ("_died_of", "_is_equal", "_is_of_type", "_matches_any"),
    "penstock.core.plan": ("Edge", "Node"),
    "penstock.core.result": ("EdgeResult",),
    "penstock.core.secret": ("_restore_secret", "_restore_text"),
    "penstock.isolation.stage": ("Isolated",),
    "penstock.limits.memory_watch": ("MemoryWatch",),
    "penstock.stages.command": ("Command",),
    "penstock.stages.chain": ("Transform",),
    "penstock.stages.filters": ("Filtered", "_unless"),
    "penstock.stages.function": ("Echo", "Function", "Scan", "Source"),
    "penstock.stages.line_map": ("FilterLines", "MapLineBatches", "MapLines"),
    "penstock.stages.lines": ("EachLine", "TransformLines"),
    "penstock.stages.merge": ("Concat", "Merge"),
    "penstock.stages.route": ("Route",),
    "penstock.stages.substitution": ("Reading", "Writing"),
    "penstock.stages.tee": ("Shared", "Tee"),
}
_HOME_OF = {name: home for homes in (_HOMES, _PICKLED) for home, names in homes.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if name == "logging":  # `penstock.logging.verbose()` needs no import of its own
        with late_import:
            __import__("penstock.logging")
        return sys.modules["penstock.logging"]
    if home is None:
        from penstock.core.habits import function_hint  # noqa: PLC0415 - for those who look for subprocess

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{function_hint(name)}")
    with late_import:
        __import__(home)
        value = getattr(sys.modules[home], name)
    if name in __all__:
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
