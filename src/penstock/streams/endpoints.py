"""What the caller gave as stdin, stdout or stderr: told apart first, opened later.

`classify_source` and `classify_sink` only look; `explain()` needs no more, and the plan is made of their
kinds. A descriptor is passed only where its bytes are the object's bytes: numbers, plain blocking sockets,
raw and buffered binary files, text layers over those. Everything else (gzip, TLS, whatever merely lends
another's `fileno()`) is copied by calling the object itself (`data.objects`). An object with `write_to` or
`read_from` is left to copy by itself, from or to a stream of ours. What is only its descriptor, but
non-blocking, is kept as a number, for `data.ladder` to copy. The path of a FIFO is copied too, since to open
it waits for its other end (`data.fifo`).
"""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from penstock.core.async_detection import is_async_sink, is_async_source
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE, Special, closing
from penstock.streams.fifo_streams import Fifo
from penstock.streams.transfer import best_method
from penstock.system.fds import duplicate, is_nonblocking, open_read, open_write
from penstock.system.fifo_open import is_fifo

if TYPE_CHECKING:
    from penstock.system.fds import Fd

__all__ = [
    "Endpoint",
    "check_open",
    "classify_sink",
    "classify_source",
    "open_sink",
    "open_source",
]


_SPECIALS = {DEVNULL: "null", PIPE: "pipe", CAPTURE: "capture"}


class Endpoint:
    """One end of a pipeline: its kind, as `core.plan` names it, the object, what is to be closed after the
    run, and what would carry a copy between it and a pipe.
    """

    __slots__ = ("carrier", "closing", "kind", "value")

    def __init__(self, kind: str, value: Any = None, closing: Any = None, carrier: str = "pooled") -> None:
        self.kind = kind
        self.value = value
        self.closing = closing
        self.carrier = carrier


def classify_source(value: Any, data: Any) -> Endpoint:
    """What the first stage is to read: `data`, or the stdin option."""
    if data is not None:
        return Endpoint("input" if isinstance(data, bytes) else "async", data)
    keep, value = _unwrap(value)
    if isinstance(value, int | str | os.PathLike):
        return _by_name("stdin", value, keep)
    if is_async_source(value):
        return Endpoint("async", value, keep)
    _refuse_closed("stdin", value)
    readable = getattr(value, "readable", None)
    if isinstance(value, io.IOBase) and callable(readable) and not readable():
        raise ValueError(f"stdin is not open for reading: {value!r}")
    if _passable_for_reading(value):
        return Endpoint("descriptor", value, keep)
    if _is_bare(value):
        return _copied("stdin", value.fileno(), keep)
    return Endpoint("copier" if callable(getattr(value, "write_to", None)) else "object", value, keep)


def classify_sink(value: Any, option: str = "stdout") -> Endpoint:
    """Where the last stage writes: the stdout option, or what else `option` says."""
    keep, value = _unwrap(value)
    if isinstance(value, int | str | os.PathLike):
        return _by_name(option, value, keep)
    if is_async_sink(value):
        return Endpoint("async", value, keep)
    _refuse_closed(option, value)
    writable = getattr(value, "writable", None)
    if isinstance(value, io.IOBase) and callable(writable) and not writable():
        raise ValueError(f"{option} is not open for writing: {value!r}")
    if _passable_for_writing(value):
        return Endpoint("descriptor", value, keep)
    if _is_bare(value):
        return _copied(option, value.fileno(), keep)
    copies = option == "stdout" and callable(getattr(value, "read_from", None))
    return Endpoint("copier" if copies else "object", value, keep)


def open_source(endpoint: Endpoint) -> Fd:
    """A descriptor of our own for a `path` or `descriptor` source, at the position where the caller's
    object stands.
    """
    value = endpoint.value
    if endpoint.kind == "path":
        return open_read(value)
    if isinstance(value, io.TextIOWrapper | io.BufferedReader | io.BufferedRandom):
        # By way of the end, so that the object's own buffer is dropped and the descriptor stands where the
        # object does: bytes that were buffered are read again, once, and the caller may go on reading after
        # the run.
        position = value.tell()
        value.seek(0, os.SEEK_END)
        value.seek(position)
    return duplicate(_number(value))


