"""The one error of a whole map."""

from __future__ import annotations

from penstock.core.errors import PenstockError, PipelineError
from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["MapError"]

_MOST_KEPT = 1000


@exported
class MapError(PenstockError, ExceptionGroup[PipelineError]):
    """Jobs of a map have failed. An ExceptionGroup of their `PipelineError`s, in the order of the inputs.

    The iteration raises it at its end, after every job, unless `check=False`. Each error has a note that
    names the input. `failures` is the number of jobs that failed; the group holds the first 1,000 of their
    errors. Jobs that were cancelled because another one failed (`halt="now"`) do not count.

    >>> from penstock import command, item
    >>> try:
    ...     for job in command("test", item, "-gt", "1").map([1, 2, 0], halt="never"):
    ...         pass
    ... except* PipelineError as group:
    ...     print(group.message, [str(error) for error in group.exceptions])
    2 of 3 jobs failed ['test: exit status 1', 'test: exit status 1']
    """

    failures: int

    def __new__(cls, message: str, errors: Sequence[PipelineError], failures: int | None = None) -> Self:
        """Make the group; `failures` may be more than there are errors."""
        made = super().__new__(cls, message, errors)
        made.failures = len(errors) if failures is None else failures
        return made

    def __init__(self, message: str, errors: Sequence[PipelineError], failures: int | None = None) -> None:
        super().__init__(message, errors)

    def derive(self, errors: Sequence[PipelineError], /) -> MapError:  # type: ignore[override]  # only such ones are in it
        """Return a group of some of the errors, as `except*` and `split` ask for."""
        return MapError(self.message, errors)


class Failures:
    """The failures of a map so far: all are counted, the first ones are kept."""

    __slots__ = ("_kept", "count")

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[tuple[int, PipelineError]] = []

    def add(self, index: int, error: PipelineError) -> None:
        """Note the failure of the job of an input."""
        self.count += 1
        if len(self._kept) < _MOST_KEPT:
            self._kept.append((index, error))

    def as_error(self, ended: int, *, halted: bool) -> MapError | None:
        """Return the error for a map in which so many jobs have ended; None without a failure."""
        if not self.count:
            return None
        errors = [error for _, error in sorted(self._kept, key=lambda each: each[0])]
        rest = "; no further one was started" if halted else ""
        return MapError(f"{self.count} of {ended} jobs failed{rest}", errors, self.count)
