"""The verdict, as a table and as a property: which error a run reports, and when it finished early."""

from __future__ import annotations

import errno
import itertools
import re
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import (
    Cancelled,
    ClosedPipe,
    ExitError,
    FinishEarly,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
)
from penstock.core.verdict import Outcome, Verdict, check_pipe_errors, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("report", "forgive")


def pipe_errors() -> list[BaseException]:
    """One of each kind of pipe error, and one as a nested pipeline reports it."""
    sigpipe = ExitError(-signal.SIGPIPE, ["yes"])
    return [
        sigpipe,
        OSError(errno.EPIPE, "Broken pipe"),
        BrokenPipeError(),
        ClosedPipe(),
        PipelineError("yes", sigpipe, index=0),
    ]


def outcome(kind: str, pipe_error: BaseException | None = None) -> Outcome:
    """S: success. F: finished early. P: pipe error. E: any other error. Lower case: the same, excluded."""
    error: BaseException | None
    match kind.upper():
        case "S":
            error = None
        case "F":
            error = FinishEarly()
        case "P":
            error = ClosedPipe() if pipe_error is None else pipe_error
        case _:
            error = ValueError("bad input")
    return Outcome(error, excluded=kind.islower())


def outcomes(kinds: str, pipe_error: BaseException | None = None) -> list[Outcome]:
    """Return one outcome for each letter."""
    return [outcome(kind, pipe_error) for kind in kinds]


def check(kinds: str, mode: str, index: int | None, *, finished_early: bool) -> None:
    """Check the verdict with each kind of pipe error in the place of P."""
    for pipe_error in pipe_errors():
        given_outcomes = outcomes(kinds, pipe_error)
        result = verdict(given_outcomes, pipe_errors=mode)
        assert (result.index, result.finished_early) == (index, finished_early)
        assert result.error is (None if index is None else given_outcomes[index].error)


# The combinations that go-pipe's own table of errors holds. Columns: stages first to last, the index of the
# reported error under "report" and under "forgive", and whether the pipeline then counts as finished early
# (the same in both).
GO_PIPE = [
    pytest.param("SSS", None, None, False, id="no-error"),
    pytest.param("E", 0, 0, False, id="one-stage-fails"),
    pytest.param("SES", 1, 1, False, id="one-of-three-fails"),
    pytest.param("SEES", 1, 1, False, id="two-neighbours-fail"),
    pytest.param("SPES", 2, 2, False, id="pipe-error-above-an-error"),
    pytest.param("SEPS", 1, 1, False, id="error-above-a-pipe-error"),
    pytest.param("SESES", 1, 1, False, id="two-errors-with-a-success-between"),
    pytest.param("SFSFS", None, None, False, id="two-finish-early"),
    pytest.param("EF", 0, 0, False, id="error-above-finish-early"),
    pytest.param("FE", 1, 1, False, id="error-below-finish-early"),
    pytest.param("PF", None, None, True, id="pipe-error-above-finish-early"),
    pytest.param("PFF", None, None, True, id="pipe-error-above-two-finish-early"),
    pytest.param("PPF", None, None, True, id="two-pipe-errors-above-finish-early"),
    pytest.param("PSF", 0, None, False, id="a-success-between-pipe-error-and-finish-early"),
    pytest.param("FP", 1, 1, False, id="pipe-error-below-finish-early"),
    pytest.param("EPF", 0, 0, False, id="error-above-a-forgiven-pipe-error"),
    pytest.param("PEF", 1, 1, False, id="error-between-pipe-error-and-finish-early"),
]

