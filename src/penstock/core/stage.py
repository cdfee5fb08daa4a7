"""The contract between a run and a stage, for built-in and custom stages alike.

The engine does not import this at runtime, because `typing` is expensive to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from penstock.core.public import exported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.core.requirements import Requirements

__all__ = ["RunningStage", "Stage"]


class Readable(Protocol):
    """A stage's stdin as Python code sees it."""

    def read(self, n: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


class InputLike(Protocol):
    """The stream that a stage reads; see `penstock.Input`."""

    @property
    def fd(self) -> int | None: ...
    @property
    def reader(self) -> Any: ...
    def close(self) -> None: ...


class OutputLike(Protocol):
    """The stream that a stage writes; see `penstock.Output`."""

    @property
    def fd(self) -> int | None: ...
    @property
    def writer(self) -> Any: ...
    def close(self) -> None: ...


class ContextLike(Protocol):
    """The run as a stage sees it; see `penstock.StageContext`."""

    @property
    def name(self) -> str: ...
    @property
    def cwd(self) -> str | None: ...
    @property
    def environ(self) -> Mapping[str, str]: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def cancelled(self) -> bool: ...
    def check(self) -> None: ...
    def emit(self, message: str, **context: Any) -> None: ...


@exported
@runtime_checkable
class RunningStage(Protocol):
    """A started stage, as `Stage.start` returns it."""

    def wait(self) -> None:
        """Return once the stage has ended; raise its error if it failed.

        Penstock calls it once, in a worker thread. A stage that was killed raises the `reason` of `kill`.
        """

    def kill(self, reason: BaseException) -> None:
        """Make the stage end soon, and return at once.

        It may be called from any thread, more than once, and after the end. It must not raise.
        """


@exported
@runtime_checkable
class Stage(Protocol):
    """One element of a pipeline: the protocol of custom stages.

    The stage closes its stdin and stdout as soon as it no longer needs them, even if its start fails.
    `penstock.testing.check_stage` checks the whole contract.
    """

    @property
    def name(self) -> str:
        """The name of the stage in errors, events and results: a non-empty str."""
        ...

    @property
    def requirements(self) -> Requirements:
        """The streams that the stage needs."""
        ...

    def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> RunningStage:
        """Start the stage and return at once; raise if it cannot be started.

        `ctx` is a `StageContext`, `stdin` an `Input` and `stdout` an `Output`.
        """
        ...
