"""Look at what the user gave as stdin, stdout or stderr: how the bytes of an object are reached.

Looking opens nothing, so `explain()` and the plan of a run need no more. There are five ways (`Access`). A
descriptor is passed to a child only if its bytes are the object's bytes: numbers, plain blocking sockets, raw
and buffered binary files, and text layers over those. If such a descriptor is non-blocking, a copy between
descriptors carries the bytes (`streams.transfer`). A buffered reader over something that may block is asked
first which bytes it holds, and so is a text layer over one (`streams.read_ahead`). Everything else (gzip,
TLS, any object that merely lends another's `fileno()`) is copied by calling the object itself
(`streams.user_objects`).

The engine's endpoints and the stderr option of a stage build on these answers. Out of scope: paths, constants
such as DEVNULL, and async objects.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from enum import Enum

from penstock.core.constants import Special, closing
from penstock.core.loaded import is_exactly, loaded
from penstock.system.fds import duplicate, is_nonblocking
from penstock.system.fork_guard import OUT_OF_RESOURCES, late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from penstock.streams.read_ahead import ReadAhead
    from penstock.system.fds import Fd

__all__ = [
    "Access",
    "check_open",
    "duplicate_sink",
    "duplicate_source",
    "number_of",
    "read_ahead",
    "sink_access",
    "source_access",
    "unwrap",
]


class Access(Enum):
    """How the bytes of an object are reached."""

    PASS = "pass"  # noqa: S105 - not a password
    """A child may get a duplicate of its descriptor."""
    COPY = "copy"
    """They are the bytes of its descriptor, but no child may have that as it is: it is non-blocking."""
    LOOK = "look"
    """As PASS or COPY, but the object may hold bytes that come first: `read_ahead(it)` knows."""
    LEND = "lend"
    """It is a stream of Penstock, which lends its bytes (`streams.lent_readers`)."""
    CALL = "call"
    """Only its own methods give or take them."""


def unwrap(value: Any) -> tuple[Any, Any]:
    """Return the object itself, and the object to close after the run or None.

    Takes off `closing`, and the wrappers that tempfile and os.popen put around a file.
    """
    to_close = None
    if isinstance(value, closing):
        to_close = value = value.thing
    if is_exactly(value, "tempfile", "_TemporaryFileWrapper"):
        value = value.file
    if type(value) is os._wrap_close:  # noqa: SLF001 - os.popen() puts it around one
        value = value._stream  # type: ignore[attr-defined] # noqa: SLF001
    return value, to_close


def source_access(value: Any) -> Access:
    """Return how to read from a descriptor's number or from an object.

    Raises ValueError, naming stdin, if it is closed or not for reading.
    """
    if isinstance(value, int):
        return _number_access("stdin", value)
    _check_not_closed("stdin", value)
    readable = getattr(value, "readable", None)
    if isinstance(value, io.IOBase) and callable(readable) and not readable():
        raise ValueError(f"stdin is not open for reading: {value!r}")
    reader = loaded("penstock.streams.reader", "Reader")
    if reader is not None and isinstance(value, reader):
        return Access.LEND
    with _descriptor_of("stdin", value):
        if read_ahead(value) is not None:
            return Access.LOOK
        if _passable_for_reading(value):
            return Access.PASS
        return Access.COPY if _is_only_a_descriptor(value) else Access.CALL


def sink_access(option: str, value: Any) -> Access:
    """Return how to write to a descriptor's number or to an object.

    Raises ValueError, naming `option`, if it is closed or not for writing.
    """
    if isinstance(value, int):
        return _number_access(option, value)
    _check_not_closed(option, value)
    writable = getattr(value, "writable", None)
    if isinstance(value, io.IOBase) and callable(writable) and not writable():
        raise ValueError(f"{option} is not open for writing: {value!r}")
    with _descriptor_of(option, value):
        if _passable_for_writing(value):
            return Access.PASS
        return Access.COPY if _is_only_a_descriptor(value) else Access.CALL


def read_ahead(value: Any) -> ReadAhead | None:
    """Return the layers of one of io's own readers over something that may block, or None."""
    if not isinstance(value, io.IOBase):
        return None
    with late_import:
        from penstock.streams.read_ahead import read_ahead_of  # noqa: PLC0415 - few runs get such an object

    return read_ahead_of(value)


def check_open(option: str, value: Any) -> None:
    """Raise ValueError, naming the option, if `value` is a number but not an open descriptor."""
    if isinstance(value, int) and not isinstance(value, Special):
        _number_access(option, value)


