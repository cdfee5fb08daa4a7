"""System calls that fail in a graph: the run ends in time, and the leak check looks for what is left."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest

from penstock import DEVNULL, Pipeline, command, map_lines, reading, shared, tee, writing

if TYPE_CHECKING:
    from tests.robustness.conftest import Fail

pytestmark = pytest.mark.slow

CALLS = {
    "pipe": (errno.EMFILE,),
    "open": (errno.EMFILE,),
    "posix_spawn": (errno.EAGAIN,),
    "pidfd_open": (errno.EMFILE,),
    "read": (errno.EIO, errno.EAGAIN),
    "write": (errno.EIO, errno.EAGAIN, errno.ENOSPC),
    "poll": (errno.EINTR, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM,),
}
CAT = command("cat")
TURNS = 24
"""Calls of each kind that fail, one in each run."""


def graph() -> Pipeline:
    """Return a graph with every kind of stage."""
    lines = shared(command("seq", "20000"))
    joined = command("cat", reading(lines, via="fifo"), reading(lines | CAT))
    return joined | command("tee", writing(CAT)) | tee(CAT, map_lines(bytes.upper))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, numbers in CALLS.items() for number in numbers]
)
def test_a_call_that_fails_once_ends_the_graph_in_time(fail: Fail, call: str, number: int) -> None:
    """Whichever of its calls it is, with an error or as if it had not failed."""
    for chosen in range(1, TURNS):
        began = time.monotonic()
        with fail(call, number, lambda turn, chosen=chosen: turn == chosen) as failing:  # type: ignore[misc]
            result = graph().run(stdout=DEVNULL, check=False, timeout=20, grace=0.3)
        assert time.monotonic() - began < 10, f"call {chosen}: {result.error!r}"
        if not failing.raised:
            return