def open_sink(endpoint: Endpoint) -> Fd:
    """A descriptor of our own for a `path` or `descriptor` sink; what the caller's object held back
    is written first.
    """
    value = endpoint.value
    if endpoint.kind == "path":
        return open_write(value)
    if isinstance(value, io.IOBase):
        value.flush()
    return duplicate(_number(value))


def _unwrap(value: Any) -> tuple[Any, Any]:
    """What is to be closed after the run, and the object itself, out of the wrapper that tempfile
    puts around a file.
    """
    keep = None
    if isinstance(value, closing):
        keep = value = value.thing
    module = sys.modules.get("tempfile")
    if module is not None and type(value) is module._TemporaryFileWrapper:  # noqa: SLF001 - it has no public name
        value = value.file
    return keep, value


def _refuse_closed(option: str, value: Any) -> None:
    if getattr(value, "closed", False) is True or (_is_plain_socket(value) and value.fileno() < 0):
        raise ValueError(f"{option} is closed: {value!r}")


def check_open(option: str, value: Any) -> None:
    """ValueError naming the option where a number is no open descriptor."""
    if isinstance(value, int) and not isinstance(value, Special):
        _number_endpoint(option, value, None)


def _by_name(option: str, value: Any, keep: Any) -> Endpoint:
    """What is no object: a special, a path, a descriptor's number."""
    if value is INHERIT:
        return _inherited(0 if option == "stdin" else 1)
    if isinstance(value, Special):
        return Endpoint(_SPECIALS[value])
    if isinstance(value, int):
        return _number_endpoint(option, value, keep)
    return Endpoint("object", Fifo(value)) if is_fifo(value) else Endpoint("path", value)


def _inherited(number: int) -> Endpoint:
    """The process's own stdin or stdout: copied where it is non-blocking, nothing where it is closed."""
    try:
        if is_nonblocking(number):
            return _copied("stdout" if number else "stdin", number, None)
    except OSError:
        return Endpoint("null")
    return Endpoint("inherit")


def _number_endpoint(option: str, number: int, keep: Any) -> Endpoint:
    try:
        if is_nonblocking(number):
            return _copied(option, number, keep)
    except OSError as error:
        raise ValueError(f"{option} is not an open descriptor: {number}") from error
    return Endpoint("descriptor", number, keep)


def _copied(option: str, number: int, keep: Any) -> Endpoint:
    """A descriptor that may not be passed."""
    return Endpoint("object", number, keep, best_method(number, to_pipe=option == "stdin"))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value.fileno())


def _is_bare(value: Any) -> bool:
    """Whether this is only its descriptor: copied with a wake-up, by no method of its."""
    return _is_plain_socket(value) or type(value) is io.FileIO


def _is_plain_socket(value: Any) -> bool:
    # Who has a socket has imported the module. Exactly this type: a TLS socket is a subclass whose descriptor
    # carries other bytes.
    module = sys.modules.get("socket")
    return module is not None and type(value) is module.socket


def _blocking_file(value: Any) -> bool:
    """Whether this is exactly one of io's own binary files over a descriptor that may be passed as it is."""
    if type(value) in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom):
        value = value.raw
    return type(value) is io.FileIO and not is_nonblocking(value.fileno())


def _passable_for_reading(value: Any) -> bool:
    if _is_plain_socket(value):
        return not is_nonblocking(value.fileno())
    if type(value) is io.TextIOWrapper:
        if not _blocking_file(value.buffer) or not _is_seekable_file(value.fileno()):
            return False
        try:
            # Larger numbers hold a decoder's state besides the position.
            return value.tell() < 1 << 63
        except OSError:  # in the middle of an iteration by line: its position is unknown even to itself
            return False
    if not _blocking_file(value):
        return False
    # A buffered reader over a pipe may hold bytes that cannot be put back, and to ask whether it does may
    # block.
    return type(value) is io.FileIO or _is_seekable_file(value.fileno())


def _passable_for_writing(value: Any) -> bool:
    if _is_plain_socket(value):
        return not is_nonblocking(value.fileno())
    if type(value) is io.TextIOWrapper:
        value = value.buffer
    return _blocking_file(value)


def _is_seekable_file(number: int) -> bool:
    return stat.S_ISREG(os.fstat(number).st_mode)
