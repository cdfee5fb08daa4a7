"""The ends of edges that stages get: `Input` and `Output`, each a descriptor or an in-memory stream.

A stage closes both of its ends. Closing a borrowed end does not close its descriptor (the process's own
stdin, say). An end that is /dev/null is not open when a command gets it: the command's process opens it,
which takes half the time. For any other stage it is opened before.
"""

from __future__ import annotations

from penstock.core.public import exported
from penstock.system.fds import duplicate, null
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Generic, TypeVar

    from penstock.streams.probe import Probe
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer
    from penstock.system.fds import Fd

    _Stream = TypeVar("_Stream", Reader, Writer)
else:

    class Generic:
        """A stand-in for `typing.Generic`, which is expensive to import."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls

    _Stream = None

__all__ = ["Input", "Output", "load_streams"]


def load_streams() -> None:
    """Load the modules that `reader`, `writer` and edges in memory need.

    For the start of a run with a stage that works in this process: once stages have been started, there may
    be no descriptor left to load a module by.
    """
    with late_import:
        import penstock.streams.fd_streams  # noqa: PLC0415 - commands need no streams
        import penstock.streams.memory_pipe  # noqa: F401, PLC0415


class _End(Generic[_Stream]):
    """The base of both ends.

    `fd` is a descriptor that this end owns, `borrowed` the number of one that it does not own, and `devnull`
    stands for /dev/null. `owned_description`: nobody else has the open file description, so its flags may be
    changed.
    """

    __slots__ = ("_borrowed", "_count", "_devnull", "_fd", "_owned_description", "_stream", "_waits")
    _writable: ClassVar[bool]

    def __init__(
        self,
        fd: Fd | None = None,
        stream: _Stream | None = None,
        *,
        borrowed: int | None = None,
        devnull: bool = False,
        owned_description: bool = True,
    ) -> None:
        self._fd = fd
        self._stream: Any = stream
        self._borrowed = borrowed
        self._devnull = devnull
        self._owned_description = owned_description
        self._count: int | None = None

    @property
    def fd(self) -> int | None:
        """The descriptor's number; None if the stream is in memory."""
        return self._borrowed if self._fd is None else self._fd.fileno()

    @property
    def is_devnull(self) -> bool:
        """Whether it is /dev/null and not open yet."""
        return self._devnull

    def open_devnull(self) -> None:
        """Open it if it is /dev/null. Raises OSError if that fails."""
        if self._devnull:
            self._fd = null(writable=self._writable)
            self._devnull = False

    @property
    def count(self) -> int | None:
        """Bytes that went through the file-like object; None if the stage used the descriptor uncounted."""
        return self._count if self._stream is None else self._stream.count

    @property
    def spooled(self) -> int:
        """The most bytes that were held at one time because a join waited; see `streams.relay`."""
        return int(getattr(self._stream, "peak", 0))

    def probe(self) -> Probe:
        """Return what this end shows from outside; see `streams.probe`."""
        if self._stream is not None:
            found: Probe = self._stream.probe()
            return found
        return self._count, getattr(self, "_waits", None), self._fd  # set only by `set_look`

    @property
    def spooled_now(self) -> int:
        """The bytes that are held at this moment because a join waits."""
        return int(getattr(self._stream, "spooled", 0))

    def set_count(self, count: int | None) -> None:
        """Record how many bytes went through the descriptor, as reported by the process that used it."""
        self._count = count
        self._waits: bool | None = None

    def set_look(self, count: int | None, *, waits: bool | None) -> None:
        """Record what the process that uses the descriptor has reported while it goes on."""
        self._count, self._waits = count, waits

    @property
    def owned_description(self) -> bool:
        """Whether nobody else has the open file description, so its flags may be changed."""
        return self._owned_description

    @property
    def exclusive(self) -> bool:
        """Whether it is an unused descriptor whose open file description nobody else has."""
        return self._fd is not None and self._owned_description and self._stream is None

    def wrap(self, make: Callable[[Fd], Any]) -> Any:
        """Return the stream that `make(descriptor)` makes, which owns the descriptor.

        It takes the place of the file-like object.
        """
        self._stream = make(self._open_fd())
        return self._stream

    def close(self) -> None:
        """Close the stream, or the descriptor if this end owns it. Idempotent."""
        if self._stream is not None:
            self._stream.close()
        elif self._fd is not None:
            self._fd.close()

    def poison(self, reason: BaseException) -> None:
        """Poison the stream, if the stage uses it."""
        if self._stream is not None:
            self._stream.poison(reason)

    def interrupt(self, reason: BaseException) -> None:
        """Interrupt the stream, if the stage uses it."""
        if self._stream is not None:
            self._stream.interrupt(reason)

    def _open_fd(self) -> Fd:
        """Return a descriptor that a reader or writer may close."""
        if self._fd is not None:
            return self._fd
        if self._borrowed is None:
            raise ValueError("an Input or Output must be made of a descriptor or of an in-memory stream")
        return duplicate(self._borrowed)


@exported
class Input(_End["Reader"]):
    """The stdin of a stage: `fd` if it is a descriptor, and always `reader`, a file-like object.

    Use either `fd` or `reader`, not both: a reader may have taken bytes from the descriptor.
    """

    __slots__ = ()
    _writable = False

    @property
    def reader(self) -> Reader:
        """A file-like object with `read`, `readline`, `chunks()` and so on. Closing it closes the input."""
        if self._stream is None:
            with late_import:  # loaded already in a run, by `load_streams`
                from penstock.streams.fd_streams import FdReader  # noqa: PLC0415 - commands need none

            self._stream = FdReader(self._open_fd(), owned_description=self._owned_description)
        reader: Reader = self._stream
        return reader


@exported
class Output(_End["Writer"]):
    """The stdout of a stage: `fd` if it is a descriptor, and always `writer`, a file-like object.

    A writer is not buffered.
    """

    __slots__ = ()
    _writable = True

    @property
    def writer(self) -> Writer:
        """A file-like object with `write`, `writelines` and `flush`. Closing it closes the output."""
        if self._stream is None:
            with late_import:  # as above
                from penstock.streams.fd_streams import FdWriter  # noqa: PLC0415

            self._stream = FdWriter(self._open_fd(), owned_description=self._owned_description)
        writer: Writer = self._stream
        return writer
