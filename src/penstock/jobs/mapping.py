"""Make the map of a pipeline, or of a function that returns pipelines."""

from __future__ import annotations

from penstock.core.describe import describe
from penstock.core.public import exported
from penstock.jobs.jobs import Jobs
from penstock.jobs.settings import MapSettings
from penstock.jobs.tasks import FunctionTasks, PipelineTasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any

    from penstock.core.limits import Limits
    from penstock.core.matchers import Matcher
    from penstock.engine.graph import PipelineSpec
    from penstock.jobs.settings import Collect, Halt
    from penstock.jobs.tasks import Tasks

__all__ = ["map_pipeline", "map_runs"]


def map_pipeline(pipeline: PipelineSpec, inputs: Iterable[Any], parameters: Mapping[str, Any]) -> Jobs:
    """Return the jobs of a pipeline, of which nothing has started; see `penstock.Pipeline.map`."""
    settings = MapSettings(parameters)
    return _jobs(settings, PipelineTasks(settings, inputs, pipeline))


@exported
def map_runs(  # noqa: PLR0913 - the parameters of a map
    fn: Callable[[Any], PipelineSpec],
    inputs: Iterable[Any],
    *,
    output: Any = None,
    workers: int | None = None,
    ordered: bool = False,
    retries: int = 0,
    retry_if: Matcher | None = None,
    backoff: float | timedelta = 1.0,
    timeout: float | timedelta | None = None,
    halt: Halt = "soon",
    max_failures: float = 1,
    collect: Collect | None = None,
    limits: Limits | None = None,
    check: bool = True,
) -> Jobs:
    """Run the pipeline that `fn(input)` returns, for each input, some at once; iterate over the jobs.

    The parameters are those of `Pipeline.map`. `fn` is called in a worker thread, once for an input, when its
    job begins. If it raises, or returns anything but a pipeline, the job fails with `StartError`.

    >>> from penstock import command
    >>> def sized(name):
    ...     return command("seq", "2") if name == "small" else command("seq", "3") | command("tac")
    >>> jobs = map_runs(sized, ["small", "large"], collect="text", ordered=True)
    >>> [(job.input, job.stdout.split()) for job in jobs]
    [('small', ['1', '2']), ('large', ['3', '2', '1'])]
    """
    if not callable(fn):
        raise TypeError(f"map_runs() takes a function that returns a pipeline, not {describe(fn)}")
    settings = MapSettings({
        "output": output,
        "workers": workers,
        "ordered": ordered,
        "retries": retries,
        "retry_if": retry_if,
        "backoff": backoff,
        "timeout": timeout,
        "halt": halt,
        "max_failures": max_failures,
        "collect": collect,
        "limits": limits,
        "check": check,
    })  # fmt: skip
    return _jobs(settings, FunctionTasks(settings, inputs, fn))


def _jobs(settings: MapSettings, tasks: Tasks) -> Jobs:
    tasks.check_all()
    return Jobs(settings, tasks)
