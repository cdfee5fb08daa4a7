"""The matchers: what each one matches, through chains of any length, and that they can be pickled."""

from __future__ import annotations

import errno
import pickle
import signal
from typing import TYPE_CHECKING

import pytest

from penstock import command, ignore_error
from penstock.core.errors import (
    ClosedPipe,
    ExitError,
    FinishEarly,
    PenstockError,
    PipelineError,
    PipelineTimeout,
    StartError,
)
from penstock.core.matchers import (
    any_error,
    is_closed_pipe,
    is_epipe,
    is_error,
    is_pipe_error,
    is_signal,
    is_sigpipe,
)

if TYPE_CHECKING:
    from penstock.core.matchers import Matcher


def caused_by(cause: BaseException, depth: int = 1) -> BaseException:
    """Return an error that `cause` lies under, as if raised by `raise ... from ...` depth times."""
    for _ in range(depth):
        error = RuntimeError("while doing something")
        error.__cause__ = cause
        cause = error
    return cause


SIGPIPE_DEATH = ExitError(-signal.SIGPIPE, ["yes"])

# error, is_sigpipe, is_epipe, is_closed_pipe
KINDS = [
    pytest.param(SIGPIPE_DEATH, True, False, False, id="killed-by-sigpipe"),
    pytest.param(BrokenPipeError(errno.EPIPE, "Broken pipe"), False, True, False, id="epipe"),
    pytest.param(OSError(errno.EPIPE, "Broken pipe"), False, True, False, id="epipe-as-an-oserror"),
    pytest.param(BrokenPipeError(), False, True, False, id="a-broken-pipe-error-made-by-hand"),
    pytest.param(BrokenPipeError("gone"), False, True, False, id="a-broken-pipe-error-with-a-text"),
    pytest.param(ClosedPipe(), False, False, True, id="closed-in-memory-pipe"),
    pytest.param(BrokenPipeError(errno.ESHUTDOWN, "shut down"), False, False, False, id="eshutdown"),
    pytest.param(ConnectionResetError(errno.ECONNRESET, "reset"), False, False, False, id="connection-reset"),
    pytest.param(ExitError(-signal.SIGTERM), False, False, False, id="killed-by-sigterm"),
    pytest.param(ExitError(141), False, False, False, id="exit-status-141"),
    pytest.param(ExitError(signal.SIGPIPE), False, False, False, id="exit-status-13"),
    pytest.param(ValueError("Broken pipe"), False, False, False, id="only-the-words"),
    pytest.param(ValueError("I/O operation on closed file"), False, False, False, id="closed-file"),
    pytest.param(FinishEarly(), False, False, False, id="finish-early"),
    pytest.param(PipelineTimeout("yes", TimeoutError()), False, False, False, id="timeout"),
]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(("error", "sigpipe", "epipe", "closed"), KINDS)
def test_each_kind_of_pipe_error_has_its_matcher(
    *,
    error: BaseException,
    sigpipe: bool,
    epipe: bool,
    closed: bool,
    depth: int,
) -> None:
    """A matcher matches its own kind alone, at any depth of the chain; `is_pipe_error` any of the three."""
    chained = caused_by(error, depth)
    assert (is_sigpipe(chained), is_epipe(chained), is_closed_pipe(chained)) == (sigpipe, epipe, closed)
    assert is_pipe_error(chained) == (sigpipe or epipe or closed)


def test_a_pipeline_error_is_matched_by_what_lies_under_it() -> None:
    """A matcher may be given what `run()` raised as well as what a stage raised, nested or not."""
    error = PipelineError("outer", PipelineError("yes", SIGPIPE_DEATH))
    assert is_sigpipe(error)
    assert is_signal(signal.SIGPIPE)(error)
    assert is_error(ExitError)(error)
    assert is_error(SIGPIPE_DEATH)(error)


def test_only_causes_are_looked_through() -> None:
    """An error that merely happened while another was handled is not caused by it."""
    error = ValueError("unrelated")
    error.__context__ = BrokenPipeError()
    assert not is_pipe_error(error)


def test_a_chain_that_bites_its_own_tail_ends() -> None:
    """A cycle of causes is odd, but no reason to hang."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert is_error(KeyError)(first)
    assert not is_pipe_error(first)


def test_a_long_chain_needs_no_recursion() -> None:
    """Chains of any length are walked."""
    assert is_epipe(caused_by(BrokenPipeError(), 5000))


# --- is_error


def test_is_error_matches_a_type_and_its_subclasses() -> None:
    """As `except` does, but through the chain."""
    assert is_error(OSError)(FileNotFoundError(errno.ENOENT, "x"))
    assert is_error(PenstockError)(StartError("a", OSError()))
    assert is_error(OSError)(StartError("a", OSError()))
    assert not is_error(KeyError)(ValueError("x"))
    assert is_error(KeyboardInterrupt)(KeyboardInterrupt())


def test_is_error_matches_one_object() -> None:
    """An equal text is not the same error."""
    error = ValueError("x")
    assert is_error(error)(error)
    assert is_error(error)(caused_by(error))
    assert not is_error(error)(ValueError("x"))


class Status(Exception):  # noqa: N818 - stands for a user's own
    """An error that compares by value."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


