"""Learn that the caller is about to wait in a read of `run.stdout`, without a subclass of Python's own files.

`run.stdout` is exactly a `BufferedReader` over a `FileIO`, because lines of anything else take twice as long.
Both call the file's methods by name. So an attribute of the instance takes the place of a method: of
`readinto` while somebody wants to know of the next read, and of `fileno` for good, because reads of the
descriptor itself are not seen.

The read itself stays one call in C, in whose middle no interrupt can lose bytes: a `BufferedReader` tries
again after EINTR. So `readinto` raises that, and is the method of the class again. Out of scope: what is done
about it (`pipe_writer`).
"""

from __future__ import annotations

import errno
import io
import weakref
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ReadWatch"]


class ReadWatch:
    """Watches one file. Nothing here keeps the file, or is kept by it for longer than it lives."""

    __slots__ = ("_file", "_set")

    def __init__(self, file: io.FileIO, on_number: weakref.WeakMethod[Callable[[], None]]) -> None:
        """`on_number()` is called when somebody asks for the descriptor's number."""
        self._file = weakref.ref(file)
        self._set = False
        file.fileno = partial(_number_of, self._file, on_number)  # type: ignore[method-assign]

    def set(self, on_read: Callable[[], None]) -> None:
        """Call `on_read()` before the next read waits, in the thread that reads."""
        file = None if self._set else self._file()
        if file is not None:
            self._set = True
            file.readinto = partial(self._readinto, on_read)  # type: ignore[method-assign]

    def clear(self) -> None:
        """Call it no more."""
        file = self._file()
        if file is not None:
            vars(file).pop("readinto", None)
        self._set = False

    def _readinto(self, on_read: Callable[[], None], buffer: Any) -> int | None:
        self.clear()
        on_read()
        file = self._file()
        # The buffer of a BufferedReader belongs to no object, unlike that of any other caller.
        if file is None or getattr(buffer, "obj", self) is None:
            raise InterruptedError(errno.EINTR, "read again")
        return file.readinto(buffer)


def _number_of(file: weakref.ref[io.FileIO], on_number: weakref.WeakMethod[Callable[[], None]]) -> int:
    found, call = file(), on_number()
    if call is not None:
        call()
    if found is None:
        raise ValueError("the file is gone")
    return io.FileIO.fileno(found)
