"""Run the start of a run under its observers; see `runtime.listeners`.

An exception of an observer ends nothing: it is logged, and the run goes on without it.

Out of scope: what is observed (`penstock.otel`).
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial

from penstock.core.env import check_layer
from penstock.runtime.events import process_observers
from penstock.runtime.log import report
from penstock.stages.context import Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.engine.tree import GroupRun, StageRun
    from penstock.runtime.events import EventEmitter, EventSource, Observation
    from penstock.stages.context import StageContext

__all__ = ["observe_run"]


def observe_run(
    events: EventEmitter,
    root: GroupRun,
    leaves: Sequence[StageRun],
    launch: Callable[[Callable[[], None]], None],
) -> None:
    """Call the observers, then `launch`, which calls its argument once the stages have their contexts.

    All of that happens in a copy of the caller's contextvars context, in which an observer may set what it
    wants functions, nested runs and handlers to see.
    """
    context = copy_context()
    found: list[Observation] = []
    names = [leaf.stage.name for leaf in leaves]
    for observer in process_observers.copy().values():
        try:
            observation = context.run(observer, events.run_id, root.option("name"), names)
        except Exception:  # noqa: BLE001 - tracing never harms a run
            report("an observer raised")
        else:
            if observation is not None:
                found.append(observation)
    events.add(tuple(observation.handle for observation in found), context.copy())
    context.run(launch, partial(_observe_stages, leaves, tuple(found)))


def _observe_stages(leaves: Sequence[StageRun], observations: tuple[Observation, ...]) -> None:
    for leaf in leaves:
        if leaf.ctx is not None:
            leaf.ctx.scope = _ObservedScope(leaf.ctx.scope, leaf.ctx, observations)


class _ObservedScope(Scope):
    """The scope of one stage, whose environment the observers may add to."""

    __slots__ = ("_inner", "_observations", "_source")

    def __init__(self, inner: Scope, ctx: StageContext, observations: tuple[Observation, ...]) -> None:
        for name in Scope.__slots__:
            setattr(self, name, getattr(inner, name))
        self._inner = inner
        self._source = _Source(ctx)
        self._observations = observations
        self._base = None

    def environ(self) -> dict[str, str]:
        """Return the environment of the stage; the pipeline's own values hide those of observers."""
        if self._base is None:
            base = dict(self._inner.environ())
            for observation in self._observations:
                for name, value in _variables_of(observation, self._source).items():
                    if any(name in layer for layer in self.env_layers):
                        continue
                    base.pop(name, None)
                    if value is not None:
                        base[name] = value
            self._base = base
        return self._base

    def unobserved(self) -> Scope:
        """Return the pipeline's scope."""
        return self._inner


class _Source:
    """A stage as observers see it; not its context, which refers to the scope that has this."""

    __slots__ = ("argv", "name", "pid", "stage_id")

    def __init__(self, ctx: StageContext) -> None:
        self.name = ctx.name
        self.stage_id = ctx.stage_id
        self.argv = ctx.argv
        self.pid = None


def _variables_of(observation: Observation, source: EventSource) -> Mapping[str, str | None]:
    try:
        found = observation.environment(source)
        check_layer("env", found)
    except Exception:  # noqa: BLE001 - as above
        report("an observer raised")
        return {}
    return found
