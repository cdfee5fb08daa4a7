"""Stderr that is shown as it comes and captured (`stderr=TEE`): a tap for each command, a relay for the run.

A `TeeTap` keeps the excerpt as an `ExcerptTap` does, and gives the bytes to the run's `StderrRelay`. A worker
writes them to our own stderr in the order in which they were read. The thread that steers the run never
writes there, because a terminal may be stopped, and a pipe full.

Lines. The relay gets whole lines, in pieces of at most PIPE_BUF bytes, which a pipe takes in one. A line is
not whole if a command pauses in it, as for a prompt or a progress bar. The tap passes that on once the pipe
is empty, or, while other commands are shown too, `timing.stderr_line_s` later: a program that buffers writes
blocks, which end in the middle of a line. So lines mix only if a command pauses in one for longer than that,
or if a line has more than PIPE_BUF bytes.

The lines of a live view, or of one that is plain, are written by the same worker (`show`). While some run of
the process has a live view, everything else that goes to the terminal goes above it (`live_area`).

Nothing waits for ever. While a MiB waits, the command is held up, as by INHERIT. The relay gives up when our
stderr has a closed reader or an error. It also gives up when our stderr takes nothing for
`timing.stderr_stall_s` while a command is held up, or for `timing.stderr_end_s` at the end of the run. From
then on stderr is only captured. A relay that has given up may leave its worker in a write, if another process
took the room that the worker had seen. The worker holds nothing but that write and the duplicate of our
stderr.

Threads. `submit` and the timers run in the thread that steers the run, `_write` in the worker, `give_up` in
either. `given_up` only becomes true. The thread that sets it calls the listeners, which all look again.
"""

from __future__ import annotations

import errno
import select
import time
from functools import partial

from penstock.core.errors import Cancelled
from penstock.core.excerpt import Excerpt
from penstock.core.timing import timing
from penstock.runtime import live_area
from penstock.runtime.dispatcher import Dispatcher
from penstock.runtime.taps import CallbackTap
from penstock.streams.fd_streams import FdWriter
from penstock.system.fds import duplicate, is_regular
from penstock.system.terminal import not_stopped_by_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock.runtime.events import EventEmitter
    from penstock.runtime.reactor import Reactor, Timer
    from penstock.system.fds import Fd

__all__ = ["StderrRelay", "TeeTap"]

_STDERR = 2
_FILE_PIECE = 65536
_MAX_READS_PER_WAKEUP = 16
"""Reads in a row from one command before the others get their turn."""


class StderrRelay:
    """Writes to our own stderr what the commands of one run write to theirs."""

    def __init__(self, events: EventEmitter) -> None:
        """Make a relay that is yet to be opened."""
        self.dispatcher = Dispatcher()
        self.given_up = False
        """Whether nothing is shown any more."""
        self.piece_size = select.PIPE_BUF
        """Bytes that are written at once, at most: a pipe that polls as writable takes so many (pipe(7))."""
        self.taps = 0
        """Commands that are shown at this moment."""
        self.in_line = False
        """Whether the last byte of stderr that was written did not end its line."""
        self._events = events
        self._writer: FdWriter | None = None
        self._moved_at = 0.0
        self._timer: Timer | None = None

    def open(self) -> None:
        """Duplicate our stderr; without one, nothing is shown. Raises OSError if no descriptor is left."""
        if self._writer is not None or self.given_up:
            return
        try:
            self._writer = FdWriter(duplicate(_STDERR), owned_description=False)
            if is_regular(_STDERR):
                self.piece_size = _FILE_PIECE
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            self.given_up = True

    def submit(self, pieces: Sequence[bytes]) -> None:
        """Queue pieces of at most `piece_size` bytes."""
        if self.given_up or not pieces:
            return
        if not self.dispatcher.busy:
            self._moved_at = time.monotonic()
        self.dispatcher.submit(partial(self._write, pieces), sum(map(len, pieces)))

    def write(self, data: bytes) -> None:
        """Write to our stderr now, in the calling thread. It may raise what a stream raises."""
        if self._writer is not None:
            self._writer.write(data)

    def show(self, draw: Callable[[Callable[[bytes], object]], object]) -> None:
        """Queue `draw(write)`, which writes more than stderr of commands. If it raises, all showing ends."""
        if self.given_up:
            return
        if not self.dispatcher.busy:
            self._moved_at = time.monotonic()
        self.dispatcher.submit(partial(self._draw, draw))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be written."""
        return self.given_up or not self.dispatcher.busy

    def give_up_if_stalled(self, seconds: float) -> bool:
        """Give up if our stderr has taken nothing for so long; return whether nothing is left to wait for."""
        if not self.finished and time.monotonic() - self._moved_at >= seconds:
            self._events.emit("failed", "stderr", f"our stderr took nothing for {seconds:g} s: not shown")
            self.give_up()
        return self.finished

    def finish(self, reactor: Reactor, on_end: Callable[[], None], deadline: float | None) -> None:
        """Have `on_end()` called once it is `finished`, at `deadline` (`time.monotonic()`) at the latest.

        Without a deadline, that is when our stderr takes nothing for a while. It may be called again.
        """
        if on_end not in self.dispatcher.on_drained:
            self._moved_at = time.monotonic()  # it has the whole time from now on
            self.dispatcher.on_drained.append(on_end)
        if self._timer is None or self._timer.callback is None or deadline is not None:
            when = self._moved_at + timing.stderr_end_s if deadline is None else deadline
            look = partial(self._look, reactor, on_end, deadline)
            timer, self._timer = self._timer, reactor.call_at(when, look)
            if timer is not None:
                timer.cancel()

    def _look(self, reactor: Reactor, on_end: Callable[[], None], deadline: float | None) -> None:
        if deadline is not None:
            self.give_up()
        if self.give_up_if_stalled(timing.stderr_end_s):
            on_end()
        else:
            self.finish(reactor, on_end, None)

    def give_up(self) -> None:
        """Show nothing any more. From any thread; idempotent."""
        if self.given_up:
            return
        self.given_up = True
        if self._writer is not None:
            self._writer.interrupt(Cancelled("our stderr takes no more"))
        for listener in tuple(self.dispatcher.on_drained):
            listener()

    def close(self) -> None:
        """Let go of our stderr. Idempotent."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.given_up = True
        self.dispatcher.on_drained.clear()
        if self._writer is not None:
            self._writer.close()

    def _write(self, pieces: Sequence[bytes]) -> None:
        writer = self._writer
        if self.given_up or writer is None:
            return
        try:
            with not_stopped_by_output():
                for piece in pieces:
                    with live_area.lock:
                        area = live_area.current()
                        writer.write(piece if area is None else area.above(piece))
                        self.in_line = not piece.endswith(b"\n")
                    self._moved_at = time.monotonic()
        except BaseException:  # noqa: BLE001 - showing is not worth a failure, whatever went wrong
            self.give_up()

    def _draw(self, draw: Callable[[Callable[[bytes], object]], object]) -> None:
        if self.given_up:
            return
        try:
            with not_stopped_by_output():
                draw(self.write)
            self._moved_at = time.monotonic()
        except BaseException:  # noqa: BLE001 - as above
            self.give_up()