MORE = [
    pytest.param("", None, None, False, id="no-stages"),
    pytest.param("F", None, None, True, id="only-finish-early"),
    pytest.param("P", 0, 0, False, id="only-a-pipe-error"),
    pytest.param("PS", 0, None, False, id="yes-into-head"),
    pytest.param("PPS", 1, None, False, id="two-pipe-errors-above-a-success"),
    pytest.param("SP", 1, 1, False, id="a-pipe-error-in-the-last-stage"),
    pytest.param("PP", 1, 1, False, id="the-last-of-two-pipe-errors"),
    pytest.param("PSP", 2, 2, False, id="a-success-between-two-pipe-errors"),
    pytest.param("PE", 1, 1, False, id="a-pipe-error-above-a-stage-that-failed"),
    pytest.param("PPE", 2, 2, False, id="two-pipe-errors-above-a-stage-that-failed"),
    pytest.param("PFSF", None, None, True, id="the-upper-finish-early-counts"),
    pytest.param("SF", None, None, False, id="a-success-above-finish-early-read-everything"),
    pytest.param("FS", None, None, True, id="finish-early-above-a-success"),
    pytest.param("PFPS", 2, None, True, id="finish-early-above-a-pipe-error-above-a-success"),
    pytest.param("ES", 0, 0, False, id="a-failing-first-stage-is-not-hidden-by-a-successful-last-one"),
]

EXCLUDED = [
    pytest.param("e", None, None, False, id="only-an-excluded-stage"),
    pytest.param("eE", 1, 1, False, id="an-excluded-error-above-an-error"),
    pytest.param("Ee", 0, 0, False, id="an-excluded-error-below-an-error"),
    pytest.param("PsF", None, None, True, id="an-excluded-success-forgets-nothing"),
    pytest.param("PeF", None, None, True, id="an-excluded-error-forgets-nothing"),
    pytest.param("Ps", 0, 0, False, id="an-excluded-success-forgives-nothing"),
    pytest.param("Pf", 0, 0, False, id="an-excluded-finish-early-forgives-nothing"),
    pytest.param("pS", None, None, False, id="an-excluded-pipe-error-is-not-reported"),
    pytest.param("f", None, None, False, id="an-excluded-finish-early-finishes-nothing"),
]


