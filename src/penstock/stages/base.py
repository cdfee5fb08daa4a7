"""The traits of a stage that the engine reads, beyond the public protocol `Stage`.

Every built-in stage inherits them, each with a default, from `BuiltinStage`. A custom stage has only the
members of the protocol: `traits_of` gives the defaults for it. So no reader has to guess with `getattr`.

Out of scope: starting and running a stage.
"""

from __future__ import annotations

from penstock.core.requirements import Requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final, Self

    from penstock.core.stage import Stage
    from penstock.stages.branch import Branch
    from penstock.system.event_loops import Loop

__all__ = ["NO_PORTS", "BuiltinStage", "StageTraits", "traits_of"]

NO_PORTS: Final[Mapping[str, Any]] = {}
_ANY = Requirements()


class StageTraits:
    """The traits with their defaults, which hold for a stage that says nothing."""

    kind: str = "custom"
    """The sort of stage, as a `Result` shows it, such as `command` or `map-lines`."""
    requirements: Requirements = _ANY
    """The stage's demands on its streams; any will do by default."""
    stderr: object = None
    """The stage's own `stderr` option; None if it uses the pipeline's."""
    stdout: object = None
    """The destination of its stdout if its stderr alone goes to the next stage; else None."""
    asynchronous: bool = False
    """Whether the stage needs an event loop, and so one of the async methods."""
    opens_devnull_itself: bool = False
    """Whether the stage's process opens /dev/null for itself, so that an unused end need not be open."""
    can_be_fused: bool = False
    """Whether it is a `ChainStage`, which one thread can run together with its neighbours."""
    inlets: Mapping[str, Any] = NO_PORTS
    """The pipelines that the stage reads besides its stdin, by the names of the ports."""
    outlets: Mapping[str, Branch] = NO_PORTS
    """The branches that it writes besides its stdout, by the names of the ports."""
    starts_in_graph: bool = False
    """Whether `start_in_graph(ctx, stdin, stdout, ports)` starts it: it has inlets or outlets, for one."""
    files: Mapping[str, str] = NO_PORTS
    """Those ports whose edges are whole files, which a program opens by name, and the ends of the names."""
    fifos: Mapping[str, str] = NO_PORTS
    """Those ports whose edges are FIFOs, which a program opens by name, with the ends of their names."""
    is_source: bool = False
    """Whether it reads pipelines, or is one, so that it must be the first stage."""
    is_relay: bool = False
    """Whether it copies by `streams.relay`, and so reads on for one output while another is full."""
    ends_with_stdout: bool = False
    """Whether the end of its stdout's reader ends it, whatever its outlets do."""
    reads_any_input: bool = False
    """Whether it reads whichever input has bytes, so that it never waits for one of several."""
    has_placeholders: bool = False
    """Whether an argument or an option of it is a placeholder, so that it can only be mapped."""
    works_in_thread: bool = False
    """Whether all its work is one call in a thread of this process, which the caller's own may be."""
    has_no_user_objects: bool = False
    """Whether the stage holds only texts and numbers.

    Then letting go of it runs no user code, neither a finalizer nor a function.
    """

    @property
    def shown_arguments(self) -> tuple[str, ...] | None:
        """The arguments of a command as events show them, secrets masked; None for other stages."""
        return None


class BuiltinStage(StageTraits):
    """The base of the engine's own stages."""

    def bind_loop(self, loop: Loop) -> Self:
        """Return the stage for a run on an event loop: itself, unless it needs the loop."""
        return self


class _CustomTraits(StageTraits):
    """The traits of a custom stage: the defaults, but for what it says itself."""

    def __init__(self, stage: Stage) -> None:
        self.kind = getattr(stage, "kind", "custom")
        self.requirements = getattr(stage, "requirements", None) or _ANY


def traits_of(stage: Stage) -> StageTraits:
    """Return the traits of a stage: a built-in one has them itself, a custom one gets the defaults."""
    return stage if isinstance(stage, BuiltinStage) else _CustomTraits(stage)
