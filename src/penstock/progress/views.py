"""The three ways in which the progress of a run is shown: to a callable, as plain lines, as a live view.

Each takes its snapshots itself, in the worker that shows them. So the thread that steers the run never reads
/proc for them, calls no user code, and writes nothing. A view that is still busy with a snapshot gets no
further one, so a slow terminal or callable sees fewer of them. The first error is logged, and the run
goes on.

Out of scope: when the snapshots are taken (`ticker`), and what they hold.
"""

from __future__ import annotations

import os
from functools import partial

from penstock.progress.plain_line import plain_line
from penstock.runtime import live_area
from penstock.runtime.log import report
from penstock.system.fork_guard import late_import
from penstock.system.terminal_use import TerminalUse, terminal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from penstock.core.snapshot import Snapshot
    from penstock.runtime.dispatcher import Dispatcher
    from penstock.runtime.tee import StderrRelay

    Take: TypeAlias = Callable[[], Snapshot]
    Write: TypeAlias = Callable[[bytes], object]

__all__ = ["CallableView", "LiveView", "PlainView", "View", "live_view"]

_STDERR = 2


class View:
    """Shows the snapshots of one run."""

    interval_s: float
    """Seconds between two snapshots."""
    ahead_s = 0.0
    """Seconds by which `look_ahead` is called before a snapshot; 0 if it is not called."""
    is_live = False
    """Whether it draws over what stands on the terminal."""

    def __init__(self) -> None:
        self.busy = False
        """Whether a snapshot waits to be shown; for a callable, also while it is called."""
        self.ended = False
        """Whether the last snapshot was shown. An interrupt may have it shown twice, and it counts once."""
        self._reported = False

    def show(self, take: Take) -> None:
        """Have a worker show what `take()` returns there."""
        raise NotImplementedError

    def look_ahead(self, take: Take) -> None:
        """Have a worker call `take()`, because the bottleneck is judged by the looks before a snapshot."""

    def note_time(self) -> None:
        """Note that this process runs: it is called at each interval."""

    def close(self) -> None:
        """Give back what it holds. Idempotent."""

    def _report(self, message: str, error: BaseException) -> None:
        if not self._reported:
            self._reported = True
            report(message, error)


class CallableView(View):
    """Calls a user's function. The run's dispatcher does it, so it never overlaps with other handlers."""

    interval_s = 0.1

    def __init__(self, call: Callable[[Snapshot], object], dispatcher: Dispatcher) -> None:
        super().__init__()
        self._call = call
        self._dispatcher = dispatcher

    def show(self, take: Take) -> None:
        """Queue a call."""
        self.busy = True
        self._dispatcher.submit(partial(self._deliver, take))

    def _deliver(self, take: Take) -> None:
        if self.ended:
            return
        try:
            snapshot = take()
            self.ended = snapshot.done
            self._call(snapshot)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises
            self._report("a progress callable raised", error)
        finally:
            self.busy = False


class PlainView(View):
    """Writes a line from time to time."""

    interval_s = 10.0
    ahead_s = 3.0

    def __init__(self, relay: StderrRelay, pids: Callable[[], Sequence[int]], notice: str = "") -> None:
        """`notice` is a text that stands before the first line."""
        super().__init__()
        self._relay = relay
        self._pids = pids
        self._notice = notice
        self._use = TerminalUse(_STDERR) if os.isatty(_STDERR) else None

    def show(self, take: Take) -> None:
        """Queue a line."""
        self.busy = True
        self._relay.show(partial(self._write, take))

    def look_ahead(self, take: Take) -> None:
        """Queue a call of `take`."""
        self._relay.show(lambda _write: self._try(take))

    def _try(self, take: Take) -> None:
        try:
            take()
        except Exception as error:  # noqa: BLE001 - as below
            self._report("the progress could not be shown", error)

    def _write(self, take: Take, write: Write) -> None:
        self.busy = False
        if self.ended:
            return
        try:
            snapshot = take()
            self.ended = snapshot.done
            if self._use is not None and self._use.by_others(self._pids()) and not snapshot.done:
                return
            line = f"{self._notice}{plain_line(snapshot)}\n".encode("utf-8", "backslashreplace")
        except Exception as error:  # noqa: BLE001 - showing is not worth a failure
            self._report("the progress could not be shown", error)
            return
        self._notice = ""
        with live_area.lock:
            area = live_area.current()
            if area is not None:
                write(area.above(line))
            else:
                write(b"\n" + line if self._relay.in_line else line)


class LiveView(View):
    """Draws the lines of the stages again and again, at the bottom of the terminal."""

    interval_s = 0.2
    is_live = True

    def __init__(
        self,
        relay: StderrRelay,
        pids: Callable[[], Iterable[int]],
        frame: Callable[[Snapshot, int, int], Sequence[bytes]],
        area: live_area.LiveArea,
    ) -> None:
        """`frame(snapshot, columns, rows)` makes the lines; `area` was claimed."""
        super().__init__()
        self._relay = relay
        self._pids = pids
        self._frame = frame
        self._area = area
        self._use = TerminalUse(_STDERR)

    def show(self, take: Take) -> None:
        """Queue a frame."""
        self.busy = True
        self._relay.show(partial(self._draw, take))

    def note_time(self) -> None:
        """Let the area find out that this process was stopped, perhaps by Ctrl-Z."""
        self._area.note_time()

    def close(self) -> None:
        """Give the terminal back."""
        live_area.release(self._area)

    def _draw(self, take: Take, write: Write) -> None:
        self.busy = False
        if self.ended:
            return
        try:
            snapshot = take()
            self.ended = snapshot.done
            lines = self._frame(snapshot, *terminal_size(_STDERR))
        except Exception as error:  # noqa: BLE001 - showing is not worth a failure
            self._report("the progress could not be shown", error)
            return
        with live_area.lock:
            if snapshot.done:
                write(self._area.finish(lines))
                live_area.release(self._area)
            elif self._use.by_others(self._pids()):
                write(self._area.suspend())
            else:
                write(self._area.draw(lines))


def live_view(relay: StderrRelay, pids: Callable[[], Sequence[int]]) -> View:
    """Return a live view; plain lines if rich is missing, or if another run has the terminal's live view."""
    try:
        with late_import:
            from penstock.progress.live_lines import LiveLines  # noqa: PLC0415 - rich is an extra
    except ImportError:
        return PlainView(relay, pids, "the live view needs rich: pip install 'penstock[cli]'\n")
    lines = LiveLines()
    area = live_area.LiveArea(lines.open_line)
    if not live_area.claim(area, relay.write):
        return PlainView(relay, pids)
    return LiveView(relay, pids, lines.frame, area)
