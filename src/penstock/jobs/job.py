"""A job of a map, as users see it: one input, and how its last attempt has ended."""

from __future__ import annotations

from penstock.core.describe import describe
from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.core.errors import PipelineError
    from penstock.core.result import Result

__all__ = ["Job"]


@exported
class Job:
    """A job that has ended, as the iteration over `Pipeline.map` yields it."""

    __slots__ = ("attempt", "error", "index", "input", "output", "result", "stdout")

    input: Any
    """The input, the very object."""
    index: int
    """The number of the input, from 0."""
    attempt: int
    """The number of the last attempt, from 1: above 1 if the job was tried again."""
    output: str | None
    """The path of its output, if the map has `output`."""
    result: Result | None
    """The `Result` of the last attempt; None if there was nothing to run, as for an input without the entry
    that the pipeline names.
    """
    error: PipelineError | None
    """The error of the last attempt; None if it succeeded."""
    stdout: Any
    """Its output, with `collect`: bytes, or str decoded as UTF-8. None without."""

    def __init__(  # noqa: PLR0913 - its attributes
        self,
        input: Any,  # noqa: A002 - as the attribute
        index: int,
        *,
        attempt: int,
        output: str | None,
        result: Result | None,
        error: PipelineError | None,
        stdout: bytes | str | None,
    ) -> None:
        self.input = input
        self.index = index
        self.attempt = attempt
        self.output = output
        self.result = result
        self.error = error
        self.stdout = stdout

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None

    def __repr__(self) -> str:
        how = "ok" if self.error is None else f"failed: {self.error}"
        return f"<Job {self.index}, {describe(self.input)}, {how}>"
