"""Descriptors that the reactor itself reads or writes: captured stderr and stdout, and input held in memory.

All of it is non-blocking and calls no user code. Each tap owns its descriptor, unwatches it before closing
it, and lives in the reactor's thread from `start` on. `_gate` is for `start` alone, which the thread that
starts the run calls: by then the stages may have ended, and the reactor may be closing the tap.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial

from penstock.core.excerpt import Excerpt
from penstock.core.framing import LineCutter
from penstock.runtime.discarding import discard_until_end
from penstock.system import system_calls
from penstock.system.fds import Fd, pipe_capacity, set_nonblocking
from penstock.system.pipe_capacity import GROWN_SIZE, resize
from penstock.system.poller import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from penstock.core.captured import Captured
    from penstock.runtime.dispatcher import Dispatcher
    from penstock.runtime.reactor import Reactor
    from penstock.streams.probe import Probe
else:
    Protocol = object

__all__ = ["CallbackTap", "CaptureTap", "ExcerptTap", "FunctionTap", "InputWriter", "Tap"]

_LITTLE, _CHUNK = 4096, 65536
"""Bytes that a read asks for: the second once the first was too little. A read allocates what it asks for."""
_MAX_READS_PER_WAKEUP = 16
"""Reads in a row from one descriptor before the others get their turn."""
_MAX_PENDING_BYTES = 1 << 20
"""Bytes that may wait for a slow callback before its producer has to wait."""
_CALL_OVERHEAD_BYTES = 100
"""Approximate bytes that a queued line costs beyond its own."""


class Tap:
    """Reads a descriptor until its end, and gives each chunk to `feed`."""

    def __init__(self, reactor: Reactor, fd: Fd, on_end: Callable[[], None] | None = None) -> None:
        self._reactor = reactor
        self._fd = fd
        self._on_end = on_end
        self.on_lost: Callable[[OSError], None] | None = None
        """Called in the reactor's thread with the error that ended reading early."""
        self.ended = False
        """Whether the end of the stream was seen."""
        self.error: OSError | None = None
        """The error that ended reading early."""
        self.closed = False
        self.count = 0
        self._discards_rest = False
        self._gate = threading.Lock()
        self._size = _LITTLE
        set_nonblocking(fd.fileno())

    def start(self) -> None:
        """Begin to watch, unless it was closed before. From here on all happens in the reactor's thread."""
        with self._gate:
            if not self.closed:
                self._reactor.watch(self._fd.fileno(), READ, self._ready)

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        raise NotImplementedError

    @property
    def kept(self) -> bytes:
        """The bytes that were kept for the result."""
        return b""

    def probe(self) -> Probe:
        """Return what it shows from outside; see `streams.probe`."""
        return self.count, None, self._fd

    def drain(self) -> None:
        """Read what is there, at most what a pipe can hold: another process may go on writing for ever."""
        taken = None if self.closed else self._take()
        if taken is None:  # nothing was there, as most of the time
            return
        left = pipe_capacity(self._fd.fileno()) - taken
        while left > 0 and (taken := self._take()) is not None:
            left -= taken

    def close(self) -> None:
        """Stop, with or without having seen the end."""
        with self._gate:
            if not self._fd.closed:
                self._reactor.unwatch(self._fd.fileno())
                if self._discards_rest:
                    rest, self._fd = self._fd, Fd()
                    discard_until_end(rest)
                else:
                    self._fd.close()
            self.closed = True  # last, because a step that raises is taken again
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def finish(self, *, discard_rest: bool = False) -> None:
        """Read what is there, and stop. With `discard_rest`, other processes may write on, to nobody."""
        self.drain()
        self._discards_rest = discard_rest
        self.close()

    def forget(self) -> None:
        """Close without calling `on_end`: the run never started."""
        self._on_end = None
        self.close()

    def _ready(self, _events: int) -> None:
        for _ in range(_MAX_READS_PER_WAKEUP):
            if self.closed or self._take() is None:
                return

    def _take(self) -> int | None:
        """Read once. Return the number of bytes, or None if there is nothing now or nothing any more."""
        if self._fd.closed:  # an interrupt came in the middle of `close`, which is taken again
            return None
        try:
            data = system_calls.read(self._fd.fileno(), self._size)
        except BlockingIOError:
            return None
        except OSError as error:  # not the end: what is left of the stream is lost
            self.error = error
            if self.on_lost is not None:
                self.on_lost(error)
            self.close()
            return None
        if not data:
            self.ended = True
            self.close()
            return None
        if len(data) == self._size:
            self._size = max(self._size, _CHUNK)
        self.count += len(data)
        self.feed(data)
        return len(data)


class CaptureTap(Tap):
    """Keeps everything: captured stdout. Its pipe grows once the stage fills it as fast as it is read."""

    _may_grow = True

    def __init__(self, reactor: Reactor, fd: Fd, captured: Captured, on_end: Callable[[], None]) -> None:
        super().__init__(reactor, fd, on_end)
        self._captured = captured
        self.waiting_since = time.monotonic()
        """When the last bytes came."""

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        self.waiting_since = time.monotonic()
        self._captured.append(data)
        if len(data) == _CHUNK and self._may_grow:
            self._may_grow = False
            self._fd.pages = resize(self._fd.fileno(), GROWN_SIZE) or self._fd.pages
            self._size = GROWN_SIZE


