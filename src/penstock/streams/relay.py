"""Copy bytes from inlets to several outlets in one thread: the data plane of graphs.

A `Lane` copies one inlet into each of its outlets. A tee is one lane with many outlets. If a program writes
to several outputs, each is a lane with one outlet, and all of them belong to one `Relay`. The outlets of a
relay are *siblings*.

Pace. A lane reads only while each of its outlets has room in its window, so the slowest reader sets the pace.
There is one exception, which would be a deadlock: a join downstream waits for one branch while it holds up
another. So a lane reads on, and spools for its full outlets, if all of these hold:

* every full outlet is elastic, and has accepted nothing for `Timing.spool_stall_s`;
* `join_waits()` is true for each of them;
* an elastic sibling is dry: nothing is held for it and its pipe is empty.

From then on, until a full outlet accepts a byte or its join no longer waits, it suffices that a sibling's
pipe has taken everything. So a long spool fills at the sibling's pace and not in steps of 20 ms.

Ends. After EOF each outlet is closed as soon as it has got everything. An outlet whose reader has gone, or
whose write failed, is left out. poll(2) reports the lost reader of a pipe even if nothing is written.

Copying. One buffer of 256 KiB is read into and written from. Only bytes that an outlet does not accept at
once are copied. After the first MiB, what all outlets of a lane can take is not read at all: between pipes
the kernel passes it on (`pipe_tee`). For 1 GiB to two readers, and 256 MiB to ten, it takes half the
processor time of the copy (docs/performance.md). 256 MiB into ten files on a tmpfs took 1.02 s (`tee`
1.15 s), the median of 7 interleaved rounds on two cores that others used too.

`run` blocks in one thread. `interrupt` may be called from any thread and from a signal handler. Out of scope:
making the pipes, and judging the outcomes.
"""

from __future__ import annotations

import select
import threading
import time

from penstock.core.errors import ClosedPipe, Stalled
from penstock.core.timing import timing
from penstock.streams.base import max_sleep
from penstock.streams.buffer_pool import BufferPool
from penstock.streams.lane import Lane
from penstock.streams.outlet import ENDED, FAILED, LEFT, OPEN, WINDOW, Outlet
from penstock.system import system_calls
from penstock.system.fds import Waker
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from penstock.streams.spool import SpoolBudget

__all__ = ["ENDED", "FAILED", "LEFT", "OPEN", "WINDOW", "Lane", "Outlet", "Relay"]

_buffers = BufferPool(size=WINDOW, limit=4)
reset_in_child(_buffers._reset, "state")  # noqa: SLF001 - this module's own object


