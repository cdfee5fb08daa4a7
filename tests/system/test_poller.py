"""Both pollers answer alike."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from penstock.system import fds, features, poller, system_calls

if TYPE_CHECKING:
    from collections.abc import Iterator


def refuse(*_: object) -> None:
    """Refuse, as the kernel does to a user who watches as many descriptors as it allows already."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["epoll", "full epoll", "poll"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[poller.Poller]:
    """Make a poller of either kind."""
    if request.param != "poll" and not features.EPOLL:
        pytest.skip("no epoll here")
    monkeypatch.setattr(features, "EPOLL", request.param != "poll")
    made = poller.new_poller()
    if request.param == "full epoll":
        assert isinstance(made, poller.EpollPoller)
        monkeypatch.setattr(system_calls, "epoll_register", refuse)
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[fds.Fd, fds.Fd]]:
    """Both ends of a pipe."""
    made = fds.pipe()
    yield made
    for end in made:
        end.close()


def test_ready_descriptors_are_reported(watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]) -> None:
    """A writer with room, a reader with data, a reader whose writer has gone."""
    reader, writer = (end.fileno() for end in ends)
    assert watch.poll(0) == []
    watch.add(reader, poller.READ)
    assert watch.poll(0) == []
    watch.add(writer, poller.WRITE)
    assert watch.poll(None) == [(writer, poller.WRITE)]
    watch.modify(writer, 0)
    assert watch.poll(0) == []
    os.write(writer, b"x")
    assert watch.poll(10) == [(reader, poller.READ)]
    watch.remove(writer)
    ends[1].close()
    ((number, events),) = watch.poll(10)
    assert number == reader
    assert events & poller.READ
    assert events & poller.HANGUP
    watch.remove(reader)
    assert watch.poll(0) == []


def test_a_writer_whose_reader_has_gone_hangs_up(watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]) -> None:
    """Without being asked for."""
    watch.add(ends[1].fileno(), 0)
    assert watch.poll(0) == []
    ends[0].close()
    ((_, events),) = watch.poll(10)
    assert events & poller.HANGUP


def test_a_time_out_is_in_seconds_and_never_short(watch: poller.Poller) -> None:
    """Fractions of a millisecond are rounded up; a negative one is over at once."""
    for timeout in (0.0301, 0.0004):
        before = time.monotonic()
        assert watch.poll(timeout) == []
        assert timeout <= time.monotonic() - before + 0.0005 < timeout + 5
    assert watch.poll(-1) == []


def test_a_huge_timeout_does_not_overflow(watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]) -> None:
    """A deadline of a century is as good as none."""
    watch.add(ends[1].fileno(), poller.WRITE)
    for timeout in (3e9, float("inf")):
        assert len(watch.poll(timeout)) == 1


def test_unknown_and_closed_descriptors_can_be_removed(
    watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]
) -> None:
    """And a closed poller can be closed."""
    reader = ends[0].fileno()
    watch.remove(reader)
    watch.add(reader, poller.READ)
    ends[0].close()
    watch.remove(reader)
    watch.close()
    watch.close()
    watch.remove(reader)


def test_a_sleeper_notices_what_another_thread_adds(
    watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]
) -> None:
    """At once, or, where the poller says that it does not, after a wake-up."""
    waker = fds.Waker()
    watch.add(waker.fileno(), poller.READ)
    seen: list[list[tuple[int, int]]] = []

    def sleep() -> None:
        seen.append(watch.poll(30))
        if not watch.notices_changes:
            waker.clear()
            seen.append(watch.poll(30))

    thread = threading.Thread(target=sleep)
    thread.start()
    watch.add(ends[1].fileno(), poller.WRITE)
    if not watch.notices_changes:
        waker.wake()
    thread.join()
    assert (ends[1].fileno(), poller.WRITE) in seen[-1]
    watch.remove(waker.fileno())
    waker.close()


def test_a_forked_copy_does_not_disturb_the_parents_poller(
    watch: poller.Poller, ends: tuple[fds.Fd, fds.Fd]
) -> None:
    """An epoll set is shared with the copy, so there it is closed, not emptied."""
    watch.add(ends[1].fileno(), poller.WRITE)
    pid = os.fork()
    if pid == 0:
        watch.remove(ends[1].fileno() if not ends[1].closed else 0)
        watch.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert watch.poll(0) == [(ends[1].fileno(), poller.WRITE)]
