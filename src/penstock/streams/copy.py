"""The pooled copy between file-like objects, which passes bytes on as they come, if the objects allow that.

The method of the source is chosen once. Methods that return the bytes that are there come first (`readinto1`,
`read1`, `readinto` of a raw stream). Methods that may wait until the buffer is full are for sources that have
nothing better. If a method turns out to be unsupported, the copy tries the next one, before a byte has moved.

The pooled buffer is lent to the source for a call of `readinto`, and to sinks derived from `io.RawIOBase` or
`io.BufferedIOBase`, whose `write` may not keep it by Python's own contract. All other sinks get bytes, which
cannot change under them: copied out of the buffer while little comes, and read as bytes objects once much
comes. Out of scope: text, sockets, and the choice between this
copy and a faster one.
"""

from __future__ import annotations

import errno
import io
import os
import select
from functools import partial

from penstock.core.describe import describe
from penstock.streams.buffer_pool import BufferPool, buffer_pool
from penstock.streams.memory_pipe import MemoryReader, MemoryWriter
from penstock.streams.reader import BytesReader, Reader
from penstock.streams.writer import CaptureWriter, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any, Final

__all__ = ["CallerSource", "copy_stream", "read_chunks", "wait_for"]

_BY_REFERENCE: Final = (MemoryReader, BytesReader)
"""Readers whose chunks exist already."""

# After a short write the rest is written in pieces of this size, if each piece has to be copied.
_PIECE_BYTES: Final = 65536


class CallerSource:
    """Stands for the caller's source, `thing`, and calls its methods."""

    thing: Any

    def wait(self) -> None:
        """Wait until it may have bytes."""
        raise NotImplementedError


def copy_stream(source: Any, sink: Any, pool: BufferPool = buffer_pool) -> int:
    """Copy the rest of binary `source` into binary `sink`, and return the number of bytes.

    `source` has any of `readinto1`, `read1`, `readinto` and `read`. `sink` has `write`, whose short writes
    are completed. None from `write` counts as all, but from a raw stream it means that the write would block.
    The copy waits for a non-blocking object over a descriptor. It flushes and closes neither. Raises
    TypeError if `source` gives anything but bytes, and otherwise what the two raise.
    """
    write = sink.write if isinstance(sink, Writer) else partial(_write_all, sink)
    wants_bytes = _wants_bytes(sink)
    total = 0
    if isinstance(source, Reader) and (wants_bytes or isinstance(source, _BY_REFERENCE)):
        if not isinstance(source, _BY_REFERENCE):
            total = _copy_small_reads(source, write, pool)
        write_once = sink.write
        for chunk in source.chunks():
            # Nearly all sinks take the whole chunk, which needs no further call.
            try:
                size = write_once(chunk)
            except BlockingIOError as error:
                _write_rest(sink, chunk, _taken_before_block(sink, error))
            else:
                if size != len(chunk):
                    _write_rest(sink, chunk, _taken(sink, size, len(chunk)))
            total += len(chunk)
        return total
    for data in read_chunks(source, sink, pool):
        total += len(data)
        if wants_bytes or isinstance(data, bytes):
            write(bytes(data))
        else:
            _lend(write, data, sink)
    return total


def read_chunks(
    source: Any, sink: Any, pool: BufferPool = buffer_pool, *, small: int = 0
) -> Generator[bytes | memoryview]:
    """Read the rest of `source` by its best method, and yield what comes, none empty.

    They go to `sink`. A memoryview is of a buffer that is reused once the next one is asked for. Up to
    `small` bytes come as bytes.
    """
    with pool.lend() as buffer, memoryview(buffer) as view:
        read, data = _first_read(source, view, wants_bytes=_wants_bytes(sink))
        # A short cut for a method that returns bytes, because a small piece costs no more than the calls.
        direct = read.args[0] if read.func is _read_bytes else None
        size = len(view)
        while True:
            if type(data) is bytes:
                if not data:
                    return
                yield data
                if direct is not None:
                    try:
                        data = direct(size)
                    except BlockingIOError:
                        data = None
                    if type(data) is not bytes:
                        data = _as_bytes(data, *read.args[1:3])
                    continue
            elif data is None:
                _wait_for_bytes(source)
            elif len(data) > small:
                yield data
            elif data:
                yield bytes(data)
            else:
                return
            data = read()


def _lend(write: Callable[[memoryview], object], data: memoryview, sink: Any) -> None:
    """Write from the pooled buffer. A sink that looks at it later gets an error, and never other bytes."""
    write(data)
    try:
        data.release()
    except BufferError:
        raise BufferError(
            f"the buffer that write() gets is lent for that call, but it is kept: copy it ({describe(sink)})"
        ) from None


def _wait_for_bytes(source: Any) -> None:
    if isinstance(source, CallerSource):
        source.wait()
    else:
        wait_for(source, select.POLLIN)


def _copy_small_reads(source: Reader, write: Callable[[bytes], object], pool: BufferPool) -> int:
    """Copy through a buffer until one read half fills it, or until EOF; return the number of bytes.

    While little comes, copying it into a bytes object costs next to nothing, but allocating a large object to
    read into costs much. When much comes it is the other way round: a read into a bytes object saves the
    copy.
    """
    total = 0
    with pool.lend() as buffer, memoryview(buffer) as view:
        while size := source.readinto1(view):
            write(bytes(view[:size]))
            total += size
            if 2 * size >= len(view):
                break
    return total


