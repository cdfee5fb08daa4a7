"""The contract between a run and a stage, which a custom stage fulfils too."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Requirements", "RunningStage", "Stage", "Stream"]


class Stream(enum.Enum):
    """What a stage asks of one of its streams."""

    ANY = "any"
    """Either form will do; neighbours that are both Python exchange chunks in memory."""
    PREFER_FILE = "prefer-file"
    """The stage wants a descriptor, so the edge is an OS pipe."""
    FORBIDDEN = "forbidden"
    """The stage has no such stream: it must be the first (stdin) or the last (stdout), and not connected."""


class Requirements:
    """What a stage asks of its streams. Both default to `Stream.ANY`."""

    __slots__ = ("stdin", "stdout")

    def __init__(self, stdin: Stream = Stream.ANY, stdout: Stream = Stream.ANY) -> None:
        for option, value in (("stdin", stdin), ("stdout", stdout)):
            if not isinstance(value, Stream):
                raise TypeError(f"{option} must be a Stream, not {value!r}")
        self.stdin = stdin
        self.stdout = stdout

    def __repr__(self) -> str:
        return f"Requirements(stdin={self.stdin}, stdout={self.stdout})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requirements) and (self.stdin, self.stdout) == (other.stdin, other.stdout)

    def __hash__(self) -> int:
        return hash((self.stdin, self.stdout))


class Readable(Protocol):
    """A stage's `stdin` as Python code sees it."""

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
    """What a stage is told of the run; see `penstock.StageContext`."""

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


@runtime_checkable
class RunningStage(Protocol):
    """A started stage."""

    def wait(self) -> None:
        """Return once the stage has ended; raise its error if it failed.

        Called once, in a thread of its own.
        """

    def kill(self, reason: BaseException) -> None:
        """Make the stage end soon. May be called from any thread, more than once, and after the end."""


@runtime_checkable
class Stage(Protocol):
    """One element of a pipeline.

    A stage closes the streams that it was given once it no longer needs them, also where its start fails.
    """

    @property
    def name(self) -> str:
        """How errors, events and results call the stage."""
        ...

    @property
    def requirements(self) -> Requirements:
        """What it asks of its streams."""
        ...

    def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> RunningStage:
        """Start the stage and return at once; raise if it cannot be started."""
        ...
