"""Streaming pipelines of external commands and Python functions.

`command("git", "log") | map_lines(f) | command("sort")` is a pipeline; `run`, `output`, `start` and so on execute it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.control.context import StageContext
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE, STDOUT, closing
from penstock.core.env import Secret
from penstock.core.errors import (
    ExitError,
    FinishEarly,
    LineTooLong,
    MemoryLimitExceeded,
    PenstockError,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
)
from penstock.core.matchers import any_error, is_closed_pipe, is_epipe, is_error, is_pipe_error, is_signal, is_sigpipe
from penstock.core.plan import Plan
from penstock.core.stage import Requirements, RunningStage, Stage, Stream
from penstock.data.buffers import BufferPool, buffer_pool
from penstock.data.ends import Input, Output
from penstock.factories import (
    command,
    each_line,
    echo,
    filter_error,
    filter_lines,
    function,
    ignore_error,
    map_line_batches,
    map_lines,
    scan,
    source,
    transform,
    transform_lines,
)
from penstock.pipeline import Pipeline
from penstock.run import Run

if TYPE_CHECKING:
    from penstock.core.events import Event
    from penstock.core.result import Result, StageResult

__all__ = [
    "CAPTURE",
    "DEVNULL",
    "INHERIT",
    "PIPE",
    "STDOUT",
    "BufferPool",
    "Event",
    "ExitError",
    "FinishEarly",
    "Input",
    "LineTooLong",
    "MemoryLimitExceeded",
    "Output",
    "PenstockError",
    "Pipeline",
    "PipelineCancelled",
    "PipelineError",
    "PipelineTimeout",
    "Plan",
    "Requirements",
    "Result",
    "Run",
    "RunningStage",
    "Secret",
    "Stage",
    "StageContext",
    "StageResult",
    "StartError",
    "Stream",
    "any_error",
    "buffer_pool",
    "closing",
    "command",
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
    "map_line_batches",
    "map_lines",
    "scan",
    "source",
    "transform",
    "transform_lines",
]

# Dataclasses, which cost as much to import as the rest of the package, and which few programs name.
_LATE = {"Event": "penstock.core.events", "Result": "penstock.core.result", "StageResult": "penstock.core.result"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_LATE[name]), name)
