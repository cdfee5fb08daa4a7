"""Choose the one error that a run reports: a pure rule over the outcomes of its stages.

Strategy: one walk from the last stage to the first, with two flags. `finished_early` says that the stages
below ended on purpose before their input did; a nested pipeline passes it on to its parent. `forgiving` says
that a pipe error met now does not count. With `pipe_errors="report"` the two are the same flag, and the rule
is go-pipe's. With "forgive" a success too sets `forgiving` (the stage below had all that it wanted), but
never `finished_early`.

So the earliest error other than a pipe error wins; failing that, the last pipe error that nothing forgives.

Out of scope: names, results, events, and the decision which stages are excluded. The caller knows which stage
cancelled which, and marks those outcomes first.
"""

from __future__ import annotations

from penstock.core.errors import Cancelled, FinishEarly, PipelineCancelled, PipelineTimeout
from penstock.core.matchers import any_error, is_error, is_pipe_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["PIPE_ERRORS", "Outcome", "Verdict", "check_pipe_errors", "verdict"]

PIPE_ERRORS: Final = ("forgive", "report")

# A pipe error may itself be the reason of a cancellation (`run.cancel(broken_pipe_of_my_client)`). A
# cancellation must be reported, so it never counts as a pipe error of the run.
_told_to_stop: Final = any_error(is_error(PipelineTimeout), is_error(PipelineCancelled), is_error(Cancelled))


class Outcome:
    """The outcome of one stage.

    `error` is None for a success, and a `FinishEarly` if the stage ended early on purpose. `excluded` says
    that the stage was cancelled because of another one, so that its outcome takes no part in the verdict.
    """

    __slots__ = ("error", "excluded")

    def __init__(self, error: BaseException | None = None, *, excluded: bool = False) -> None:
        self.error = error
        self.excluded = excluded

    def __repr__(self) -> str:
        return f"Outcome({self.error!r}{', excluded=True' if self.excluded else ''})"


class Verdict:
    """The outcome of a whole run.

    `error` is the error object of the outcome that was chosen, and `index` its place among the outcomes; both
    are None for a success. `finished_early` is true if the run succeeded and its input was left unread on
    purpose: by a `FinishEarly`, never by forgiveness.
    """

    __slots__ = ("error", "finished_early", "index")

    def __init__(
        self,
        index: int | None = None,
        error: BaseException | None = None,
        *,
        finished_early: bool = False,
    ) -> None:
        self.index = index
        self.error = error
        self.finished_early = finished_early

    def as_outcome(self) -> Outcome:
        """Return the outcome that a nested pipeline with this verdict has for its parent."""
        if self.error is None and self.finished_early:
            return Outcome(FinishEarly())
        return Outcome(self.error)

    def __repr__(self) -> str:
        return f"Verdict({self.index!r}, {self.error!r}, finished_early={self.finished_early!r})"


def check_pipe_errors(value: object) -> str:
    """Return the value of the option `pipe_errors`; raise ValueError, naming it, if it is unknown."""
    for known in PIPE_ERRORS:
        if value == known:
            return known
    raise ValueError(f"pipe_errors must be 'forgive' or 'report', not {value!r}")


def verdict(outcomes: Sequence[Outcome], *, pipe_errors: str = "forgive") -> Verdict:
    """Choose the one error that a run with these outcomes, first stage first, reports.

    `is_pipe_error` decides what a pipe error is, anywhere in the chain of causes. A `FinishEarly` counts only
    as the error itself, because an error raised from one was meant to be seen. Raises ValueError for an
    unknown `pipe_errors`.

    >>> broken = BrokenPipeError()
    >>> verdict([Outcome(broken), Outcome()])
    Verdict(None, None, finished_early=False)
    >>> verdict([Outcome(broken), Outcome()], pipe_errors="report").index
    0
    """
    success_forgives = check_pipe_errors(pipe_errors) == "forgive"
    kept: int | None = None
    finished_early = forgiving = False
    for index in range(len(outcomes) - 1, -1, -1):
        outcome = outcomes[index]
        if outcome.excluded:
            continue
        error = outcome.error
        if error is None:
            # go-pipe forgets here that a later stage finished early: this one read to its end, so the early
            # end did not disturb the stages above it.
            finished_early, forgiving = False, success_forgives
        elif isinstance(error, FinishEarly):
            finished_early = forgiving = True
        elif _is_only_pipe_error(error):
            # Forgiven or not, it leaves the flags alone: the stage above may have met this one's closed input
            # in turn.
            if not forgiving and kept is None:
                kept = index
        else:
            kept = index
            # As the rule says; with an error kept neither flag can change the verdict any more.
            finished_early = forgiving = False
    if kept is None:
        return Verdict(finished_early=finished_early)
    return Verdict(kept, outcomes[kept].error)


def _is_only_pipe_error(error: BaseException) -> bool:
    return is_pipe_error(error) and not _told_to_stop(error)
