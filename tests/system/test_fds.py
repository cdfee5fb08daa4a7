# The functions of `os` are what these tests are about.
# ruff: noqa: PTH208
"""Descriptors and their owners, in this process and in forked copies of it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.interrupts import Interruption
from tests.support.waiting import DEADLINE

from penstock.system import fds, features, fork_guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["eventfd", "pipe"])
def waker_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make wakers of either kind."""
    kind: str = request.param
    if kind == "eventfd" and not features.EVENTFD:
        pytest.skip("no eventfd here")
    monkeypatch.setattr(features, "EVENTFD", kind == "eventfd")
    return kind


def from_a_fork(look: Callable[[], int]) -> int:
    """What `look` (a number below 255) finds in a forked copy; 255 where it raises."""
    pid = os.fork()
    if pid == 0:
        found = 255
        try:
            found = look()
        finally:
            os._exit(found)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_a_fork(check: Callable[[], bool]) -> bool:
    """Whether `check` is true in a forked copy."""
    return from_a_fork(check) == 1


def is_open(number: int) -> bool:
    """Whether the number stands for anything."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_closed_owner_has_no_number() -> None:
    """And closes nothing the second time, whoever has the number by then."""
    reader, writer = fds.pipe()
    writer.close()
    number = reader.fileno()
    reader.close()
    stranger = os.dup2(0, number)
    reader.close()
    assert is_open(stranger)
    os.close(stranger)
    assert reader.closed
    assert repr(reader) == "<Fd closed>"
    with pytest.raises(ValueError, match="closed"):
        reader.fileno()


def test_a_detached_number_is_the_callers() -> None:
    """The owner has nothing to do with it afterwards."""
    reader, writer = fds.pipe()
    assert repr(reader) == f"<Fd {reader.fileno()}>"
    number = reader.detach()
    reader.close()
    writer.close()
    assert reader.closed
    assert is_open(number)
    os.close(number)
    with pytest.raises(ValueError, match="closed"):
        reader.detach()


def test_many_threads_close_once() -> None:
    """The number is closed exactly once, so no stranger's is."""
    for _ in range(50):
        fd = fds.null(writable=True)
        barrier = threading.Barrier(4)

        def close(fd: fds.Fd = fd, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            fd.close()

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()  # an EBADF would be an unhandled exception in a thread, which pytest reports


def test_one_that_is_forgotten_closes_itself_and_complains() -> None:
    """As a file does."""
    fd = fds.null(writable=True)
    number = fd.fileno()
    with pytest.warns(ResourceWarning, match=f"descriptor {number} was never closed"):
        del fd
    assert not is_open(number)


def test_the_end_of_the_interpreter_is_silent() -> None:
    """Whatever holds a descriptor then: a module, a thread that never ends, a cycle."""
    program = """
import builtins, threading
from penstock.system import fds, fork_guard, poller
held = [fds.null(writable=True), fds.Waker(), poller.new_poller()]
held.append(held)
builtins.held = [fds.null(writable=True), fds.Waker(), poller.new_poller()]
threading.Thread(target=lambda *_: threading.Event().wait(), args=fds.pipe(), daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stderr == b""


def test_a_negative_number_is_refused() -> None:
    """It is not a descriptor."""
    with pytest.raises(ValueError, match="-1"):
        fds.Fd(-1)


def test_a_pipe_is_blocking_close_on_exec_and_carries_bytes() -> None:
    """From the second to the first."""
    reader, writer = fds.pipe()
    for end in (reader, writer):
        assert not os.get_inheritable(end.fileno())
        assert not fds.is_nonblocking(end.fileno())
    os.write(writer.fileno(), b"x")
    assert os.read(reader.fileno(), 10) == b"x"
    fds.set_nonblocking(reader.fileno())
    assert fds.is_nonblocking(reader.fileno())
    reader.close()
    writer.close()


def exhaust(made: list[fds.Fd]) -> None:
    """Make pipes until it fails."""
    while True:
        made += fds.pipe()


def test_where_descriptors_run_out_the_error_says_so_and_nothing_is_left() -> None:
    """Also where there is one, and a pipe needs two."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd")) if features.PROCFS else 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    made: list[fds.Fd] = []
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            exhaust(made)
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in made:
            fd.close()


def test_a_duplicate_shares_the_position(tmp_path: Path) -> None:
    """It is the same open file description, above 2, and close-on-exec."""
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    first = fds.open_read(path)
    second = fds.duplicate(first.fileno())
    assert second.fileno() > 2
    assert not os.get_inheritable(second.fileno())
    assert os.read(first.fileno(), 3) == b"abc"
    first.close()
    assert os.read(second.fileno(), 3) == b"def"
    second.close()


