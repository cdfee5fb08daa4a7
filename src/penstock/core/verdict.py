"""Which one error a run reports: a pure rule over how its stages ended.

Strategy: one walk from the last stage to the first, with two flags. `finished_early` says that what stands
below ended on purpose before its input did, and is what a nested pipeline tells its parent. `forgiving` says
whether a pipe error met now tells no news. With `pipe_errors="report"` the two are the same flag, and the
rule is go-pipe's. With "forgive" a success too sets `forgiving` (the stage below had all that it wanted), but
never `finished_early`.

So the earliest error that is no pipe error wins; failing that, the last pipe error that nothing forgives.

What may not live here: names, results, events, and the decision who is excluded. The caller, which knows who
cancelled whom, marks those outcomes before it asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.core.errors import Cancelled, FinishEarly, PipelineCancelled, PipelineTimeout
from penstock.core.matchers import any_error, is_error, is_pipe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PIPE_ERRORS", "Outcome", "Verdict", "check_pipe_errors", "verdict"]

PIPE_ERRORS: Final = ("forgive", "report")

# A reason may itself be caused by a pipe error (`run.cancel(broken_pipe_of_my_client)`). That the run was
# told to stop is news all the same, so it is never taken for a pipe error of the run's own.
_told_to_stop: Final = any_error(is_error(PipelineTimeout), is_error(PipelineCancelled), is_error(Cancelled))


class Outcome:
    """How one stage ended.

    `error` is None for a success and a `FinishEarly` where the stage ended early on purpose. `excluded` says
    that the stage was cancelled because of another one, so that however it ended takes no part in the
    verdict.
    """

    __slots__ = ("error", "excluded")

    def __init__(self, error: BaseException | None = None, *, excluded: bool = False) -> None:
        self.error = error
        self.excluded = excluded

    def __repr__(self) -> str:
        return f"Outcome({self.error!r}{', excluded=True' if self.excluded else ''})"


class Verdict:
    """What a run reports.

    `error` is the error that is kept, the very object of the outcome, and `index` that outcome's place among
    those that were judged; both are None for a success. `finished_early` is true where the run succeeded and
    its input was left unread on purpose: by a `FinishEarly`, never by forgiveness.
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
        """Tell the outcome that a nested pipeline with this verdict is to its parent."""
        if self.error is None and self.finished_early:
            return Outcome(FinishEarly())
        return Outcome(self.error)

    def __repr__(self) -> str:
        return f"Verdict({self.index!r}, {self.error!r}, finished_early={self.finished_early!r})"


def check_pipe_errors(value: object) -> str:
    """Return the value of the option `pipe_errors`; a `ValueError` that names it where it is unknown."""
    for known in PIPE_ERRORS:
        if value == known:
            return known
    raise ValueError(f"pipe_errors must be 'forgive' or 'report', not {value!r}")


def verdict(outcomes: Sequence[Outcome], *, pipe_errors: str = "forgive") -> Verdict:
    """Choose the one error that a run with these outcomes, first stage first, reports.

    A pipe error is what `is_pipe_error` matches, anywhere in the chain of causes; a `FinishEarly` counts only
    as the error itself, since an error raised from one was meant to be seen. Raises `ValueError` for an
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
            # go-pipe forgets here that a later stage finished early: this one read to its end, so whatever is
            # above it was not disturbed by that.
            finished_early, forgiving = False, success_forgives
        elif isinstance(error, FinishEarly):
            finished_early = forgiving = True
        elif _is_only_pipe_error(error):
            # Forgiven or not, it leaves the flags: the stage above may have met this one's closed input in
            # turn.
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
