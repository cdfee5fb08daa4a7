"""Copies between our streams and the user's objects, by the methods of the objects.

An object is a file, a text file, a socket, an iterable, or anything with `write_to` or `read_from`. Any of
these methods may block for as long as it likes, so all of this runs in a worker. `streams.endpoints` decides
which objects are copied like that.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import stat
import time
from contextlib import closing
from functools import partial

from penstock.core.describe import describe
from penstock.streams.chunk_feed import ChunkFeed
from penstock.streams.copy import CallerSource, copy_stream, read_chunks, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from penstock.streams.joining import LateCalls
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["chunk_writer", "drain", "feed"]

_END = object()
"""Marks the end of a source: it is not a chunk, not even a wrong one."""
_PAUSE_S = 0.005
"""Seconds between two reads of an object that is ready and has no bytes."""
_SMALL = 4096
"""Bytes of a piece that is copied out of the buffer that it was read into, so that it may be joined."""
_READ_METHODS = ("readinto1", "readinto", "read1", "read")


def feed(source: Any, writer: Writer, call: Callable[..., Any], calls: LateCalls) -> None:
    """Copy all of the user's object into `writer`: a file, a socket, or an iterable of bytes.

    Calls user code by `call(function, *arguments)` only, which raises if the copy is to end. Small pieces are
    joined while they come fast; `calls` has them passed on if no further ones come.
    """
    write_to = getattr(source, "write_to", None)
    if callable(write_to):
        call(write_to, writer)
        return
    copy = ChunkFeed(source, writer, calls)
    if isinstance(source, io.TextIOBase) or not any(hasattr(source, method) for method in _READ_METHODS):
        copy.run(_chunks_of(source), call)
        return
    with closing(read_chunks(_WaitingSource(source), writer, small=_SMALL)) as chunks:
        copy.run(chunks, call)


def _chunks_of(source: Any) -> Iterator[Any]:
    """Return an iterator over the pieces of the object; whatever it does is user code."""
    if isinstance(source, io.TextIOBase):
        # One encoder for all chunks, since some encodings begin with a mark. So only the text tells the end.
        encoder = codecs.getincrementalencoder(source.encoding or "utf-8")(source.errors or "strict")
        return iter(partial(_encoded, source, _prompt_reader(source), encoder), _END)
    if hasattr(source, "recv"):
        return iter(partial(_received, source), _END)
    chunks: Iterator[Any] = iter(source)
    return chunks


def _prompt_reader(source: Any) -> Callable[[int], Any]:
    """Return the method that reads text: one that returns a line at once where more may be long in coming."""
    try:
        instant = stat.S_ISREG(os.fstat(source.fileno()).st_mode)
    except (AttributeError, OSError, TypeError, ValueError):  # such as a StringIO
        instant = True
    method: Callable[[int], Any] = source.read if instant else source.readline
    return method


def drain(reader: Reader, sink: Any) -> None:
    """Copy all of `reader` into the user's object: anything with `write` or `read_from`, or a socket."""
    read_from = getattr(sink, "read_from", None)
    write = None if callable(read_from) else chunk_writer(sink)
    if callable(read_from):
        read_from(reader)
    elif write is None:
        copy_stream(reader, sink)
    else:
        for chunk in reader.chunks():
            write(chunk)
        if isinstance(sink, io.TextIOBase):
            write(b"")  # the end: a character may have been cut off
    flush = getattr(sink, "flush", None)
    while callable(flush):
        try:
            flush()
        except BlockingIOError:  # a buffered file over a non-blocking descriptor, which is full
            wait_for(sink, select.POLLOUT)
        else:
            return


def chunk_writer(sink: Any) -> Callable[[bytes], object] | None:
    """Return a function that gives bytes to a text file (decoded) or a socket; None for a binary file."""
    if isinstance(sink, io.TextIOBase):
        # A character may be split between two chunks, so the decoder keeps its beginning for the next one.
        decoder = codecs.getincrementaldecoder(sink.encoding or "utf-8")("replace")
        return lambda chunk: sink.write(decoder.decode(chunk, final=not chunk))
    if not hasattr(sink, "write"):
        return lambda chunk: _send(sink, chunk)
    return None


def _encoded(source: Any, read: Callable[[int], Any], encoder: codecs.IncrementalEncoder) -> Any:
    text = read(8192)
    if not text:
        _check_end(source)
        return _END
    return encoder.encode(text)


def _check_end(source: Any) -> None:
    """Raise BlockingIOError if a text layer took "no bytes now" for the end, as they all do."""
    buffered = getattr(source, "buffer", None)
    if not isinstance(buffered, io.BufferedReader):
        return
    raw = buffered.raw
    if isinstance(raw, io.FileIO) and os.get_blocking(raw.fileno()):
        return
    if buffered.read(1) != b"":
        raise BlockingIOError(
            errno.EAGAIN,
            f"{describe(source)} is a text layer over an object that does not wait for bytes",
        )


def _send(sink: Any, chunk: bytes) -> None:
    with memoryview(chunk) as view:
        sent = 0
        while sent < len(view):
            _wait_while_blocked(sink, writing=True)
            try:
                sent += sink.send(view[sent:])
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                if not _wants_retry(error):
                    raise


def _received(source: Any) -> Any:
    while True:
        _wait_while_blocked(source, writing=False)
        try:
            return bytes(source.recv(65536)) or _END
        except (BlockingIOError, InterruptedError):
            continue
        except OSError as error:
            if not _wants_retry(error):
                raise


def _wants_retry(error: OSError) -> bool:
    """Whether TLS needs the other direction first; the next wait is for either."""
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _wait_while_blocked(source: Any, *, writing: bool) -> None:
    """Wait until a non-blocking socket is ready; a TLS one may hold decrypted bytes that no poll reports."""
    pending = getattr(source, "pending", None)
    gettimeout = getattr(source, "gettimeout", None)
    if gettimeout is None or gettimeout() != 0 or (not writing and callable(pending) and pending()):
        return
    poll = select.poll()
    poll.register(source.fileno(), select.POLLOUT if writing else select.POLLIN)
    poll.poll()


class _WaitingSource(CallerSource):
    """The user's object, with its reading methods, and a way to wait for it."""

    def __init__(self, source: Any) -> None:
        self.thing = self._source = source

    def wait(self) -> None:
        """Wait for the descriptor of an object that is non-blocking."""
        began = time.monotonic()
        wait_for(self._source, select.POLLIN)
        if time.monotonic() - began < _PAUSE_S:  # perhaps it is always ready, and still has no bytes
            time.sleep(_PAUSE_S)

    def __getattr__(self, name: str) -> Any:
        if name not in _READ_METHODS:
            raise AttributeError(name)
        return getattr(self._source, name)
