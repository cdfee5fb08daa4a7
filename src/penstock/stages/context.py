"""The context that a run gives to each of its stages."""

from __future__ import annotations

from penstock.core.env import merge
from penstock.core.public import exported
from penstock.core.secret import restored
from penstock.stages.base import traits_of
from penstock.system.environment import inherited
from penstock.system.process import kill_and_reap
from penstock.system.spawn_request import SpawnRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from penstock.core.stage import Stage
    from penstock.limits.confinement import Confinement
    from penstock.runtime.reactor import Reactor
    from penstock.runtime.start_barrier import StartBarrier
    from penstock.stages.run_services import RunServices
    from penstock.stages.running import Running
    from penstock.stages.stderr import StderrTarget
    from penstock.system.guard_table import Guard

    _Names = dict[str, Any]
else:
    _Names = dict

__all__ = ["NamedEnds", "Scope", "StageContext"]


class NamedEnds(_Names):
    """The further ends of a function, by name; an unknown name is a KeyError that lists the known ones."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"the stage has no {name!r} here; it has {', '.join(map(repr, self)) or 'none'}")


class Scope:
    """The settings that the stages of one pipeline (a nested one too) share; read-only once the run starts.

    `environ()` evaluates the environment once, in the starter's thread and context, for all stages that add
    no variables.
    """

    __slots__ = (
        "_base",
        "confinement",
        "cwd",
        "deadline",
        "env_layers",
        "events",
        "grace",
        "guard",
        "inherit_env",
        "on_exception",
        "on_leftover",
        "reactor",
        "services",
        "stderr",
    )

    def __init__(  # noqa: PLR0913 - what differs between the pipelines of a run
        self,
        services: RunServices,
        options: Mapping[str, Any],
        *,
        env_layers: tuple[Mapping[str, Any], ...],
        deadline: float | None,
        stderr: StderrTarget,
        confinement: Confinement | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`options` are the pipeline's own over those of the pipelines around it."""
        self.services = services
        self.reactor = services.reactor
        self.cwd: str | None = options["cwd"]
        self.env_layers = env_layers
        self.inherit_env: bool = options["inherit_env"]
        self.grace: float = options["grace"]
        self.deadline = deadline
        self.stderr = stderr
        self.events = services.events.for_handler(options["on_event"])
        self.on_exception: Callable[[str, BaseException], BaseException | None] | None = options[
            "on_exception"
        ]
        self.confinement = confinement
        """The limits of its commands."""
        self.guard = guard
        """Ends its commands if the host dies; None if they are left."""
        self.on_leftover: str = options["on_leftover"]
        self._base: dict[str, str] | None = None

    def environ(self) -> dict[str, str]:
        """Return the environment of the pipeline's stages. Do not change it: other runs may share it."""
        if self._base is None:
            base = inherited() if self.inherit_env else {}
            base = merge(base, *self.env_layers) if self.env_layers else base
            self._base = base if self.guard is None else self.guard.environ(base)
        return self._base

    def unobserved(self) -> Scope:
        """Return the scope without what an observer adds to the environment."""
        return self


@exported
class StageContext:
    """A running stage's view of its run.

    `name` is the stage's name. `cwd` is the directory of its relative paths (None: the process's own).
    `environ` is the environment that a child would get (names and values as str, secrets in clear text).
    `deadline` is the `time.monotonic()` at which the run ends (None: no limit). `cancelled` says whether the
    stage is to end, and `check()` raises the reason. `emit(message)` sends an event. `inputs` and `outputs`
    are the streams that `function(inputs=, outputs=)` has named, of the same kind as stdin and stdout. All
    other members are for Penstock's own stages, and may change.
    """

    inputs: Mapping[str, Any] = NamedEnds()
    outputs: Mapping[str, Any] = NamedEnds()
    pid: int | None = None
    """The process of the stage, once it is known."""
    child: Running | None = None
    """The last command that is being watched, in case an interrupt keeps `start` from returning it."""
    _spawned: SpawnRecord | None = None
    _reason: BaseException | None = None
    _environ: dict[str, str] | None = None

    def __init__(
        self,
        name: str,
        scope: Scope,
        barrier: StartBarrier,
        stage: Stage | None = None,
        stage_id: str | None = None,
    ) -> None:
        """`stage` and its id in the plan are for events; a worker process knows neither."""
        self.name = name
        self.stage_id = stage_id
        self._stage = stage
        self.scope = scope
        self.barrier = barrier
        """Runs calls once every stage has been started."""

    def __repr__(self) -> str:
        return f"StageContext({self.name!r})"

    @property
    def cwd(self) -> str | None:
        """The pipeline's working directory; None for the process's own."""
        return None if self.scope.cwd is None else restored(self.scope.cwd)

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the pipeline's stages."""
        if self._environ is None:
            self._environ = dict(self.scope.environ())
        return self._environ

    @property
    def deadline(self) -> float | None:
        """The `time.monotonic()` at which the run ends at the latest; None for no limit."""
        return self.scope.deadline

    @property
    def cancelled(self) -> bool:
        """Whether the stage has been cancelled."""
        return self._reason is not None

    def check(self) -> None:
        """Raise the reason of the cancellation, if any. A long computation calls this now and then."""
        if self._reason is not None:
            raise self._reason

    def emit(self, message: str, **context: Any) -> None:
        """Send an event of kind `message` to the run's `on_event` handler."""
        self.emit_event("message", message, None, context)

    # From here on: for the engine's own stages.

    @property
    def reactor(self) -> Reactor:
        """The event loop that drives the run."""
        return self.scope.reactor

    @property
    def grace(self) -> float:
        """Seconds between asking a stage to end and forcing it."""
        return self.scope.grace

    def cancel(self, reason: BaseException) -> None:
        """Make `cancelled` true. The first reason stands."""
        if self._reason is None:
            self._reason = reason

    @property
    def spawned(self) -> SpawnRecord:
        """Holds the pids of its children from the moment they exist."""
        if self._spawned is None:
            self._spawned = SpawnRecord()
        return self._spawned

    def register(self, child: Running) -> None:
        """Note a command that is being watched, in case an interrupt keeps `start` from returning it."""
        self.child = child
        self.pid = child.pid

    def recover_child(self) -> Running | None:
        """Return the command that an interrupted start has left, and watch it; kill a child before that."""
        child = self.child
        for pid in () if self._spawned is None else self._spawned.pids():
            if child is None or pid != child.pid:
                kill_and_reap(pid)
        if child is not None:
            child.begin_watch()
        return child

    def unregister(self) -> None:
        """Forget that command: its stage has returned it."""
        if self.child is not None:
            self.child = None

    @property
    def listened_to(self) -> bool:
        """Whether the run has an event handler; without one, events need not be built."""
        return bool(self.scope.events.handlers)

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The arguments of a command, secrets masked; None for another stage."""
        return None if self._stage is None else traits_of(self._stage).shown_arguments

    def emit_event(
        self,
        kind: str,
        message: str,
        error: BaseException | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        elapsed: float | None = None,
    ) -> None:
        """Queue an event of this stage. Do nothing if nobody listens."""
        self.scope.events.emit(kind, self, message, error, context, elapsed=elapsed)

    def report_leftover(self, pids: Sequence[int]) -> None:
        """Report that the stage, which ended by itself, has left processes behind."""
        self.scope.events.emit_leftover(self, pids)
