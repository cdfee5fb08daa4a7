"""From an input to what runs: the pipeline for it, the options of its run, and the path of its output.

`check` finds the mistakes that end a map. All inputs of a list are checked before anything starts, those of
an iterator one by one. `make` calls user code, and may fail for one input: then only the job of that fails.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE
from penstock.core.describe import describe
from penstock.core.file_targets import atomic
from penstock.core.item import MapInput, expand
from penstock.core.options import check
from penstock.engine.graph import PipelineSpec
from penstock.jobs.binding import bind, uses_item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from penstock.jobs.settings import MapSettings

__all__ = ["FunctionTasks", "PipelineTasks", "Task", "Tasks"]


class Task:
    """An input with what is to be run for it."""

    __slots__ = ("attempts", "given", "options", "output", "pipeline")

    def __init__(self, given: MapInput, output: str | None) -> None:
        self.given = given
        self.output = output
        self.attempts = 0
        """How many were begun."""
        self.pipeline: PipelineSpec | None = None
        """Made for the first attempt."""
        self.options: dict[str, Any] = {}

    @property
    def writes_to_stdout(self) -> bool:
        """Whether what it writes is for the stdout of this process."""
        return self.options["stdout"] is INHERIT


class Tasks:
    """Makes the tasks of a map."""

    name: str
    """The stage that errors name if there is no pipeline for an input."""

    def __init__(self, settings: MapSettings, inputs: Iterable[Any]) -> None:
        if isinstance(inputs, str | bytes) or not hasattr(inputs, "__iter__"):
            raise TypeError(f"inputs must be an iterable of inputs, not {describe(inputs)}")
        self._settings = settings
        self._seen: dict[str, int] = {}
        self.inputs = inputs
        self.total = len(inputs) if isinstance(inputs, Collection) else None
        """How many inputs there are; None if nobody knows."""

    def check_all(self) -> None:
        """Check the inputs if they can be looked at twice. Raises ValueError for the first mistake."""
        if self.total is None:
            return
        seen: dict[str, MapInput] = {}
        for index, value in enumerate(self.inputs):
            given = MapInput(value, index)
            self._check_input(given)
            output = self._output(given)
            if output is not None:
                known = seen.setdefault(os.path.abspath(output), given)  # noqa: PTH100 - pathlib is slow
                if known is not given:
                    raise ValueError(f"{known!r}, and {given!r}, have the same output: {output!r}")

    def draw(self, given: MapInput) -> Task:
        """Return a task without its pipeline. Raises ValueError for a mistake that ends the map."""
        output = self._output(given)
        if self.total is None:
            self._check_input(given)
            if output is not None:
                known = self._seen.setdefault(os.path.abspath(output), given.index)  # noqa: PTH100 - as above
                if known != given.index:
                    raise ValueError(f"input {known}, and {given!r}, have the same output: {output!r}")
        return Task(given, output)

    def make(self, task: Task) -> None:
        """Give the task its pipeline and options. Raises anything, because it may call user code."""
        pipeline, options = self._pipeline(task.given)
        settings = self._settings
        options = {"orphans": "kill", "stdout": INHERIT, **options, **settings.run_options}
        if task.output is not None:
            options["stdout"] = atomic(task.output)
        elif settings.collect is not None:
            options["stdout"] = CAPTURE
        if options["stdout"] is PIPE or options.get("stdin") is PIPE:
            raise ValueError("a job of a map cannot have a PIPE: nobody could use it")
        task.options = options
        task.pipeline = pipeline

    def _output(self, given: MapInput) -> str | None:
        template = self._settings.output
        return None if template is None else expand(template, given)

    def _check_input(self, given: MapInput) -> None:
        """Raise ValueError if the pipelines can do nothing with an input."""

    def _pipeline(self, given: MapInput) -> tuple[PipelineSpec, dict[str, Any]]:
        """Return the pipeline for an input, and the options of its run."""
        raise NotImplementedError


class PipelineTasks(Tasks):
    """Those of one pipeline, which uses `item`, or else reads the inputs."""

    def __init__(self, settings: MapSettings, inputs: Iterable[Any], pipeline: PipelineSpec) -> None:
        super().__init__(settings, inputs)
        self._template = pipeline
        self._uses_item = uses_item(pipeline)
        self.name = pipeline.graph.nodes[0].stage.name
        _check_sync(pipeline)

    def _check_input(self, given: MapInput) -> None:
        if not (self._uses_item or isinstance(given.value, bytes | bytearray | os.PathLike)):
            raise ValueError(
                f"{self._template!r} does not use item, so it cannot take {given!r}: "
                "use item, or Path(...) for stdin, or bytes for its content"
            )

    def _pipeline(self, given: MapInput) -> tuple[PipelineSpec, dict[str, Any]]:
        if self._uses_item:
            pipeline = bind(self._template, given)
            return pipeline, {**pipeline.options}
        options = {**self._template.options}
        if isinstance(given.value, os.PathLike):
            read: dict[str, Any] = {"stdin": given.value, "input": None}
        else:
            read = {"input": given.value, "stdin": DEVNULL}
        return self._template, {**options, **check(read)}


class FunctionTasks(Tasks):
    """Those of a function, which returns a pipeline for each input."""

    def __init__(
        self, settings: MapSettings, inputs: Iterable[Any], fn: Callable[[Any], PipelineSpec]
    ) -> None:
        super().__init__(settings, inputs)
        self._fn = fn
        self.name = str(getattr(fn, "__name__", None) or type(fn).__name__)

    def _pipeline(self, given: MapInput) -> tuple[PipelineSpec, dict[str, Any]]:
        pipeline = self._fn(given.value)
        if not isinstance(pipeline, PipelineSpec):
            raise TypeError(f"{self.name}() must return a pipeline, not {describe(pipeline)}")
        _check_sync(pipeline)
        if uses_item(pipeline):
            pipeline = bind(pipeline, given)
        return pipeline, {**pipeline.options}


def _check_sync(pipeline: PipelineSpec) -> None:
    stage = pipeline.graph.first_async
    if stage is not None:
        raise TypeError(f"stage {stage.name!r} is async, and the runs of a map belong to no event loop")
