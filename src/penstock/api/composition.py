"""Check and flatten the stages that a pipeline is made of."""

from __future__ import annotations

from penstock.core.describe import describe
from penstock.core.habits import stage_hint
from penstock.engine.graph import PipelineSpec
from penstock.stages.filters import Filtered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from penstock.core.stage import Stage

    Joinable: TypeAlias = Stage | PipelineSpec

__all__ = ["check_sources", "checked_stage", "flatten", "is_stage", "nesting_depth"]

_DEEPEST = 100
"""A run, `repr`, `name` and `pickle` recurse, and the interpreter allows about a thousand nested calls."""

_OF_THE_WHOLE = ("idle_timeout", "max_output", "spool", "keep")
"""Options of a whole run, which a nested pipeline cannot have."""


def checked_stage(stage: Any) -> Any:
    """Return a stage as the engine takes it: a pipeline of one stage without options is that stage."""
    if not is_stage(stage):
        raise TypeError(f"not a stage or pipeline: {describe(stage)}{stage_hint(stage)}")
    if isinstance(stage, PipelineSpec):
        for option in ("stdin", "stdout", "input"):
            if option in stage.options:
                raise ValueError(
                    f"a nested pipeline takes its streams from its parent, but {stage!r} has {option} set"
                )
        for option in _OF_THE_WHOLE:
            if stage.options.get(option) is not None:
                raise ValueError(
                    f"{option} is about a whole run: give it to the outermost pipeline or to the method that "
                    f"runs it, not to the nested {stage!r}"
                )
        if not stage.options and len(stage.stages) == 1:
            return stage.stages[0]
    return stage


def flatten(stages: tuple[Joinable, ...]) -> tuple[Joinable, ...]:
    """Return the stages with those of nested pipelines that have no options in their places."""
    flat: list[Joinable] = []
    for stage in stages:
        kept = checked_stage(stage)
        if isinstance(kept, PipelineSpec) and not kept.options:
            flat.extend(kept.stages)
        else:
            flat.append(kept)
    return tuple(flat)


def check_sources(stages: tuple[Joinable, ...]) -> None:
    """Raise ValueError if a stage that reads pipelines, or is one, is not the first."""
    for stage in stages[1:]:
        while isinstance(stage, Filtered):
            stage = stage.stage  # noqa: PLW2901 - the stage within the filters
        if getattr(stage, "is_source", False):
            raise ValueError(f"{stage!r} is a source, so it must be the first stage")


def nesting_depth(stages: tuple[Joinable, ...]) -> int:
    """Return how deep pipelines and error filters are nested, including those of the stages themselves."""
    deepest = 0
    for stage in stages:
        inner, depth = stage, 0
        while isinstance(inner, Filtered):
            inner, depth = inner.stage, depth + 1
        if isinstance(inner, PipelineSpec):
            depth += inner.depth
        deepest = max(deepest, depth)
    if deepest >= _DEEPEST:
        raise ValueError(f"pipelines and error filters can be nested {_DEEPEST} deep at most")
    return deepest + 1


def is_stage(thing: object) -> bool:
    """Return whether a thing is a pipeline, or has what a stage needs."""
    return isinstance(thing, PipelineSpec) or (
        not isinstance(thing, type) and hasattr(thing, "name") and callable(getattr(thing, "start", None))
    )
