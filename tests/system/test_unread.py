"""The level of a pipe can be asked by any thread, whoever closes its descriptor meanwhile."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tests.support.waiting import DEADLINE, until

from penstock.system.fds import duplicate, null, pipe
from penstock.system.pipe_capacity import GROWN_SIZE, resize
from penstock.system.unread import pipe_level

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


def test_either_end_tells_what_is_in_a_pipe() -> None:
    """And what it can hold."""
    reader, writer = pipe()
    os.write(writer.fileno(), b"x" * 100)
    assert pipe_level(reader) == pipe_level(writer) == (100, 65536)
    pages = resize(writer.fileno(), GROWN_SIZE, asked_for=True)
    assert pipe_level(reader) == (100, GROWN_SIZE)
    reader.close()
    assert pipe_level(writer) is not None
    writer.close()
    if pages is not None:
        pages.release()


def test_files_of_python_over_pipes_are_asked_too() -> None:
    """A buffered one by the file below it."""
    reader, writer = pipe()
    os.write(writer.fileno(), b"x" * 100)
    with os.fdopen(reader.detach(), "rb") as file:
        assert pipe_level(file) == (100, 65536)
    assert pipe_level(file) is None
    writer.close()


def test_anything_else_has_no_level() -> None:
    """Neither a closed end."""
    nothing = null(writable=False)
    assert pipe_level(nothing) is None
    nothing.close()
    assert pipe_level(nothing) is None


def test_a_number_that_another_pipe_has_got_is_not_asked_for_it(threads: ThreadPoolExecutor) -> None:
    """Ends are closed all the time, and their numbers go to a pipe with more in it."""
    full_reader, full_writer = pipe()
    os.write(full_writer.fileno(), b"x" * 1000)
    reader, writer = pipe()
    os.write(writer.fileno(), b"x" * 100)
    current = [duplicate(reader.fileno())]
    over = threading.Event()

    def replace() -> None:
        while not over.is_set():
            current[0].close()
            other = duplicate(full_reader.fileno())  # it gets that number
            current[0] = duplicate(reader.fileno())
            other.close()

    replacing = threads.submit(replace)
    levels: set[tuple[int, int] | None] = set()

    def look() -> bool:
        levels.update(pipe_level(current[0]) for _ in range(20_000))
        return (100, 65536) in levels

    try:
        until(look)  # on a busy machine the other thread may stop between the two pipes
        assert levels <= {(100, 65536), None}
    finally:
        over.set()
        replacing.result(DEADLINE)
        for end in (*current, reader, writer, full_reader, full_writer):
            end.close()
