"""The contract between a run and a stage, for built-in and custom stages alike."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from penstock.core.public import exported

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Requirements", "RunningStage", "Stage", "Stream"]


@exported
class Stream(enum.Enum):
    """The kind of stream that a stage needs as its stdin or stdout."""

    ANY = "any"
    """A file descriptor or an in-memory stream; two Python neighbours exchange chunks in memory."""
    PREFER_FILE = "prefer-file"
    """A file descriptor, so the edge is an OS pipe."""
    FORBIDDEN = "forbidden"
    """No such stream: the stage must be first (stdin) or last (stdout), and its end not connected."""


@exported
class Requirements:
    """The streams that a stage needs, a `Stream` for each; both default to `Stream.ANY`.

    Raises TypeError for any other value. Two requirements with the same values are equal.

    >>> Requirements(stdin=Stream.FORBIDDEN) == Requirements(Stream.FORBIDDEN, Stream.ANY)
    True
    """

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