def duplicate_source(value: Any) -> Fd:
    """Return our own descriptor for a number or an object, at the position where the object stands."""
    if isinstance(value, io.TextIOWrapper | io.BufferedReader | io.BufferedRandom):
        # By way of the end, so that the object's own buffer is dropped and the descriptor stands where the
        # object does. Bytes that were buffered are read again, once, and the user may go on reading after
        # the run.
        position = value.tell()
        try:
            value.seek(0, os.SEEK_END)
        except OSError:
            _drop_buffer(value, position)
        else:
            value.seek(position)
    return duplicate(number_of(value))


def _drop_buffer(value: Any, position: int) -> None:
    """Do the same for a file of /proc, which has no end to seek."""
    value.seek(position)
    buffered = value.buffer if isinstance(value, io.TextIOWrapper) else value
    size = len(buffered.peek())
    if size:
        buffered.read(size)
        os.lseek(value.fileno(), -size, os.SEEK_CUR)


def duplicate_sink(value: Any) -> Fd:
    """Return our own descriptor for a number or an object, after writing out what the object has buffered."""
    if isinstance(value, io.IOBase):
        value.flush()
    return duplicate(number_of(value))


def number_of(value: Any) -> int:
    """Return the number of a descriptor that was given as a number or as an object."""
    return value if isinstance(value, int) else int(value.fileno())


def _check_not_closed(option: str, value: Any) -> None:
    try:
        closed = getattr(value, "closed", False)
    except ValueError as error:  # of io's layers; they do not even have a repr then
        raise ValueError(f"{option} is a {type(value).__name__} that cannot be used: {error}") from error
    if closed is True or (_is_plain_socket(value) and value.fileno() < 0):
        raise ValueError(f"{option} is closed: {value!r}")


@contextlib.contextmanager
def _descriptor_of(option: str, value: Any) -> Iterator[None]:
    """Name the option if the descriptor of one of io's own files was closed without the file's knowledge."""
    try:
        yield
    except OSError as error:
        if error.errno in OUT_OF_RESOURCES:  # for a module that is loaded here
            raise
        raise ValueError(f"{option} has a descriptor that cannot be used: {value!r}: {error}") from error


def _number_access(option: str, number: int) -> Access:
    try:
        return Access.COPY if is_nonblocking(number) else Access.PASS
    except OSError as error:
        raise ValueError(f"{option} is not an open descriptor: {number}") from error


def _is_only_a_descriptor(value: Any) -> bool:
    """Whether the object adds nothing to its descriptor, so that a copy may use the descriptor itself."""
    return _is_plain_socket(value) or type(value) is io.FileIO or _is_raw_socket_file(value)


def _is_raw_socket_file(value: Any) -> bool:
    return is_exactly(value, "socket", "SocketIO") and _is_plain_socket(value._sock)  # noqa: SLF001 - None once it is closed


def _is_plain_socket(value: Any) -> bool:
    # Exactly this type: a TLS socket is a subclass whose descriptor carries other bytes.
    return is_exactly(value, "socket", "socket")


def _is_blocking_file(value: Any) -> bool:
    """Whether this is exactly one of io's own binary files over a descriptor that may be passed as it is."""
    if type(value) in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom):
        value = value.raw
    return type(value) is io.FileIO and not is_nonblocking(value.fileno())


def _passable_for_reading(value: Any) -> bool:
    if _is_plain_socket(value) or _is_raw_socket_file(value):
        return not is_nonblocking(value.fileno())
    if type(value) is io.TextIOWrapper:
        if not _is_blocking_file(value.buffer) or not _is_seekable_file(value.fileno()):
            return False
        try:
            # Larger numbers hold a decoder's state besides the position.
            return value.tell() < 1 << 63
        except OSError:  # in the middle of an iteration by line, when the file does not know its own position
            return False
    if not _is_blocking_file(value):
        return False
    return type(value) is io.FileIO or _is_seekable_file(value.fileno())


def _passable_for_writing(value: Any) -> bool:
    if _is_plain_socket(value) or _is_raw_socket_file(value):
        return not is_nonblocking(value.fileno())
    if type(value) is io.TextIOWrapper:
        value = value.buffer
    return _is_blocking_file(value)


def _is_seekable_file(number: int) -> bool:
    return stat.S_ISREG(os.fstat(number).st_mode)