def _wants_bytes(sink: Any) -> bool:
    """Whether the sink keeps, or may keep, the bytes that it is given."""
    if isinstance(sink, Writer):
        return isinstance(sink, MemoryWriter | CaptureWriter)
    return not isinstance(sink, io.RawIOBase | io.BufferedIOBase)


def _first_read(
    source: Any, view: memoryview, *, wants_bytes: bool
) -> tuple[partial[bytes | memoryview | None], bytes | memoryview | None]:
    """Choose the method to read `source`; return it with the result of its first call."""
    unsupported: Exception | None = None
    for read in _read_methods(source, view, wants_bytes=wants_bytes):
        try:
            return read, read()
        # Base classes have methods that only say so: BufferedIOBase.read1, and readinto1 on top of it.
        except (io.UnsupportedOperation, NotImplementedError) as error:
            unsupported = error
    if unsupported is not None:
        raise unsupported
    thing = _caller(source)
    named = f"{type(thing).__name__!r} does not have: {describe(thing)}"
    raise TypeError(f"a source of bytes needs a method to read, which {named}")


def _caller(source: Any) -> Any:
    """Return the object that the caller knows."""
    return source.thing if isinstance(source, CallerSource) else source


def _read_methods(
    source: Any, view: memoryview, *, wants_bytes: bool
) -> Iterator[partial[bytes | memoryview | None]]:
    """Yield the methods that the source has, best first; each returns None if it would block, b"" at EOF."""
    # One read of a raw stream is one system call, so both of its methods are prompt. `read1` comes late,
    # although it would save a copy if bytes are wanted: a BufferedReader's says EOF when a non-blocking
    # descriptor has no bytes yet.
    raw = ("read" if wants_bytes else "readinto",) if isinstance(source, io.RawIOBase) else ()
    for name in ("readinto1", *raw, "read1", "readinto", "read"):
        method = getattr(source, name, None)
        if callable(method):
            read: Callable[..., Any] = _read_into if name.startswith("readinto") else _read_bytes
            yield partial(read, method, name, _caller(source), view)


def _read_into(
    method: Callable[[memoryview], Any], name: str, source: Any, view: memoryview
) -> memoryview | None:
    try:
        size = method(view)
    except BlockingIOError:
        return None
    if size is None:
        return None
    if not isinstance(size, int):
        wrong = f"{type(size).__name__}, not a number of bytes: {describe(source)}"
        raise TypeError(f"{name}() of the source returned {wrong}")
    if not 0 <= size <= len(view):
        raise OSError(
            errno.EIO,
            f"{name}() of the source returned {size} for {len(view)} bytes of buffer: {describe(source)}",
        )
    return view[:size]


def _read_bytes(method: Callable[[int], Any], name: str, source: Any, view: memoryview) -> bytes | None:
    try:
        data = method(len(view))
    except BlockingIOError:
        return None
    return _as_bytes(data, name, source)


def _as_bytes(data: Any, name: str, source: Any) -> bytes | None:
    """Return what a method of the source has returned; TypeError if it may not return that."""
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    hint = ": it is a text stream, and a binary one is needed" if isinstance(data, str) else ""
    raise TypeError(
        f"{name}() of the source returned {type(data).__name__}, not bytes{hint}: {describe(source)}"
    )


def _write_all(sink: Any, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many calls as the sink needs."""
    try:
        done = _taken(sink, sink.write(data), len(data))
    except BlockingIOError as error:
        done = _taken_before_block(sink, error)
    _write_rest(sink, data, done)


def _write_rest(sink: Any, data: bytes | memoryview, done: int) -> None:
    """Write the rest of `data` after its first `done` bytes."""
    if done >= len(data):
        return
    with memoryview(data) as view:
        while done < len(view):
            with view[done:] as rest:
                piece = rest if isinstance(data, memoryview) else bytes(rest[:_PIECE_BYTES])
                try:
                    done += _taken(sink, sink.write(piece), len(piece))
                except BlockingIOError as error:
                    done += _taken_before_block(sink, error)


def _taken(sink: Any, size: Any, wanted: int) -> int:
    """Return how many of `wanted` bytes a `write` took that returned `size`; wait if it would block."""
    if size is None and isinstance(sink, io.RawIOBase):
        wait_for(sink, select.POLLOUT)
        return 0
    if size is None or not isinstance(size, int) or size >= wanted:
        return wanted
    if size <= 0:
        raise OSError(errno.EIO, f"write() of the sink returned {size} for {wanted} bytes")
    return size


def _taken_before_block(sink: Any, error: BlockingIOError) -> int:
    """Return how many bytes a `write` took that raised this error, once it is worth trying again."""
    # A buffered writer says how much it took all the same. If nobody set the attribute, it is missing.
    taken = getattr(error, "characters_written", 0)
    wait_for(sink, select.POLLOUT)
    return int(taken)


def wait_for(stream: Any, event: int) -> None:
    """Wait until the descriptor under a non-blocking stream is ready."""
    try:
        number = stream.fileno()
        poll = select.poll()
        poll.register(number, event)
        os.fstat(number)  # a poll of a closed descriptor would return at once, for ever
    except (AttributeError, OSError, TypeError, ValueError):  # ValueError: it is closed
        does = "has no bytes yet" if event == select.POLLIN else "takes no bytes now"
        raise BlockingIOError(
            errno.EAGAIN,
            f"{describe(stream)} {does}, and has no descriptor to wait for: give an object that waits",
        ) from None
    poll.poll()