class TeeTap(CallbackTap):
    """Keeps the first and the last 32 KiB, and gives everything to the relay."""

    def __init__(self, reactor: Reactor, fd: Fd, relay: StderrRelay) -> None:
        self._relay = relay
        self._excerpt: Excerpt | None = None  # as in `ExcerptTap`
        self._pieces = _LinePieces(relay.piece_size)
        self._stall_timer: Timer | None = None
        self._line_timer: Timer | None = None
        super().__init__(reactor, fd, self._pieces, relay.dispatcher)
        relay.taps += 1

    @property
    def kept(self) -> bytes:
        """The kept bytes, with a mark where some were left out."""
        return b"" if self._excerpt is None else self._excerpt.value()

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        if self._excerpt is None:
            self._excerpt = Excerpt()
        self._excerpt.feed(data)
        if not self._relay.given_up:
            super().feed(data)
            if self._paused:
                self._watch_stall()

    def close(self) -> None:
        """Stop. If a read has failed, the kept bytes say so."""
        if self.closed:
            return
        for timer in (self._stall_timer, self._line_timer):
            if timer is not None:
                timer.cancel()
        if self.error is not None:
            self.feed(f"\n... the rest could not be read: {self.error.strerror} ...\n".encode())
        super().close()
        self._relay.taps -= 1

    def _submit(self, pieces: Iterable[bytes]) -> None:
        self._relay.submit([*pieces])

    def _ready(self, _events: int) -> None:
        for _ in range(_MAX_READS_PER_WAKEUP):
            if self.closed or self._paused:  # `_resume` goes on
                return
            if self._take() is None:
                if not self.closed and self._pieces.holds_some:
                    self._show_piece_of_line()
                return
        self._reactor.post(partial(self._ready, 0))  # else the end of a line may be held for long

    def _resume(self) -> None:
        if self._paused and not self.closed:
            super()._resume()
            self._ready(0)

    def _show_piece_of_line(self) -> None:
        """Show a line that is not whole, and may never be: at once, or soon if others show lines too."""
        timer, self._line_timer = self._line_timer, None
        if timer is not None:
            timer.cancel()
        if self._relay.taps <= 1:
            self._show_now()
        else:
            when = time.monotonic() + timing.stderr_line_s
            self._line_timer = self._reactor.call_at(when, self._show_now)

    def _show_now(self) -> None:
        if not self.closed:
            self._submit(self._pieces.finish())

    def _watch_stall(self) -> None:
        timer = self._stall_timer
        if timer is None or timer.callback is None:
            when = time.monotonic() + timing.stderr_stall_s
            self._stall_timer = self._reactor.call_at(when, self._check_stall)

    def _check_stall(self) -> None:
        if self._paused and not (self.closed or self._relay.give_up_if_stalled(timing.stderr_stall_s)):
            self._watch_stall()


class _LinePieces:
    """Cuts a stream into pieces of whole lines, and a longer line into pieces of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = b""

    @property
    def holds_some(self) -> bool:
        """Whether it holds the beginning of a line."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take a chunk; return the pieces that are whole. The rest is held: it is less than a piece."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if len(data) - end >= self._size:
            end = len(data)
        self._rest = data[end:]
        return self._cut(data[:end])

    def finish(self) -> list[bytes]:
        """Return the line that is not whole, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _cut(self, data: bytes) -> list[bytes]:
        pieces, start = [], 0
        while start < len(data):
            end = start + self._size
            if end < len(data):
                end = data.rfind(b"\n", start, end) + 1 or end
            pieces.append(data[start:end])
            start = end
        return pieces
