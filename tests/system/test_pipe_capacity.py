"""Larger pipes, and the budget that keeps hundreds of them from slowing down everything of the same user."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.system import fds, pipe_capacity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="pipes have no size here")

PAGE = os.sysconf("SC_PAGESIZE")
MIB = 1 << 20


def capacity(number: int) -> int:
    """Bytes that the pipe holds."""
    return fcntl.fcntl(number, fcntl.F_GETPIPE_SZ)


@pytest.fixture
def new() -> Iterator[Callable[[], int]]:
    """Makes pipes, and gives the number of the writing end."""
    made: list[fds.Fd] = []

    def make() -> int:
        made.extend(fds.pipe())
        return made[-1].fileno()

    yield make
    for fd in made:
        fd.close()


@pytest.fixture
def soft(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> Callable[[str], None]:
    """Make this process that of an ordinary user, with a soft limit of so many pages, and nothing spent."""

    def limit(text: str) -> None:
        path = os.path.join(tmp_path, "soft")  # noqa: PTH118
        with open(path, "w") as file:  # noqa: PTH123
            file.write(text)
        monkeypatch.setattr(pipe_capacity, "_SOFT_LIMIT_FILE", path)
        monkeypatch.setattr(pipe_capacity, "_may_exceed", lambda: False)
        monkeypatch.setattr(pipe_capacity, "_budget", pipe_capacity._PipePageBudget())

    return limit


def test_a_pipe_has_the_size_asked_for(new: Callable[[], int]) -> None:
    """Rounded up by the kernel, down to a page, and back."""
    number = new()
    grown = pipe_capacity.resize(number, 200_000, asked_for=True)
    assert capacity(number) == 262_144
    assert grown is not None
    grown.release()
    assert pipe_capacity.resize(number, 1, asked_for=True) is None
    assert capacity(number) == PAGE


@pytest.mark.parametrize("size", [2**31 - 1, 2**40, -1])
def test_a_size_that_is_refused_leaves_the_pipe_as_it_was(size: int, new: Callable[[], int]) -> None:
    """Gotcha 19."""
    number, plain = new(), capacity(new())
    assert pipe_capacity.resize(number, size, asked_for=True) is None
    assert capacity(number) == plain


@pytest.mark.gotcha(19)
@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY, errno.EINVAL])
def test_every_kind_of_refusal_is_tolerated_and_costs_nothing(
    code: int, new: Callable[[], int], soft: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gotcha 19: past pipe-max-size, past the user's pages, on an old kernel."""
    soft("1000")
    number, real = new(), fcntl.fcntl

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            raise OSError(code, os.strerror(code))
        return real(fd, command, argument)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", refuse)
        assert pipe_capacity.resize(number, MIB, asked_for=True) is None
        assert pipe_capacity.resize(number, pipe_capacity.GROWN_SIZE) is None
    assert pipe_capacity._budget.spent == 0
    assert capacity(number) == 16 * PAGE


def test_only_a_pipe_of_the_usual_size_grows_by_itself(
    new: Callable[[], int], soft: Callable[[str], None]
) -> None:
    """Not one that its user wanted small or large, and nothing that is no pipe."""
    soft("16384")
    small, large = new(), new()
    pipe_capacity.resize(small, 4096, asked_for=True)
    kept = pipe_capacity.resize(large, MIB, asked_for=True)
    assert pipe_capacity.resize(small, pipe_capacity.GROWN_SIZE) is None
    assert pipe_capacity.resize(large, pipe_capacity.GROWN_SIZE) is None
    assert (capacity(small), capacity(large)) == (4096, MIB)
    with open(os.devnull, "wb") as file:  # noqa: PTH123
        assert pipe_capacity.resize(file.fileno(), pipe_capacity.GROWN_SIZE) is None
    assert kept is not None


def test_pipes_grow_alone_to_an_eighth_and_on_request_to_a_quarter(
    new: Callable[[], int], soft: Callable[[str], None]
) -> None:
    """And again as soon as what they took was given back."""
    soft("1000")
    grown = [pipe_capacity.resize(new(), pipe_capacity.GROWN_SIZE) for _ in range(10)]
    each = pipe_capacity.GROWN_SIZE // PAGE - 16
    assert sum(one is not None for one in grown) == 125 // each
    asked = [pipe_capacity.resize(new(), pipe_capacity.GROWN_SIZE, asked_for=True) for _ in range(10)]
    assert sum(one is not None for one in grown + asked) == 250 // each
    number = new()
    assert pipe_capacity.resize(number, pipe_capacity.GROWN_SIZE) is None
    for one in grown + asked:
        if one is not None:
            one.release()
            one.release()  # the second time nothing happens
    assert pipe_capacity._budget.spent == 0
    assert pipe_capacity.resize(number, pipe_capacity.GROWN_SIZE) is not None


def test_a_limit_of_0_means_no_limit(new: Callable[[], int], soft: Callable[[str], None]) -> None:
    """pipe(7)."""
    soft("0")
    assert all(pipe_capacity.resize(new(), pipe_capacity.GROWN_SIZE) is not None for _ in range(20))


def test_a_forked_copy_counts_anew(new: Callable[[], int], soft: Callable[[str], None]) -> None:
    """Its copies of the pipes are closed, and what the parent's give back is not its own."""
    soft("1000")
    grown = pipe_capacity.resize(new(), pipe_capacity.GROWN_SIZE)
    assert grown is not None
    child = os.fork()
    if child == 0:
        grown.release()
        os._exit(pipe_capacity._budget.spent)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pipe_capacity._budget.spent > 0


# As a user who owns nothing else: everything that is imported on the way was used once before.
MANY = """
import fcntl, os, sys
from penstock import PIPE, command, function

def copy(ctx, stdin, stdout):
    for chunk in stdin.chunks():
        stdout.write(chunk)

def produce(ctx, stdin, stdout):
    for _ in range(8):
        stdout.write(bytes(65536))

def start(pipe_size):
    return (function(produce) | command("cat") | function(copy)).start(stdout=PIPE, pipe_size=pipe_size)

def finish(run):
    assert len(run.stdout.read()) == 8 * 65536
    run.stdout.close()
    assert run.wait(30).ok

finish(start(None))
if os.geteuid() == 0:
    nobody_else = 100_000_000 + os.getpid()  # tests that run at the same time are other users
    os.setresgid(nobody_else, nobody_else, nobody_else)
    os.setresuid(nobody_else, nobody_else, nobody_else)
runs = [start(int(sys.argv[1]) or None) for _ in range(150)]
reader, writer = os.pipe()
print(fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ), flush=True)
for run in runs:
    finish(run)
last = start(1 << 18)
print(fcntl.fcntl(last.stdout.fileno(), fcntl.F_GETPIPE_SZ))
finish(last)
"""


@pytest.mark.slow
@pytest.mark.gotcha(19)
@pytest.mark.parametrize("pipe_size", [0, 1 << 20])
def test_hundreds_of_pipes_leave_the_users_other_pipes_their_size(pipe_size: int) -> None:
    """150 runs of three pipes, all full, by a user of his own: a new pipe is born with its 16 pages.

    When they have ended, pipes grow again.
    """
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(pipe_size)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.split() == [str(16 * PAGE), str(1 << 18)]