class Relay:
    """Copies its lanes until all have ended. Owns them, and closes everything at the end of `run`.

    `until`: if this outlet ends early, its lane ends. `on_spooling(outlet)` is called once for each outlet,
    when the relay spools for it. `who_waits(outlet)` is the text of the error `Stalled`, for a budget that
    forbids spooling.
    """

    __slots__ = (
        "_budget",
        "_buffer",
        "_finished",
        "_finishing",
        "_in_use",
        "_lanes",
        "_on_held",
        "_on_spooling",
        "_pause",
        "_poll",
        "_reason",
        "_timeout",
        "_traceback",
        "_until",
        "_waker",
        "_watched",
        "_who_waits",
    )

    def __init__(
        self,
        lanes: Sequence[Lane],
        budget: SpoolBudget,
        *,
        until: Outlet | None = None,
        on_spooling: Callable[[Outlet], None] | None = None,
        who_waits: Callable[[Outlet], str] = lambda outlet: f"{outlet.name} waits for another branch",
    ) -> None:
        self._lanes = list(lanes)
        self._budget = budget
        self._until = until
        self._on_spooling = on_spooling
        self._who_waits = who_waits
        self._reason: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._in_use = threading.Lock()
        self._finished = self._finishing = False
        self._on_held: Callable[[], object] = lambda: None
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, Lane, Outlet | None]] = {}
        self._timeout = -1.0
        self._pause = timing.spool_stall_s
        for lane in self._lanes:
            for outlet in lane.open:
                outlet.connect(budget)
        self._waker = Waker()
        self._poll.register(self._waker.fileno(), select.POLLIN)

    def run(self) -> None:
        """Copy until every lane has ended; `Lane.error` and the outlets have the outcomes.

        Raises the reason of `interrupt`, ValueError once closed, `Stalled`, `SpoolLimitExceeded`, an OSError
        of a spool file, and errors of the callbacks. Everything is closed in each case.
        """
        with self._in_use:
            try:
                if self._finished:
                    raise ValueError("run() of a closed relay")
                with _buffers.lend() as buffer, memoryview(buffer) as self._buffer:
                    self._run()
            finally:
                self._close_all()

    def interrupt(self, reason: BaseException) -> None:
        """Make `run` close everything and raise `reason`; from any thread or signal handler.

        The first reason stays. A write to a file that is under way is finished first.
        """
        if self._reason is None:
            self._traceback = reason.__traceback__  # other threads may raise it too
            self._reason = reason
        self._waker.wake()

    def finish(self, on_held: Callable[[], object]) -> None:
        """Make `run` read no more than what is there by now, and end when all is written; from any thread.

        It calls `on_held()` if an input would go on, because another process may still write to it.
        """
        self._on_held = on_held
        self._finishing = True
        self._waker.wake()

    def close(self) -> None:
        """Close everything; a `run` under way raises ValueError. Idempotent, from any thread."""
        self.interrupt(ValueError("the relay was closed"))
        if self._in_use.acquire(blocking=False):
            try:
                self._close_all()
            finally:
                self._in_use.release()

    def _close_all(self) -> None:
        try:
            self._close_once()
        except BaseException:  # an interrupt; a second one is the caller's
            self._close_once()
            raise

    def _close_once(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._watched.clear()
        self._waker.close()
        self._finished = True

    def _run(self) -> None:
        for lane in self._lanes:
            for outlet in lane.open:
                self._watch(lane, outlet)
            self._stop_unless_read(lane)
        while True:
            if self._finishing:
                self._limit_lanes()
            if self._reason is not None:
                raise self._reason.with_traceback(self._traceback)
            self._timeout, active = -1.0, False
            for lane in self._lanes:
                active = active or lane.reading or bool(lane.open)
                self._watch_inlet(lane, wanted=lane.reading and self._may_read(lane))
            if not active:
                return
            self._step()

    def _limit_lanes(self) -> None:
        """Have each lane end with what is in its input."""
        self._finishing = False
        self._waker.clear()
        limited = [lane for lane in self._lanes if lane.reading and lane.limit()]
        for lane in limited:
            if not lane.left:
                self._stop_reading(lane)
        if limited:
            self._on_held()

    def _step(self) -> None:
        """Wait for the next events, and react to them."""
        limit = max_sleep()
        timeout = limit if self._timeout < 0 else self._timeout if limit < 0 else min(limit, self._timeout)
        events = system_calls.poll_wait(self._poll, timeout * 1000 if timeout >= 0 else None)
        if not events:
            self._pause = min(self._pause * 1.5, timing.spool_pause_s)
            return
        self._pause = timing.spool_stall_s
        readable = []
        for number, mask in events:
            entry = self._watched.get(number)
            if entry is None:  # the waker, or an outlet that has just been closed
                continue
            _, lane, outlet = entry
            if outlet is None:
                readable.append(lane)
            else:
                self._serve(lane, outlet, mask)
        for lane in readable:
            if lane.reading and (not lane.behind or self._may_read(lane)):
                self._read(lane)

    def _may_read(self, lane: Lane) -> bool:
        """Whether a lane is to read now; if time may change the answer, set the timeout."""
        full = [outlet for outlet in lane.behind if outlet.full]
        if not full:
            lane.spooling = False
            return True
        if not all(outlet.elastic for outlet in full):
            return False
        since = max(outlet.stuck_since or 0.0 for outlet in full)
        missing = since + timing.spool_stall_s - time.monotonic()
        if missing > 0:
            lane.spooling = False
        elif self._has_hungry_sibling(full, begun=lane.spooling):
            lane.spooling = all(outlet.join_waits() for outlet in full)
            if lane.spooling:
                if self._budget.forbids:
                    raise Stalled(self._who_waits(full[0]))
                return True
        pause = missing if missing > 0 else self._pause
        self._timeout = pause if self._timeout < 0 else min(self._timeout, pause)
        return False

    def _has_hungry_sibling(self, full: Sequence[Outlet], *, begun: bool) -> bool:
        return any(
            outlet.elastic and not outlet.held if begun else outlet.is_dry()
            for lane in self._lanes
            for outlet in lane.open
            if outlet not in full
        )

    def _read(self, lane: Lane) -> None:
        """Pass on what is there, without a copy if that is possible."""
        if not lane.pass_on():
            self._copy(lane)
        # Only now, because the end of the main output closes the others, which are to get this chunk too.
        for outlet in [outlet for outlet in lane.open if outlet.state != OPEN]:
            self._leave_out(lane, outlet)

    def _copy(self, lane: Lane) -> None:
        """Read once, and write to each outlet what it accepts."""
        room = lane.room()
        try:
            size = lane.read(self._buffer if room == WINDOW else self._buffer[:room])
        except OSError as error:
            lane.error = error
            size = 0
        if size is None:
            return
        if size == 0:
            self._stop_reading(lane)
            return
        data = self._buffer[:size]
        copy: bytes | None = None  # the whole chunk, for all outlets that accepted nothing of it
        for outlet in lane.open:
            done = outlet.skip(size) if outlet.ahead else 0
            if done < size and outlet not in lane.behind:
                done += outlet.send(data[done:] if done else data)
            if outlet.state != OPEN:
                continue
            if done:
                if done < size:
                    self._hold(lane, outlet, bytes(data[done:]))
            else:
                copy = copy or bytes(data)
                self._hold(lane, outlet, copy)
        if lane.left == 0:
            self._stop_reading(lane)

    def _hold(self, lane: Lane, outlet: Outlet, data: bytes) -> None:
        before = outlet.peak
        outlet.hold(data)
        lane.behind.add(outlet)
        self._watch(lane, outlet)
        if not before and outlet.peak and self._on_spooling is not None:
            self._on_spooling(outlet)

    def _serve(self, lane: Lane, outlet: Outlet, mask: int) -> None:
        """React to an event of an outlet."""
        if mask & select.POLLERR and outlet.is_own_pipe:
            outlet.leave()
        elif outlet in lane.behind:
            outlet.flush()
        if outlet.state != OPEN:
            self._leave_out(lane, outlet)
        elif outlet in lane.behind and not outlet.held:
            lane.behind.discard(outlet)
            self._watch(lane, outlet)
            if not lane.reading:
                self._end(lane, outlet)

    def _leave_out(self, lane: Lane, outlet: Outlet) -> None:
        """Go on without an outlet that has left or failed."""
        lane.behind.discard(outlet)
        self._unwatch(outlet.number)
        outlet.close()
        lane.open.remove(outlet)
        if lane.reading and outlet is self._until:
            lane.error = ClosedPipe()
            self._stop_reading(lane)
        else:
            self._stop_unless_read(lane)

    def _stop_unless_read(self, lane: Lane) -> None:
        if lane.reading and not lane.open:
            lane.error = ClosedPipe()
            self._stop_reading(lane)

    def _stop_reading(self, lane: Lane) -> None:
        """Close the inlet; each outlet ends when it has got what is held for it."""
        self._unwatch(lane.number)
        lane.reading = False
        lane.fd.close()
        for outlet in tuple(lane.open):
            if outlet not in lane.behind and outlet.state == OPEN:
                self._end(lane, outlet)

    def _end(self, lane: Lane, outlet: Outlet) -> None:
        self._unwatch(outlet.number)
        outlet.end()
        lane.open.remove(outlet)

    def _watch(self, lane: Lane, outlet: Outlet) -> None:
        """Wait for room if bytes are held; otherwise only for the end of a pipe's reader.

        Any other descriptor may report a hang-up for ever, and a write meets that too.
        """
        if outlet.held:
            self._register(outlet.number, select.POLLOUT, lane, outlet)
        elif outlet.is_own_pipe:
            self._register(outlet.number, 0, lane, outlet)
        else:
            self._unwatch(outlet.number)

    def _watch_inlet(self, lane: Lane, *, wanted: bool) -> None:
        """Poll an inlet only while it is to be read, because a hang-up is reported again and again."""
        if wanted:
            self._register(lane.number, select.POLLIN, lane, None)
        else:
            self._unwatch(lane.number)

    def _register(self, number: int, events: int, lane: Lane, outlet: Outlet | None) -> None:
        known = self._watched.get(number)
        if known is None or known[0] != events:
            self._poll.register(number, events)
            self._watched[number] = events, lane, outlet

    def _unwatch(self, number: int) -> None:
        if self._watched.pop(number, None) is not None:
            self._poll.unregister(number)
