"""Predicates over errors, for `ignore_error`, `then_ignoring` and the verdict.

A matcher is called with an exception, never with None. It looks through the chain of `__cause__`, so it takes
a `PipelineError` as well as its cause.
"""

from __future__ import annotations

import errno
import signal
from functools import partial

from penstock.core.errors import ClosedPipe, ExitError
from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Matcher: TypeAlias = "Callable[[BaseException], bool]"

__all__ = [
    "any_error",
    "check_matcher",
    "is_closed_pipe",
    "is_epipe",
    "is_error",
    "is_pipe_error",
    "is_signal",
    "is_sigpipe",
]


def check_matcher(what: str, matcher: object) -> None:
    """Raise TypeError, naming the method, unless `matcher` is one."""
    if not callable(matcher):
        raise TypeError(f"{what}() takes a matcher, not {matcher!r}")
    if isinstance(matcher, type) and issubclass(matcher, BaseException):  # its call is true for every error
        name = matcher.__qualname__
        raise TypeError(f"{name} is an exception class, not a matcher: write is_error({name})")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk the error and its causes, each once, even if the chain is a cycle."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


@exported
def is_error(wanted: type[BaseException] | BaseException) -> Matcher:
    """Match an error of a type, or one exception object (by identity or equality).

    Raises TypeError if `wanted` is neither an exception nor an exception type.

    >>> is_error(ValueError)(ValueError("x"))
    True
    """
    if isinstance(wanted, type):
        if not issubclass(wanted, BaseException):
            raise TypeError(f"is_error() takes an exception or an exception type, not {wanted!r}")
        return partial(_is_of_type, wanted)
    if not isinstance(wanted, BaseException):
        raise TypeError(f"is_error() takes an exception or an exception type, not {wanted!r}")
    return partial(_is_equal, wanted)


@exported
def is_signal(signum: int) -> Matcher:
    """Match a command that died of the signal `signum`, real-time signals included.

    Raises TypeError if `signum` is not an int, and ValueError if it is not the number of a signal.

    >>> from penstock import ExitError
    >>> is_signal(9)(ExitError(-9))
    True
    """
    if not isinstance(signum, int) or isinstance(signum, bool):
        raise TypeError(f"is_signal() takes the number of a signal, not {signum!r}")
    if not 0 < signum < signal.NSIG:
        raise ValueError(f"is_signal() takes the number of a signal, not {signum}")
    return partial(_died_of, int(signum))


@exported
def is_sigpipe(error: BaseException) -> bool:
    """Return whether a command was killed by SIGPIPE: it wrote to a pipe whose reader had gone (pipe(7))."""
    return _died_of(signal.SIGPIPE, error)


@exported
def is_epipe(error: BaseException) -> bool:
    """Return whether a write failed with EPIPE: the reader of a pipe or socket had gone.

    It was that of a function, or of a command whose exit status says so by its `pipe_codes`.
    """
    return any(map(_is_epipe, _chain(error)))


def _is_epipe(link: BaseException) -> bool:
    if isinstance(link, ExitError):
        return link.broken_pipe
    if not isinstance(link, OSError) or isinstance(link, ClosedPipe):
        return False
    return link.errno == errno.EPIPE or (link.errno is None and isinstance(link, BrokenPipeError))


@exported
def is_closed_pipe(error: BaseException) -> bool:
    """Return whether a function wrote to an in-memory pipe whose reader had gone."""
    return any(isinstance(link, ClosedPipe) for link in _chain(error))


@exported
def is_pipe_error(error: BaseException) -> bool:
    """Return whether the error only says that the reader had gone.

    True if `is_sigpipe`, `is_epipe` or `is_closed_pipe` is.

    >>> is_pipe_error(BrokenPipeError())
    True
    """
    return is_sigpipe(error) or is_epipe(error) or is_closed_pipe(error)


@exported
def any_error(*matchers: Matcher) -> Matcher:
    """Match an error that at least one of `matchers` matches; raise TypeError if one is not callable.

    >>> any_error(is_sigpipe, is_error(KeyError))(KeyError("x"))
    True
    """
    for matcher in matchers:
        if not callable(matcher):
            raise TypeError(f"any_error() takes matchers, not {matcher!r}")
    return partial(_matches_any, matchers)


# Functions bound by `partial`, not closures, so that a pipeline that holds a matcher can be pickled.


@exported
def _is_of_type(wanted: type[BaseException], error: BaseException) -> bool:
    return any(isinstance(link, wanted) for link in _chain(error))


@exported
def _is_equal(wanted: BaseException, error: BaseException) -> bool:
    return any(link is wanted or link == wanted for link in _chain(error))


@exported
def _died_of(signum: int, error: BaseException) -> bool:
    return any(isinstance(link, ExitError) and link.signal == signum for link in _chain(error))


@exported
def _matches_any(matchers: tuple[Matcher, ...], error: BaseException) -> bool:
    return any(matcher(error) for matcher in matchers)