def test_files_are_made_emptied_or_appended_to(tmp_path: Path) -> None:
    """As a shell does for > and >>."""
    path = tmp_path / "file"
    mask = os.umask(0o027)
    try:
        for append, expected in ((True, b"x"), (True, b"xx"), (False, b"x")):
            fd = fds.open_write(os.fsencode(path), append=append)
            os.write(fd.fileno(), b"x")
            fd.close()
            assert path.read_bytes() == expected
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_cannot_be_opened_for_reading(tmp_path: Path) -> None:
    """The error comes at the opening, not at the first read."""
    with pytest.raises(IsADirectoryError):
        fds.open_read(tmp_path)
    with pytest.raises(FileNotFoundError):
        fds.open_read(tmp_path / "missing")


def test_null_is_empty_and_takes_everything() -> None:
    """For one direction each."""
    reader, writer = fds.null(writable=False), fds.null(writable=True)
    assert os.read(reader.fileno(), 1) == b""
    assert os.write(writer.fileno(), b"xyz") == 3
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(reader.fileno(), b"x")
    reader.close()
    writer.close()


def test_a_forked_copy_closes_all_that_it_inherits_from_us() -> None:
    """Gotcha 25: so a copy that lives on keeps no pipe of ours from EOF; the parent's stay open."""
    reader, writer = fds.pipe()
    waker = fds.Waker()
    numbers = [reader.fileno(), writer.fileno(), waker.fileno()]
    foreign = os.dup(0)

    def clean() -> bool:
        closed = not any(is_open(number) for number in numbers)
        waker.wake()
        waker.close()
        reader.close()
        for end in fds.pipe():  # the register works here too
            end.close()
        return closed and reader.closed and writer.closed and is_open(foreign)

    assert in_a_fork(clean)
    assert all(is_open(number) for number in numbers)
    os.close(foreign)
    waker.close()
    reader.close()
    writer.close()


@pytest.mark.slow
def test_a_fork_while_threads_make_descriptors_copies_none_unseen() -> None:
    """The register's lock is held across it: each copy has what was there before, and is not stuck."""
    # What a copy starts with, without the supervisor's own few, where it has been started before.
    before = from_a_fork(lambda: len(os.listdir("/dev/fd")))
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            ends = [*fds.pipe(), *fds.pipe()]
            for end in ends:
                end.close()

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert in_a_fork(lambda: len(os.listdir("/dev/fd")) == before)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_waker_wakes_until_it_is_cleared(waker_kind: str) -> None:
    """Any number of wake-ups is one."""
    assert waker_kind
    waker = fds.Waker()
    assert select.select([waker.fileno()], [], [], 0)[0] == []
    for _ in range(3):
        waker.wake()
    assert select.select([waker.fileno()], [], [], 0)[0]
    waker.clear()
    assert select.select([waker.fileno()], [], [], 0)[0] == []
    waker.clear()
    waker.wake()
    assert select.select([waker.fileno()], [], [], 0)[0]
    waker.close()


@pytest.mark.usefixtures("waker_kind")
def test_a_waker_never_blocks() -> None:
    """However often it is called and nobody listens; one clear is still enough."""
    waker = fds.Waker()
    for _ in range(20_000):
        waker.wake()
    waker.clear()
    assert select.select([waker.fileno()], [], [], 0)[0] == []
    waker.close()


@pytest.mark.usefixtures("waker_kind")
def test_a_closed_waker_is_harmless() -> None:
    """It writes to nobody: not to whoever has its number by then."""
    waker = fds.Waker()
    number = waker.fileno()
    waker.close()
    assert not is_open(number)
    reader, writer = fds.pipe()
    fds.set_nonblocking(reader.fileno())
    waker.wake()
    waker.close()
    with pytest.raises(BlockingIOError):
        os.read(reader.fileno(), 1)
    with pytest.raises(ValueError, match="closed"):
        waker.fileno()
    reader.close()
    writer.close()


@pytest.mark.usefixtures("waker_kind")
def test_wakers_that_are_closed_under_a_wake_hit_no_stranger() -> None:
    """Numbers are reused at once here, so a stray write would show in one of the pipes."""
    current = fds.Waker()
    stop = threading.Event()

    def wake() -> None:
        while not stop.is_set():
            current.wake()

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        for _ in range(500):
            old, current = current, fds.Waker()
            old.close()
            del old
            reader, writer = fds.pipe()
            fds.set_nonblocking(reader.fileno())
            with pytest.raises(BlockingIOError):
                os.read(reader.fileno(), 1)
            reader.close()
            writer.close()
    finally:
        stop.set()
        thread.join()
        current.close()