@pytest.mark.parametrize(("kinds", "reported", "forgiven", "finished_early"), [*GO_PIPE, *MORE, *EXCLUDED])
def test_the_table_with_pipe_errors_reported(
    kinds: str,
    reported: int | None,
    forgiven: int | None,  # noqa: ARG001 - the other test's column
    finished_early: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """With `pipe_errors="report"` the rule is go-pipe's; nothing finished early where an error is kept."""
    check(kinds, "report", reported, finished_early=finished_early and reported is None)


@pytest.mark.parametrize(("kinds", "reported", "forgiven", "finished_early"), [*GO_PIPE, *MORE, *EXCLUDED])
def test_the_table_with_pipe_errors_forgiven(
    kinds: str,
    reported: int | None,  # noqa: ARG001 - the other test's column
    forgiven: int | None,
    finished_early: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """With `pipe_errors="forgive"` a success forgives pipe errors above it, but does not finish early."""
    check(kinds, "forgive", forgiven, finished_early=finished_early)


def test_forgiving_is_the_default() -> None:
    """Who says nothing about pipe errors has them forgiven above a success."""
    assert verdict(outcomes("PS")).index is None


# --- the rule as a property


def naive(kinds: str, mode: str) -> tuple[int | None, bool]:
    """State the rule without a walk, over the letters of the stages that take part.

    The first E is reported. Without one, it is the last P that nothing forgives: going down from a P past
    other Ps, one comes to an F (or, in forgiving mode, an S). The pipeline finished early if nothing is
    reported and what one comes to first, going down past Ps from the top, is an F.
    """
    places = [place for place, kind in enumerate(kinds) if kind.isupper()]
    part = "".join(kinds[place] for place in places)
    forgives = "[FS]" if mode == "forgive" else "F"
    unforgiven = [match.start() for match in re.finditer(f"P(?!P*{forgives})", part)]
    if "E" in part:
        return places[part.index("E")], False
    if unforgiven:
        return places[unforgiven[-1]], False
    return None, re.match("P*F", part) is not None


def judged(kinds: str, mode: str) -> tuple[int | None, bool]:
    """Return the verdict's index and whether it finished early."""
    result = verdict(outcomes(kinds), pipe_errors=mode)
    return result.index, result.finished_early


@pytest.mark.parametrize("mode", MODES)
def test_every_short_pipeline_is_judged_as_the_naive_statement_says(mode: str) -> None:
    """All pipelines of up to five stages get the verdict that the rule, stated without a walk, gives."""
    for length in range(6):
        for kinds in map("".join, itertools.product("SFPEe", repeat=length)):
            assert judged(kinds, mode) == naive(kinds, mode), kinds


@given(kinds=st.text("SFPEsfpe", max_size=40), mode=st.sampled_from(MODES))
def test_every_pipeline_is_judged_as_the_naive_statement_says(kinds: str, mode: str) -> None:
    """Pipelines of any length get the verdict that the rule, stated without a walk, gives."""
    assert judged(kinds, mode) == naive(kinds, mode)


@given(kinds=st.text("SFPE", max_size=12), mode=st.sampled_from(MODES), data=st.data())
def test_excluded_stages_change_nothing_wherever_they_stand(
    kinds: str, mode: str, data: st.DataObject
) -> None:
    """The verdict with excluded stages strewn in is the verdict without them, its index moved along."""
    place = data.draw(st.integers(0, len(kinds)))
    excluded = data.draw(st.text("sfpe", max_size=4))
    before, finished_early = judged(kinds, mode)
    moved = before if before is None or before < place else before + len(excluded)
    assert judged(kinds[:place] + excluded + kinds[place:], mode) == (moved, finished_early)


@given(kinds=st.text("SFPEsfpe", max_size=20))
def test_forgiving_never_reports_what_reporting_does_not(kinds: str) -> None:
    """The forgiving mode takes pipe errors away and nothing else, and adds no error."""
    reported, _ = judged(kinds, "report")
    forgiven, _ = judged(kinds, "forgive")
    assert forgiven in (reported, None)
    if reported is not None and forgiven is None:
        assert kinds[reported] == "P"


# --- nested pipelines


def nested(tree: str, mode: str, inner_mode: str | None = None) -> Verdict:
    """Judge `S(PF)E`: a pipeline whose second stage is the pipeline in parentheses, with its own mode."""

    def level(letters: Iterator[str], depth: int) -> Verdict:
        found: list[Outcome] = []
        for letter in letters:
            if letter == ")":
                break
            found.append(level(letters, depth + 1).as_outcome() if letter == "(" else outcome(letter))
        return verdict(found, pipe_errors=mode if depth == 0 or inner_mode is None else inner_mode)

    return level(iter(tree), 0)


NESTED = [
    # tree, index under report, index under forgive, finished early under forgive
    pytest.param("(SS)", None, None, False, id="a-nested-success-is-a-success"),
    pytest.param("(F)", None, None, True, id="finishing-early-goes-up"),
    pytest.param("((F))", None, None, True, id="finishing-early-goes-up-two-levels"),
    pytest.param("P(F)", None, None, True, id="a-nested-finish-early-forgives-above"),
    pytest.param("P(PFS)", None, None, True, id="finish-early-at-the-top-of-the-nested-one-forgives-above"),
    pytest.param("P(SF)", 0, None, False, id="finish-early-below-a-nested-success-is-a-success"),
    pytest.param("P(PS)", 1, None, False, id="forgiveness-is-not-finishing-early"),
    pytest.param("S(E)S", 1, 1, False, id="a-nested-error-is-an-error"),
    pytest.param("E(E)", 0, 0, False, id="the-earliest-error-across-levels"),
    pytest.param("(P)F", None, None, True, id="a-nested-pipe-error-is-forgiven-by-the-parent"),
    pytest.param("(P)S", 0, None, False, id="a-nested-pipe-error-is-a-pipe-error-to-the-parent"),
    pytest.param("S(SP)", 1, 1, False, id="a-nested-pipe-error-at-the-end-is-reported"),
    pytest.param("(PE)F", 0, 0, False, id="a-nested-error-is-not-forgiven"),
]


@pytest.mark.parametrize(("tree", "reported", "forgiven", "finished_early"), NESTED)
def test_a_nested_verdict_is_an_outcome_of_its_parent(
    tree: str,
    reported: int | None,
    forgiven: int | None,
    finished_early: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A nested pipeline counts as its error, as finished early where it really did, or as a success."""
    assert nested(tree, "report").index == reported
    result = nested(tree, "forgive")
    assert (result.index, result.finished_early) == (forgiven, finished_early)


def test_forgiveness_inside_does_not_forgive_a_reporting_parent() -> None:
    """A nested pipeline that forgave a pipe error did not finish early, to a parent."""
    assert nested("P(PS)", "report", "forgive").index == 0
    assert nested("P(PF)", "report", "forgive").index is None


@pytest.mark.parametrize("mode", MODES)
def test_a_pipe_error_that_a_nested_pipeline_reports_is_one_to_the_parent(mode: str) -> None:
    """A `PipelineError` caused by a pipe error is judged as a pipe error, and is what is reported."""
    inner = PipelineError("yes", ExitError(-signal.SIGPIPE, ["yes"]), index=0)
    assert verdict([Outcome(inner), Outcome(FinishEarly())], pipe_errors=mode).error is None
    assert verdict([Outcome(), Outcome(inner)], pipe_errors=mode).error is inner


# --- the edges of the kinds of error


class Enough(FinishEarly):
    pass


def test_a_subclass_of_finish_early_finishes_early() -> None:
    """What a function raises to end early may carry a type of its own."""
    assert verdict([Outcome(Enough())]).finished_early


def test_an_error_raised_from_finish_early_is_an_error() -> None:
    """Only the `FinishEarly` itself is a success: who raises another error from it wants that one seen."""
    error = ValueError("stopped at a bad line")
    error.__cause__ = FinishEarly()
    assert verdict([Outcome(error)]).error is error


def test_finish_early_raised_from_a_pipe_error_finishes_early() -> None:
    """A function may turn a pipe error of its own into a success."""
    enough = FinishEarly()
    enough.__cause__ = BrokenPipeError()
    assert verdict([Outcome(enough)]).finished_early


@pytest.mark.parametrize("kind", [PipelineCancelled, PipelineTimeout, Cancelled])
def test_a_reason_caused_by_a_pipe_error_is_not_a_pipe_error(kind: type[Exception]) -> None:
    """A run that was cancelled because somebody's client hung up was cancelled: nothing forgives that."""
    reason = kind("cat", BrokenPipeError())
    reason.__cause__ = BrokenPipeError()
    assert verdict([Outcome(reason), Outcome(FinishEarly())]).error is reason


def test_an_exit_status_that_shells_use_for_sigpipe_is_an_error() -> None:
    """A command that exits with 141 by itself was not killed by SIGPIPE."""
    assert verdict([Outcome(ExitError(141)), Outcome()]).index == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), GeneratorExit()])
