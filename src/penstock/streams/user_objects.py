"""Copies between a stream of ours and an object of the caller's, by the object's own methods.

A file, a text file, a socket, an iterable, or whatever has `write_to` or `read_from`. Any of these methods
may block for as long as it likes, so all of this runs in a worker. Which objects are copied like that is for
`data.endpoints` to say.
"""

from __future__ import annotations

import codecs
import io
import select
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.streams.copy import copy_stream, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["chunk_writer", "drain", "feed"]

_END = object()
"""What a source gives when it has no more: no chunk, not even a wrong one."""
_READ_METHODS = ("readinto1", "readinto", "read1", "read")


def feed(source: Any, writer: Writer, call: Callable[..., Any]) -> None:
    """Copy all of a caller's object into `writer`: a file, a socket, an iterable of bytes.

    The caller's code is called by `call(function, *arguments)` only, which raises where the copy is to end.
    """
    write_to = getattr(source, "write_to", None)
    if callable(write_to):
        call(write_to, writer)
        return
    if isinstance(source, io.TextIOBase):
        # One encoder for all, since some encodings begin with a mark; so it is the text that tells the end.
        encoder = codecs.getincrementalencoder(source.encoding or "utf-8")(source.errors or "strict")
        read: Callable[[], Any] = partial(_encoded, source, encoder)
    elif any(hasattr(source, method) for method in _READ_METHODS):
        copy_stream(_GuardedSource(source, call), writer)
        return
    elif hasattr(source, "recv"):
        read = partial(_received, source)
    else:
        read = partial(next, iter(source), _END)
    while (chunk := call(read)) is not _END:
        writer.write(chunk)


def drain(reader: Reader, sink: Any) -> None:
    """Copy all of `reader` into a caller's object: anything with `write` or `read_from`, or a socket."""
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
    """How to give bytes to a sink that is no binary file: decoded to a text file, sent to a socket.

    None for a binary one.
    """
    if isinstance(sink, io.TextIOBase):
        # A character may be split between two chunks, so the decoder keeps the rest of it for the next.
        decoder = codecs.getincrementaldecoder(sink.encoding or "utf-8")("replace")
        return lambda chunk: sink.write(decoder.decode(chunk, final=not chunk))
    if not hasattr(sink, "write"):
        return lambda chunk: _send(sink, chunk)
    return None


def _encoded(source: Any, encoder: codecs.IncrementalEncoder) -> Any:
    text = source.read(8192)
    return encoder.encode(text) if text else _END


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
    """TLS asks for the other direction first; the next wait is for either."""
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _wait_while_blocked(source: Any, *, writing: bool) -> None:
    """Wait until a non-blocking socket is ready; a TLS one may hold decrypted bytes that no poll tells of."""
    pending = getattr(source, "pending", None)
    gettimeout = getattr(source, "gettimeout", None)
    if gettimeout is None or gettimeout() != 0 or (not writing and callable(pending) and pending()):
        return
    poll = select.poll()
    poll.register(source.fileno(), select.POLLOUT if writing else select.POLLIN)
    poll.poll()


class _GuardedSource:
    """A caller's object whose reading methods are called by `call`."""

    def __init__(self, source: Any, call: Callable[..., Any]) -> None:
        self._source = source
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name == "fileno":  # to wait on, where it is non-blocking
            return self._source.fileno
        if name not in _READ_METHODS:
            raise AttributeError(name)
        method = partial(self._call, getattr(self._source, name))
        setattr(self, name, method)
        return method
