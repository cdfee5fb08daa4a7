"""Predicates over errors, for `ignore_error`, `then_ignoring` and the verdict.

A matcher is called with an exception, never with None, and looks through the chain of `__cause__`, so it may
be given a `PipelineError` as well as what lies under it.
"""

from __future__ import annotations

import errno
import signal
from functools import partial
from typing import TYPE_CHECKING

from penstock.core.errors import ClosedPipe, ExitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Matcher: TypeAlias = "Callable[[BaseException], bool]"

__all__ = [
    "any_error",
    "is_closed_pipe",
    "is_epipe",
    "is_error",
    "is_pipe_error",
    "is_signal",
    "is_sigpipe",
]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk the error and its causes; a chain that bites its own tail ends."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def is_error(wanted: type[BaseException] | BaseException) -> Matcher:
    """Match an error of a type, or one very exception object (by identity or equality).

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


def is_signal(signum: int) -> Matcher:
    """Match the death of a command by the signal `signum`, real-time signals included."""
    if not isinstance(signum, int) or isinstance(signum, bool):
        raise TypeError(f"is_signal() takes the number of a signal, not {signum!r}")
    if not 0 < signum < signal.NSIG:
        raise ValueError(f"is_signal() takes the number of a signal, not {signum}")
    return partial(_died_of, int(signum))


def is_sigpipe(error: BaseException) -> bool:
    """Whether a command was killed by SIGPIPE, which is how the kernel ends a writer that nobody reads."""
    return _died_of(signal.SIGPIPE, error)


def is_epipe(error: BaseException) -> bool:
    """Whether a function's write failed with EPIPE, a pipe or socket whose reader has gone."""
    return any(
        isinstance(link, OSError)
        and not isinstance(link, ClosedPipe)
        and (link.errno == errno.EPIPE or (link.errno is None and isinstance(link, BrokenPipeError)))
        for link in _chain(error)
    )


def is_closed_pipe(error: BaseException) -> bool:
    """Whether a function wrote to an in-memory pipe whose reader has gone."""
    return any(isinstance(link, ClosedPipe) for link in _chain(error))


def is_pipe_error(error: BaseException) -> bool:
    """Whether the error says only that the reader has gone: `is_sigpipe`, `is_epipe` or `is_closed_pipe`."""
    return is_sigpipe(error) or is_epipe(error) or is_closed_pipe(error)


def any_error(*matchers: Matcher) -> Matcher:
    """Match what at least one of `matchers` matches.

    >>> any_error(is_sigpipe, is_error(KeyError))(KeyError("x"))
    True
    """
    for matcher in matchers:
        if not callable(matcher):
            raise TypeError(f"any_error() takes matchers, not {matcher!r}")
    return partial(_matches_any, matchers)


# Functions bound by `partial`, not closures, so that a pipeline that holds a matcher can be pickled.


def _is_of_type(wanted: type[BaseException], error: BaseException) -> bool:
    return any(isinstance(link, wanted) for link in _chain(error))


def _is_equal(wanted: BaseException, error: BaseException) -> bool:
    return any(link is wanted or link == wanted for link in _chain(error))


def _died_of(signum: int, error: BaseException) -> bool:
    return any(isinstance(link, ExitError) and link.signal == signum for link in _chain(error))


def _matches_any(matchers: tuple[Matcher, ...], error: BaseException) -> bool:
    return any(matcher(error) for matcher in matchers)
