"""Looks at a pipe from outside: what they tell, and that both real ends notice nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE

from penstock.system import features
from penstock.system.fds import Fd, pipe, set_nonblocking
from penstock.system.pipe_peek import PipeLook, PipePeek

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOKS = 10_000


@pytest.fixture
def ends() -> Iterator[tuple[Fd, Fd]]:
    reader, writer = pipe()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def peek(ends: tuple[Fd, Fd]) -> Iterator[PipePeek]:
    found = PipePeek.of(ends[1].fileno())
    assert found is not None
    yield found
    found.close()


def _look(peek: PipePeek) -> PipeLook:
    found = peek.look()
    assert found is not None
    return found


def test_a_look_tells_empty_and_full(ends: tuple[Fd, Fd], peek: PipePeek) -> None:
    reader, writer = ends
    look = _look(peek)
    assert (look.empty, look.full, look.unread) == (True, False, 0)
    os.write(writer.fileno(), b"12345")
    look = _look(peek)
    assert (look.empty, look.full, look.unread) == (False, False, 5)
    set_nonblocking(writer.fileno())
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer.fileno(), bytes(4096))
    assert _look(peek).full
    os.read(reader.fileno(), 1 << 20)
    assert _look(peek).empty
    assert "unread=0" in repr(_look(peek))


def test_eof_is_seen_when_the_pipe_is_empty_and_has_no_writer(ends: tuple[Fd, Fd], peek: PipePeek) -> None:
    reader, writer = ends
    assert not peek.at_eof()
    os.write(writer.fileno(), b"x")
    writer.close()
    assert not peek.at_eof()
    assert os.read(reader.fileno(), 10) == b"x"
    assert peek.at_eof()
    assert os.read(reader.fileno(), 10) == b""


def test_an_open_handle_keeps_neither_end_alive(ends: tuple[Fd, Fd], peek: PipePeek) -> None:
    reader, writer = ends
    _look(peek)
    reader.close()
    with pytest.raises(BrokenPipeError):
        os.write(writer.fileno(), b"x")


def test_a_handle_outlives_the_pipe(ends: tuple[Fd, Fd], peek: PipePeek) -> None:
    for end in ends:
        end.close()
    assert _look(peek).empty
    peek.close()
    peek.close()
    with pytest.raises(ValueError, match="closed"):
        peek.look()


def test_only_pipes_have_a_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open() as file:
        assert PipePeek.of(file.fileno()) is None
    with socket.socket() as one:
        assert PipePeek.of(one.fileno()) is None
    monkeypatch.setattr(features, "PROCFS", False)
    reader, writer = pipe()
    assert PipePeek.of(reader.fileno()) is None
    reader.close()
    writer.close()


def _look_all_the_time(peek: PipePeek, over: threading.Event) -> None:
    while not over.is_set():
        _look(peek)
        peek.at_eof()


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False])
def test_eof_comes_to_the_reader_during_looks(*, blocking: bool) -> None:
    """Each of 1,000 pipes gets ten looks at least while its writer closes."""
    for _ in range(LOOKS // 10):
        reader, writer = pipe()
        peek = PipePeek.of(reader.fileno())
        assert peek is not None
        over = threading.Event()
        thread = threading.Thread(
            target=lambda reader=reader, over=over: (os.read(reader.fileno(), 1), over.set())
        )
        if blocking:
            thread.start()
        for number in range(10):
            _look(peek)
            if number == 5:
                writer.close()
        if blocking:
            assert over.wait(DEADLINE)
            thread.join()
        else:
            set_nonblocking(reader.fileno())
            assert os.read(reader.fileno(), 1) == b""
        peek.close()
        reader.close()


@pytest.mark.slow
def test_both_ends_may_close_at_any_time_during_looks() -> None:
    """A thread looks as often as it can while 300 pipes lose their reader, or their writer."""
    for number in range(300):
        reader, writer = pipe()
        peek = PipePeek.of(reader.fileno())
        assert peek is not None
        over = threading.Event()
        thread = threading.Thread(target=_look_all_the_time, args=(peek, over))
        thread.start()
        try:
            if number % 2:
                os.write(writer.fileno(), b"x")
                writer.close()
                assert os.read(reader.fileno(), 10) == b"x"
                assert os.read(reader.fileno(), 10) == b""  # blocks while a look is a writer, and is woken
            else:
                set_nonblocking(writer.fileno())
                reader.close()
                _write_until_epipe(writer)
        finally:
            over.set()
            thread.join()
            for end in (reader, writer, peek):
                end.close()


def _write_until_epipe(writer: Fd) -> None:
    """Write until the reader has gone; during a look a write may succeed, or find the pipe full."""
    while True:
        try:
            os.write(writer.fileno(), b"x")
        except BlockingIOError:
            os.sched_yield()
        except BrokenPipeError:
            return
