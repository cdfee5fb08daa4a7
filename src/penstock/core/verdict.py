"""Choose the one error that a run reports: a pure rule over the outcomes of its stages.

The first error other than a pipe error wins; failing that, the last pipe error that nothing forgives. A pipe
error is forgiven if at least one consumer of the stage had enough, and none failed. The consumers are the
stages that read its output: in a line of stages the next one, in a graph any number.

Strategy: one walk from the last stage to the first, which notes what each stage shows to its producers:

- `_FINISHED_EARLY` after a `FinishEarly`: the stage had enough, and ended on purpose before its input did. A
  nested pipeline passes this on to its parent.
- `_HAD_ENOUGH` after a success with `pipe_errors="forgive"`. With "report" a success shows `_NOTHING`, and in
  a line the rule is go-pipe's.
- `_NOTHING` after any other error.
- The greatest of what its own consumers show, for an excluded stage and after a pipe error: the stage above
  may have met this one's closed input in turn. A stage without consumers shows `_NOTHING`.

A pipe error is forgiven unless the consumers show `_NOTHING`. The walk need not note that a consumer failed.
The verdict is then an error other than a pipe error, or a pipe error further down. Both go before this one.

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

# A stage shows one of these to its producers. Of several consumers the greatest counts, so the order matters.
_NOTHING: Final = 0
_HAD_ENOUGH: Final = 1
_FINISHED_EARLY: Final = 2


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


def verdict(
    outcomes: Sequence[Outcome],
    *,
    pipe_errors: str = "forgive",
    consumers: Sequence[Sequence[int]] | None = None,
    head: int = 0,
) -> Verdict:
    """Choose the one error that a run with these outcomes, first stage first, reports.

    Without `consumers` the stages are a line. For a graph the outcomes are in a topological order, and
    `consumers[i]` holds the indices of the stages that read the output of stage `i`. `head` is the index of
    the stage that reads the input of the graph: the graph finished early if that stage shows so.

    `is_pipe_error` decides what a pipe error is, anywhere in the chain of causes. A `FinishEarly` counts only
    as the error itself, because an error raised from one was meant to be seen.

    Raises ValueError for an unknown `pipe_errors`, for `consumers` that do not fit the outcomes or are not
    after their producer, and for a `head` that is not a stage or, in a line, not the first.

    >>> broken, enough = Outcome(BrokenPipeError()), Outcome(FinishEarly())
    >>> verdict([broken, Outcome()])
    Verdict(None, None, finished_early=False)
    >>> verdict([broken, Outcome()], pipe_errors="report").index
    0

    In a graph whose first stage feeds the other two, one that had enough forgives it if the other succeeded:

    >>> verdict([broken, enough, Outcome()], consumers=[[1, 2], [], []])
    Verdict(None, None, finished_early=True)
    >>> verdict([broken, enough, Outcome(ValueError())], consumers=[[1, 2], [], []])
    Verdict(2, ValueError(), finished_early=False)
    """
    enough = _HAD_ENOUGH if check_pipe_errors(pipe_errors) == "forgive" else _NOTHING
    if consumers is not None:
        return _graph_verdict(outcomes, enough, consumers, head)
    if head != 0:
        raise ValueError(f"head must be 0 without consumers, not {head}")
    kept: int | None = None
    shown = _NOTHING
    for index in range(len(outcomes) - 1, -1, -1):
        outcome = outcomes[index]
        if outcome.excluded:
            continue
        error = outcome.error
        if error is None:
            # go-pipe forgets here that a later stage finished early: this one read to its end, so the early
            # end did not disturb the stages above it.
            shown = enough
        elif isinstance(error, FinishEarly):
            shown = _FINISHED_EARLY
        elif not _is_only_pipe_error(error):
            kept = index
            shown = _NOTHING
        elif shown == _NOTHING and kept is None:
            kept = index
    if kept is None:
        return Verdict(finished_early=shown == _FINISHED_EARLY)
    return Verdict(kept, outcomes[kept].error)


def _graph_verdict(
    outcomes: Sequence[Outcome], enough: int, consumers: Sequence[Sequence[int]], head: int
) -> Verdict:
    """Walk a graph by the rule that `verdict` has for a line; change both together.

    One walk for both would take up to 15 % longer over a line, and nearly every pipeline is a line.
    """
    _check_graph(len(outcomes), consumers, head)
    kept: int | None = None
    shown = [_NOTHING] * len(outcomes)
    for index in range(len(outcomes) - 1, -1, -1):
        outcome = outcomes[index]
        error = outcome.error
        below = max([shown[consumer] for consumer in consumers[index]], default=_NOTHING)
        if outcome.excluded:
            shown[index] = below
        elif error is None:
            shown[index] = enough
        elif isinstance(error, FinishEarly):
            shown[index] = _FINISHED_EARLY
        elif not _is_only_pipe_error(error):
            kept = index  # and it shows `_NOTHING`, as `shown` already says
        else:
            shown[index] = below
            if below == _NOTHING and kept is None:
                kept = index
    if kept is None:
        return Verdict(finished_early=bool(shown) and shown[head] == _FINISHED_EARLY)
    return Verdict(kept, outcomes[kept].error)


def _check_graph(count: int, consumers: Sequence[Sequence[int]], head: int) -> None:
    if len(consumers) != count:
        raise ValueError(f"consumers must have one entry for each of {count} outcomes, not {len(consumers)}")
    for producer, indices in enumerate(consumers):
        for consumer in indices:
            if not producer < consumer < count:
                raise ValueError(
                    f"consumers[{producer}] must be indices of later outcomes, below {count}, not {consumer}"
                )
    if not 0 <= head < max(count, 1):
        raise ValueError(f"head must be the index of one of {count} outcomes, not {head}")


def _is_only_pipe_error(error: BaseException) -> bool:
    return is_pipe_error(error) and not _told_to_stop(error)
