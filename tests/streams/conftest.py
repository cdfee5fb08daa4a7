"""The kinds of pipe that every stream test runs over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.relay_kit import Kit

from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.memory_pipe import MemoryPipe
from penstock.system.fds import pipe, set_nonblocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer


def memory() -> tuple[Reader, Writer]:
    """Return an in-memory pipe of the usual size."""
    ends = MemoryPipe()
    return ends.reader, ends.writer


def tiny_memory() -> tuple[Reader, Writer]:
    """Return an in-memory pipe that is nearly always full or empty."""
    ends = MemoryPipe(limit=8)
    return ends.reader, ends.writer


def own_pipe() -> tuple[Reader, Writer]:
    """Return an OS pipe whose two descriptions are ours."""
    source, sink = pipe()
    return FdReader(source, owned_description=True), FdWriter(sink, owned_description=True)


def own_pipe_in_small_chunks() -> tuple[Reader, Writer]:
    """Return an OS pipe that is read three bytes at a time."""
    source, sink = pipe()
    return FdReader(source, owned_description=True, chunk_size=3), FdWriter(sink, owned_description=True)


def shared_pipe() -> tuple[Reader, Writer]:
    """Return an OS pipe whose descriptions are treated as shared, hence blocking."""
    source, sink = pipe()
    return FdReader(source, owned_description=False), FdWriter(sink, owned_description=False)


def shared_non_blocking_pipe() -> tuple[Reader, Writer]:
    """Return an OS pipe that somebody else has made non-blocking already."""
    source, sink = pipe()
    set_nonblocking(source.fileno())
    set_nonblocking(sink.fileno())
    return FdReader(source, owned_description=False), FdWriter(sink, owned_description=False)


KINDS = [memory, tiny_memory, own_pipe, own_pipe_in_small_chunks, shared_pipe, shared_non_blocking_pipe]


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.__name__)
def make_pipe(request: pytest.FixtureRequest) -> Callable[[], tuple[Reader, Writer]]:
    """Make pipes of one kind; scoped to the session, so that Hypothesis accepts it."""
    kind: Callable[[], tuple[Reader, Writer]] = request.param
    return kind


@pytest.fixture
def ends(make_pipe: Callable[[], tuple[Reader, Writer]]) -> Iterator[tuple[Reader, Writer]]:
    """Give one pipe, and close it after the test."""
    reader, writer = make_pipe()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def kit() -> Iterator[Kit]:
    """Give a maker of relays, and close what is left of them after the test."""
    made = Kit()
    yield made
    made.close()
