"""Stages around a stage or a whole pipeline that change its outcome."""

from __future__ import annotations

from functools import partial

from penstock.core.public import exported, half_made_too
from penstock.stages.base import BuiltinStage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.matchers import Matcher
    from penstock.core.requirements import Requirements
    from penstock.core.stage import RunningStage, Stage
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output

__all__ = ["Filtered", "ignoring"]


@exported
class Filtered(BuiltinStage):
    """`fn(error | None)` returns the error that counts, or None; see `penstock.filter_error`.

    A run takes the inner stage out and calls `fn` itself; `start` is for custom stages around this one.
    """

    kind = "filtered"

    def __init__(self, stage: Stage, fn: Callable[[BaseException | None], BaseException | None]) -> None:
        self.stage = stage
        self.fn = fn

    @half_made_too
    def __repr__(self) -> str:
        if isinstance(self.fn, partial) and self.fn.func is _unless:
            return f"ignore_error({self.stage!r})"
        return f"filter_error({self.stage!r})"

    @property
    def name(self) -> str:
        """The stage's own name."""
        return self.stage.name

    @property
    def requirements(self) -> Requirements:  # type: ignore[override]  # asked of the stage each time
        """The stage's own requirements."""
        return self.stage.requirements

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> RunningStage:
        """Start the stage."""
        return _RunningFiltered(self.stage.start(ctx, stdin, stdout), self.fn)


class _RunningFiltered:
    def __init__(
        self, inner: RunningStage, fn: Callable[[BaseException | None], BaseException | None]
    ) -> None:
        self._inner = inner
        self._fn = fn
        self._reason: BaseException | None = None

    def wait(self) -> None:
        """Wait for the stage, and raise the filter's error; the reason of a cancellation is not filtered."""
        error: BaseException | None = None
        try:
            self._inner.wait()
        except BaseException as raised:
            error = raised
            if self._reason is not None and self._reason in (raised, raised.__cause__):
                raise
        error = self._fn(error)
        if error is not None:
            raise error

    def kill(self, reason: BaseException) -> None:
        """End the stage."""
        if self._reason is None:
            self._reason = reason
        self._inner.kill(reason)


def ignoring(matcher: Matcher) -> Callable[[BaseException | None], BaseException | None]:
    """Return a filter that drops errors `matcher` matches; it can be pickled if the matcher can."""
    return partial(_unless, matcher)


@exported
def _unless(matcher: Matcher, error: BaseException | None) -> BaseException | None:
    return None if error is None or matcher(error) else error