@pytest.mark.usefixtures("waker_kind")
def test_a_signal_handler_can_wake() -> None:
    """Also one that interrupts a wake-up or holds nothing in common with the sleeper."""
    waker = fds.Waker()
    before = signal.signal(signal.SIGUSR1, lambda *_: waker.wake())
    try:
        with fork_guard.fork_guard:  # which a handler must not need
            signal.raise_signal(signal.SIGUSR1)
        assert select.select([waker.fileno()], [], [], 10)[0]
    finally:
        signal.signal(signal.SIGUSR1, before)
        waker.close()


def test_a_fork_waits_for_threads_that_are_in_the_middle_of_something() -> None:
    """For each of them, by its own lock; they do not wait for each other."""
    inside = threading.Barrier(4)
    order: list[str] = []

    def busy() -> None:
        with fork_guard.fork_guard:
            inside.wait(DEADLINE)  # all at one time
            while fork_guard._registry_lock.acquire(blocking=False):  # until the fork has begun to wait
                fork_guard._registry_lock.release()
            order.append("thread")

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    inside.wait(DEADLINE)
    pid = os.fork()
    if not pid:
        os._exit(fork_guard.fork_guard_held())
    order.append("fork")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for thread in threads:
        thread.join()
    assert order == ["thread"] * 3 + ["fork"]


def test_a_forked_copy_can_do_all_that_was_in_the_middle_of_being_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a thread is not waited for any longer, since it may wait for the one that forks."""
    monkeypatch.setattr(fork_guard, "_LOCK_TIMEOUT_S", 0.0)
    inside, leave = threading.Event(), threading.Event()

    def busy() -> None:
        with fork_guard.fork_guard:
            inside.set()
            leave.wait(DEADLINE)

    thread = threading.Thread(target=busy)
    thread.start()
    inside.wait(DEADLINE)

    def look() -> int:
        reader, writer = fds.pipe()
        os.write(writer.fileno(), b"a")
        return len(os.read(reader.fileno(), 2))

    try:
        assert from_a_fork(lambda: from_a_fork(look)) == 1
    finally:
        leave.set()
        thread.join()


def test_of_many_threads_that_close_one_descriptor_one_does() -> None:
    """Or a number that somebody else has got meanwhile would be closed."""
    meeting = threading.Barrier(4)

    def close() -> None:
        for fd in made:
            meeting.wait(DEADLINE)
            fd.close()

    made = [end for _ in range(100) for end in fds.pipe()]
    threads = [threading.Thread(target=close) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken = []
    for fd in made:
        meeting.wait(DEADLINE)
        while not fd.closed:
            pass
        taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # the lowest number that is free
    for thread in threads:
        thread.join()
    for number in taken:
        os.fstat(number)  # EBADF where it was closed by one that came late
        os.close(number)


MAKERS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "pipe": fds.pipe,
    "duplicate": lambda: (fds.duplicate(0),),
    "open": lambda: (fds.null(writable=True),),
    "write": lambda: (fds.open_write(os.devnull),),
    "owned": lambda: (fds.open_fd(os.dup, 0),),
    "waker": lambda: (fds.Waker(),),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_interrupt_loses_no_descriptor_that_was_just_made(make: Callable[[], Any]) -> None:
    """Whenever it comes; the leak check looks for what is lost."""
    made: tuple[Any, ...] = ()
    turn, left = 0, 0
    while left <= 0:
        turn += 1
        interruption = Interruption(turn, within="/penstock/system/fds.py")
        with contextlib.suppress(KeyboardInterrupt), interruption:
            made = make()
        left = interruption.left
    assert turn > 3
    for fd in made:
        fd.close()


def test_a_second_interrupt_while_the_first_is_dealt_with_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls into the close of what was to own them; the leak check looks for what is lost."""
    close, closes = fds.Fd.close, []

    def interrupted(self: fds.Fd) -> None:
        closes.append(self)
        if len(closes) == 1:
            raise KeyboardInterrupt
        close(self)

    def numbers() -> Iterator[int]:
        yield os.dup(0)
        yield os.dup(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(fds.Fd, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fds._adopt((fds.Fd(), fds.Fd()), numbers())
    assert len(closes) == 3