class ExcerptTap(Tap):
    """Keeps the first and the last 32 KiB: captured stderr."""

    def __init__(self, reactor: Reactor, fd: Fd) -> None:
        super().__init__(reactor, fd)
        self._excerpt: Excerpt | None = None  # most commands say nothing

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        if self._excerpt is None:
            self._excerpt = Excerpt()
        self._excerpt.feed(data)

    @property
    def kept(self) -> bytes:
        """The kept bytes, with a mark where some were left out."""
        return b"" if self._excerpt is None else self._excerpt.value()

    def close(self) -> None:
        """Stop. If a read has failed, say so in the kept bytes."""
        if not self.closed and self.error is not None:
            self.feed(f"\n... the rest could not be read: {self.error.strerror} ...\n".encode())
        super().close()


class Cutter(Protocol):
    """Makes pieces of a stream."""

    def feed(self, chunk: bytes, /) -> Iterable[bytes]: ...
    def finish(self) -> Iterable[bytes]: ...


class CallbackTap(Tap):
    """Gives pieces of what it reads to calls that a dispatcher makes.

    If the calls are slow, reading pauses while a MiB waits for them, so that a flood of stderr is held up at
    its source. `cutter` makes the pieces; without one they are the chunks as they come.
    """

    def __init__(self, reactor: Reactor, fd: Fd, cutter: Cutter | None, dispatcher: Dispatcher) -> None:
        super().__init__(reactor, fd)
        self._cutter = cutter
        self._dispatcher = dispatcher
        self._paused = False
        dispatcher.on_drained.append(self._on_drained)

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        self._submit([data] if self._cutter is None else self._cutter.feed(data))
        # The queue may run empty between these pieces; then `_on_drained` is posted, and comes after this
        # callback.
        if self._dispatcher.pending > _MAX_PENDING_BYTES and not self._paused and not self.closed:
            self._paused = True
            self._reactor.unwatch(self._fd.fileno())

    def close(self) -> None:
        """Stop; a last line that had no LF is given too."""
        if self.closed:
            return
        if self._cutter is not None:
            self._submit(self._cutter.finish())
        with contextlib.suppress(ValueError):  # an interrupt came after this, and it is closed again
            self._dispatcher.on_drained.remove(self._on_drained)
        super().close()

    def _submit(self, pieces: Iterable[bytes]) -> None:
        """Queue a call for each piece."""
        raise NotImplementedError

    def _on_drained(self) -> None:
        self._reactor.post(self._resume)

    def _resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self._reactor.watch(self._fd.fileno(), READ, self._ready)


class FunctionTap(CallbackTap):
    """Gives lines, or chunks as they come, to a user function.

    A line of more than 16 MiB is cut, with a mark (`core.framing.LineCutter`).
    """

    def __init__(
        self,
        reactor: Reactor,
        fd: Fd,
        call: Callable[[bytes], object],
        dispatcher: Dispatcher,
        *,
        lines: bool,
    ) -> None:
        super().__init__(reactor, fd, LineCutter() if lines else None, dispatcher)
        self._call = call

    def _submit(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._dispatcher.submit(partial(self._call, piece), len(piece) + _CALL_OVERHEAD_BYTES)


class InputWriter:
    """Writes bytes from memory into a pipe and closes it.

    A reader that leaves before the end is not an error; any other failure to write is its `error`.
    """

    def __init__(self, reactor: Reactor, fd: Fd, data: bytes) -> None:
        self._reactor = reactor
        self._fd = fd
        self._rest = memoryview(data)
        self.count = 0
        self.error: OSError | None = None
        self._gate = threading.RLock()
        set_nonblocking(fd.fileno())

    def start(self) -> None:
        """Write what the pipe takes now, unless it was closed before. The reactor writes the rest."""
        with self._gate:
            if not (self._fd.closed or self._push()):
                self._reactor.watch(self._fd.fileno(), WRITE, self._ready)

    def probe(self) -> Probe:
        """Return what it shows from outside; see `streams.probe`. It waits while something is left."""
        return self.count, len(self._rest) > 0, self._fd

    def release(self, on_end: Callable[[], None]) -> None:
        """Give up on what is left, in the reactor's thread, and call `on_end()` there."""

        def close() -> None:
            self.close()
            on_end()

        self._reactor.post(close)

    def abandon(self) -> None:
        """Close the end of a copy that never began."""
        self.close()

    def close(self) -> None:
        """Drop the rest, and close the pipe. In the reactor's thread."""
        with self._gate:
            if not self._fd.closed:
                self._reactor.unwatch(self._fd.fileno())
                self._fd.close()
            self._rest = memoryview(b"")

    def _ready(self, _events: int) -> None:
        if not self._fd.closed and self._push():
            self.close()

    def _push(self) -> bool:
        """Write until the pipe is full. Return True, and close it, if nothing is left or writing fails."""
        try:
            while self._rest:
                written = system_calls.write(self._fd.fileno(), self._rest)
                self.count += written
                self._rest = self._rest[written:]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass
        except OSError as error:
            self.error = error
        self.close()
        return True
