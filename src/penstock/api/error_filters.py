"""The constructors of stages that run another stage and decide about its error.

Out of scope: when user code is called, and in which thread (see `engine.tree`).
"""

from __future__ import annotations

from penstock.api.composition import checked_stage
from penstock.api.pipeline import Pipeline
from penstock.api.variants import check_callable
from penstock.core.async_detection import plain
from penstock.core.matchers import check_matcher
from penstock.core.public import exported
from penstock.stages.filters import Filtered, ignoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.matchers import Matcher
    from penstock.core.stage import Stage

__all__ = ["filter_error", "ignore_error"]


@exported
def ignore_error(stage: Stage | Pipeline, matcher: Matcher) -> Pipeline:
    """Make a stage that runs `stage` and succeeds if it fails with an error that `matcher` accepts.

    `stage` is a stage or a whole pipeline. `matcher` is called with an exception, never with None, and says
    whether to ignore it; write `is_error(ValueError)` for the errors of a class. A matcher never sees the
    deadline or cancellation of the run, which cannot be ignored, nor a `FinishEarly`. This is go-pipe's
    IgnoreError.

    Raises TypeError if `matcher` is not callable, or is an exception class, which would ignore every error.

    >>> from penstock import ExitError, command, is_error
    >>> ignore_error(command("false"), is_error(ExitError)).run().ok
    True
    """
    check_matcher("ignore_error", matcher)
    return filter_error(stage, ignoring(matcher))


@exported
def filter_error(
    stage: Stage | Pipeline, fn: Callable[[BaseException | None], BaseException | None]
) -> Pipeline:
    """Make a stage that runs `stage` and whose outcome is `fn(error)`.

    `stage` is a stage or a whole pipeline. `fn` gets its error, or None if it succeeded, and returns the
    error to report, or None for a success. An exception that `fn` raises is reported too. A worker thread
    calls `fn`.

    Raises TypeError if `fn` is not a plain callable. The stage fails with TypeError if `fn` returns anything
    but an exception or None.

    >>> from penstock import command
    >>> filter_error(command("false"), lambda error: None).run().ok
    True
    """
    return Pipeline(Filtered(checked_stage(stage), plain("filter_error", check_callable("filter_error", fn))))
