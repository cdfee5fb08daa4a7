"""Put the values of one input in the places of the placeholders of a pipeline.

If nothing changes in an object, the walk returns that very object. So a pipeline without placeholders is
itself, and keeps its graph. A shared pipeline becomes one new object, however often it is used. Each new
value is checked as it would have been when the pipeline was made.

Out of scope: what a placeholder stands for (`core.item`).
"""

from __future__ import annotations

from functools import partial

from penstock.core.env import check_layer
from penstock.core.item import bound
from penstock.core.options import TEMPLATE, check
from penstock.core.paths import path
from penstock.core.stream_options import check_stderr, check_stdout
from penstock.engine.graph import PipelineSpec
from penstock.stages.base import BuiltinStage
from penstock.stages.branch import Branch
from penstock.stages.command import Command
from penstock.stages.filters import Filtered
from penstock.stages.process_options import check_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from penstock.core.item import MapInput

__all__ = ["bind", "uses_item"]


def uses_item(pipeline: PipelineSpec) -> bool:
    """Whether there is a placeholder in a pipeline."""
    return TEMPLATE in pipeline.options or pipeline.graph.is_template


def bind(pipeline: PipelineSpec, given: MapInput) -> PipelineSpec:
    """Return the pipeline for one input. Raises TypeError or ValueError, naming what cannot be filled in."""
    return _Binder(given).pipeline(pipeline)


class _Binder:
    """The walk for one input."""

    def __init__(self, given: MapInput) -> None:
        self._given = given
        self._bound: dict[int, tuple[Any, Any]] = {}
        """By identity, with the object itself, so that no other one gets the same identity."""

    def pipeline(self, pipeline: PipelineSpec) -> PipelineSpec:
        stages = tuple([self._stage(stage) for stage in pipeline.stages])
        options = self._options(pipeline.options)
        if options is pipeline.options and _same(stages, pipeline.stages):
            return pipeline
        return type(pipeline)._of(stages, options)  # noqa: SLF001 - a pipeline of checked parts

    def _options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        new = {name: bound(value, self._given) for name, value in options.items() if name != TEMPLATE}
        changed = {name: value for name, value in new.items() if value is not options[name]}
        return {**new, **check(changed)} if changed or len(new) < len(options) else options

    def _stage(self, stage: Any) -> Any:
        known = self._bound.get(id(stage))
        if known is None:
            known = self._bound[id(stage)] = stage, self._new_stage(stage)
        return known[1]

    def _new_stage(self, stage: Any) -> Any:
        if isinstance(stage, PipelineSpec):
            return self.pipeline(stage)
        if isinstance(stage, Filtered):
            inner = self._stage(stage.stage)
            return stage if inner is stage.stage else Filtered(inner, stage.fn)
        if isinstance(stage, Command):
            return self._command(stage)
        if not isinstance(stage, BuiltinStage):
            return stage
        changes: dict[str, Any] = {}
        if stage.kind == "shared":
            changes = {"pipeline": self.pipeline(stage.pipeline)}  # type: ignore[attr-defined] # only a shared one has it
        elif stage.inlets or stage.outlets:
            changes = {
                "inlets": _mapped(stage.inlets, self.pipeline),
                "outlets": _mapped(stage.outlets, self._branch),
            }
        return _changed(stage, changes)

    def _branch(self, branch: Branch) -> Branch:
        pipeline = None if branch.pipeline is None else self.pipeline(branch.pipeline)
        options = self._options(branch.options)
        if pipeline is branch.pipeline and options is branch.options:
            return branch
        name = branch.name if pipeline is not None else str(options["stdout"])
        return Branch(name, pipeline, options)

    def _command(self, command: Command) -> Command:
        changes: dict[str, Any] = {}
        if command.has_placeholders:
            changes = self._filled_in(command)
        if command.substitutions is not None:
            changes.update(self._substituted(command))
        made: Command = _changed(command, changes)
        return made

    def _filled_in(self, command: Command) -> dict[str, Any]:
        fill = partial(bound, given=self._given)
        argv = list(command.argv)
        for place, placeholder in (command.placeholders or {}).items():
            argv[place] = check_argument(command.name, place, fill(placeholder))
        if not argv[0]:
            raise ValueError("the program must not be empty")
        cwd, env = fill(command.cwd), fill(command.env)
        stderr, stdout = fill(command.stderr), fill(command.stdout)
        return {
            "argv": tuple(argv),
            "placeholders": None,
            "has_placeholders": False,
            "cwd": None if cwd is None else path("cwd", cwd),
            "env": None if env is None else check_layer("env", env, command.name),
            "stderr": None if stderr is None else check_stderr("stderr", stderr),
            "stdout": None if stdout is None else check_stdout("stdout", stdout),
        }

    def _substituted(self, command: Command) -> dict[str, Any]:
        """Return what changes in a command if the pipelines behind its names of pipes do."""
        from penstock.stages.substitution import Arg, Reading, SubstitutedArguments, Writing  # noqa: PLC0415 - loaded

        def part(old: Any) -> Any:
            if isinstance(old, Reading):
                pipeline = self.pipeline(old.pipeline)
                return old if pipeline is old.pipeline else Reading(pipeline, old.via, old.suffix)
            if isinstance(old, Writing):
                branch = self._branch(old.branch)
                return old if branch is old.branch else Writing(branch, old.via, old.suffix)
            return old

        assert command.substitutions is not None
        arguments = command.substitutions.arguments
        parts = {place: [part(each) for each in argument.parts] for place, argument in arguments.items()}
        if all(_same(parts[place], argument.parts) for place, argument in arguments.items()):
            return {}
        made = SubstitutedArguments({place: Arg(*each) for place, each in parts.items()})
        return {
            "substitutions": made,
            "inlets": made.inlets,
            "outlets": made.outlets,
            "fifos": made.fifos,
            "files": made.files,
        }


def _mapped(old: Mapping[str, Any], change: Callable[[Any], Any]) -> Mapping[str, Any]:
    new = {name: change(each) for name, each in old.items()}
    return old if _same(new.values(), old.values()) else new


def _same(new: Any, old: Any) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def _changed(stage: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy of a stage with these attributes; the stage itself if it has the very same ones."""
    if all(getattr(stage, name) is value for name, value in changes.items()):
        return stage
    kind: Any = type(stage)
    made = kind.__new__(kind)
    vars(made).update(vars(stage))
    vars(made).update(changes)
    return made
