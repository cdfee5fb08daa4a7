"""The memory watches of one run: one for each `memory_limit` and `memory_observer` in its pipeline.

A watch belongs to the group that it was put around. It begins when the first command of that group has been
started, and ends with the group, at the latest with the run. Then it reports its findings once, to the
handler that was given with it and to the pipeline's own.
"""

from __future__ import annotations

import threading
from functools import partial

from penstock.core.errors import MemoryLimitExceeded, PipelineError
from penstock.core.sizes import show_size
from penstock.engine.tree import CancelReason
from penstock.limits.memory_sampler import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from penstock.engine.tree import GroupRun, Node, StageRun
    from penstock.limits.memory_watch import MemoryWatch
    from penstock.runtime.events import EventEmitter
    from penstock.runtime.reactor import Reactor
    from penstock.stages.running import Running

__all__ = ["Watches"]


class _Entry:
    """A watch, the group and stages that it is for, and whether its end was reported."""

    __slots__ = ("end_reported", "events", "group", "leaves", "name", "spec", "watch")

    def __init__(self, group: GroupRun, spec: MemoryWatch, watch: Watch, leaves: list[StageRun]) -> None:
        self.group = group
        self.spec = spec
        self.watch = watch
        self.leaves = leaves
        self.name = spec.name
        self.events: EventEmitter | None = None
        self.end_reported = False


class Watches:
    """All watches of a run. Any method may be called from any thread."""

    def __init__(
        self,
        groups: Sequence[GroupRun],
        leaves: Sequence[StageRun],
        reactor: Reactor,
        events: EventEmitter,
    ) -> None:
        self._reactor = reactor
        self._events = events
        self._cancel: Callable[[GroupRun, CancelReason], None] | None = None
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        for group in groups:
            spec: MemoryWatch | None = group.options.get("watch")
            if spec is not None:
                below = [leaf for leaf in leaves if leaf.within(group)]
                self._entries.append(self._entry(group, spec, below))

    def _entry(self, group: GroupRun, spec: MemoryWatch, leaves: list[StageRun]) -> _Entry:
        entry: _Entry

        def exceeded(used: int) -> None:
            self._reactor.post(partial(self._exceeded, entry, used))

        def grown() -> None:
            for leaf in leaves:
                if leaf.running is not None:
                    leaf.running.kill_if_cancelled()

        entry = _Entry(group, spec, Watch(spec.limit, spec.longest, exceeded, grown), leaves)
        return entry

    def started(
        self, leaf: StageRun, running: Running, cancel: Callable[[GroupRun, CancelReason], None]
    ) -> None:
        """Watch a stage that has just been started, if it is to be watched.

        `cancel` is called in the reactor's thread, if its group has grown past the limit.
        """
        for entry in self._entries:
            if leaf in entry.leaves and running.pid is not None:
                self._cancel = cancel
                # Here, in the thread and the context of the caller that starts the run.
                entry.events = self._events.for_handler(entry.group.option("on_event"))
                entry.watch.add(running)

    def ended(self, node: Node) -> None:
        """End the watch around a group, if the group has ended."""
        for entry in self._entries:
            if entry.group is node and node.end is not None:
                self._end(entry)

    def close(self) -> None:
        """End all."""
        for entry in self._entries:
            self._end(entry)
        self._cancel = None  # which holds on to the run

    def _end(self, entry: _Entry) -> None:
        # Under the lock, so that a thread which concludes the run waits for another one's event.
        with self._lock:
            if entry.end_reported:
                return
            watch = entry.watch
            watch.merge_peaks()
            watch.end()
            if entry.spec.limit is None and watch.samples + watch.errors:
                peak = watch.peak
                text = "no memory was measured" if peak is None else f"peak memory {show_size(peak)}"
                self._emit(entry, "memory-peak", text, None, peak)
            entry.end_reported = True

    def _exceeded(self, entry: _Entry, used: int) -> None:
        """In the reactor's thread."""
        limit, cancel = entry.watch.limit, self._cancel  # which the end of the run, in a worker, takes away
        if limit is None or cancel is None or entry.group.end is not None or entry.end_reported:
            return
        error = MemoryLimitExceeded(limit, used)
        cancel(entry.group, CancelReason(error, PipelineError, entry.group))
        # Sent after the commands were asked to end, because a handler may close their input, and none of them
        # may end by that first, as a success. And before the event about any of their exits.
        self._reactor.post(partial(self._emit, entry, "memory-limit", str(error), error, used))

    def _emit(
        self, entry: _Entry, kind: str, message: str, error: BaseException | None, used: int | None
    ) -> None:
        watch, own = entry.watch, entry.spec.on_event
        events = entry.events or self._events
        handlers = events.handlers if own is None else (own, *events.handlers)
        if not handlers:
            return
        context: dict[str, Any] = {"limit": watch.limit, "used": used, "peak": watch.peak}
        context |= {"samples": watch.samples, "errors": watch.errors}
        context["pids"] = [leaf.running.pid for leaf in entry.leaves if leaf.running is not None]
        handlers = tuple(dict.fromkeys(handlers))
        events.emit(kind, entry.name, message, error, context, handlers=handlers)