def test_every_base_exception_is_an_error_of_a_stage(error: BaseException) -> None:
    """Whatever a function raised, other than `FinishEarly`, is its failure."""
    assert verdict([Outcome(error), Outcome()]).error is error


# --- the option


@pytest.mark.parametrize("value", ["ignore", "Forgive", "", None, True, 1, ["forgive"]])
def test_an_unknown_pipe_errors_is_refused(value: object) -> None:
    """Another value than the two raises a `ValueError` that names the option, even where no stage failed."""
    with pytest.raises(ValueError, match=r"^pipe_errors must be 'forgive' or 'report', not "):
        check_pipe_errors(value)
    with pytest.raises(ValueError, match=r"^pipe_errors must be"):
        verdict([], pipe_errors=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", MODES)
def test_the_known_values_of_pipe_errors_pass(value: str) -> None:
    """Both documented values are accepted as they are."""
    assert check_pipe_errors(value) == value


def test_outcomes_and_verdicts_print_what_they_hold() -> None:
    """The repr of both is what one wants to read in a failed assertion."""
    assert repr(Outcome()) == "Outcome(None)"
    assert repr(Outcome(KeyError("x"), excluded=True)) == "Outcome(KeyError('x'), excluded=True)"
    assert repr(verdict(outcomes("SE"))) == "Verdict(1, ValueError('bad input'), finished_early=False)"