def test_is_error_matches_an_equal_object() -> None:
    """Where a class defines equality, that decides, so an error that went through a pickle still matches."""
    assert is_error(Status(404))(Status(404))
    assert not is_error(Status(404))(Status(500))


@pytest.mark.parametrize("wanted", [None, "ValueError", 5, int, (ValueError, KeyError)])
def test_is_error_refuses_other_objects(wanted: object) -> None:
    """A `TypeError` when the matcher is made."""
    with pytest.raises(TypeError, match=r"^is_error\(\) takes an exception or an exception type, not "):
        is_error(wanted)  # type: ignore[arg-type]


# --- is_signal


def test_is_signal_matches_that_signal_alone() -> None:
    """A number or a `signal.Signals`, and real-time signals, which have no name each."""
    assert is_signal(signal.SIGTERM)(ExitError(-15))
    assert is_signal(15)(caused_by(ExitError(-15)))
    assert is_signal(signal.SIGRTMIN + 1)(ExitError(-(signal.SIGRTMIN + 1)))
    assert not is_signal(signal.SIGTERM)(ExitError(-9))
    assert not is_signal(signal.SIGTERM)(ExitError(15))
    assert not is_signal(signal.SIGTERM)(ValueError("x"))


@pytest.mark.parametrize("signum", [0, -15, signal.NSIG, 10_000])
def test_is_signal_refuses_numbers_without_a_signal(signum: int) -> None:
    """A `ValueError` when the matcher is made."""
    with pytest.raises(ValueError, match=r"^is_signal\(\) takes the number of a signal, not "):
        is_signal(signum)


@pytest.mark.parametrize("signum", [None, "SIGTERM", 15.0, True])
def test_is_signal_refuses_what_is_no_number(signum: object) -> None:
    """A `TypeError` when the matcher is made."""
    with pytest.raises(TypeError, match=r"^is_signal\(\) takes the number of a signal, not "):
        is_signal(signum)  # type: ignore[arg-type]


# --- any_error


def test_any_error_matches_what_one_of_them_matches() -> None:
    """Any matcher may be given: a built-in one, one that was made, or the user's own function."""
    matcher = any_error(is_sigpipe, is_error(KeyError), lambda error: "special" in str(error))
    assert matcher(SIGPIPE_DEATH)
    assert matcher(KeyError("x"))
    assert matcher(ValueError("special"))
    assert not matcher(ValueError("x"))


def test_any_error_of_none_matches_nothing() -> None:
    """An empty choice ignores no error."""
    assert not any_error()(ValueError("x"))


@pytest.mark.parametrize("matcher", [None, "x", ValueError("x")])
def test_any_error_refuses_what_cannot_be_called(matcher: object) -> None:
    """A `TypeError` when the matcher is made."""
    with pytest.raises(TypeError, match=r"^any_error\(\) takes matchers, not "):
        any_error(matcher)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "matcher",
    [
        is_sigpipe,
        is_epipe,
        is_closed_pipe,
        is_pipe_error,
        is_error(OSError),
        is_error(Status(404)),
        is_signal(signal.SIGPIPE),
        any_error(is_pipe_error, any_error(is_error(ClosedPipe), is_signal(9))),
    ],
)
def test_every_matcher_can_be_pickled(matcher: Matcher) -> None:
    """A pipeline that ignores an error can be sent to another process, and ignores the same there."""
    restored = pickle.loads(pickle.dumps(matcher))
    for error in (
        SIGPIPE_DEATH,
        BrokenPipeError(),
        ClosedPipe(),
        Status(404),
        ExitError(-9),
        ValueError("x"),
    ):
        assert restored(error) == matcher(error)


@pytest.mark.parametrize("cls", [ExitError, LookupError, BaseException])
def test_an_exception_class_is_not_a_matcher(cls: type[BaseException]) -> None:
    """It can be called, and its instances are true, so it would ignore every error."""
    with pytest.raises(TypeError, match=rf"write is_error\({cls.__name__}\)"):
        ignore_error(command("false"), cls)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"write is_error\({cls.__name__}\)"):
        command("true").then_ignoring(cls, command("false"))  # type: ignore[arg-type]
