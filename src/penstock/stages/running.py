"""A stage while it runs: its end, the callbacks at that, and its cancellation.

`Running` is the base of the engine's own running stages. It ends exactly once, by `complete`, in any thread;
the callbacks run in that thread. It also fulfils the public `RunningStage`, so that a custom stage may wrap
one.
"""

from __future__ import annotations

import threading
import time

from penstock.core.errors import FinishEarly, checked_error
from penstock.runtime import thread_pool
from penstock.runtime.faults import call_again
from penstock.runtime.guarded_call import Abandonable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from penstock.core.stage import RunningStage
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.process import ExitStatus, Usage
else:
    Protocol = object

__all__ = ["CustomStageAdapter", "Running", "ThreadedStage"]

_RETRY_DELAY_S = 0.05
"""Seconds until a call for which no thread could be started is tried again."""


class Running:
    """One started stage of the engine's own."""

    # Most stages never change these, and setting an instance attribute takes time.
    error: BaseException | None = None
    done = False
    ended = 0.0
    pid: int | None = None
    status: ExitStatus | None = None
    usage: Usage | None = None
    """The resources it used, if those are known of a stage without an exit status."""
    peak_memory: int | None = None
    """The most anonymous memory, in bytes, that its processes were seen to have; None if not watched."""
    stderr = b""
    leads_group = False
    """Whether it is a process that leads a process group."""
    wait_thread_error: RuntimeError | None = None
    """Why the stage, which has been started, cannot be waited for yet: no thread can be started."""
    hand_over: Callable[[Running], object] | None = None
    """Called with the stage that takes its place, if it only stands for one that is started later."""
    takes_signals = False
    """Whether it is a command, whose process the caller may send signals to."""
    is_on_stack = False
    """Whether it is a part of a chain, and the thread of that is in this part or in an earlier one."""
    told: set[object] | None = None
    """Notes which events about it were given to whom, so that none comes twice; None without listeners."""
    stopped: FinishEarly | None = None
    """Set once the caller has asked it to end, which is not a failure: raised in it, or its outcome."""
    _reason: BaseException | None = None

    def __init__(self, ctx: StageContext) -> None:
        self.ctx = ctx
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def complete(self, error: BaseException | None) -> bool:
        """Record the outcome and run the callbacks. Return False if the stage had ended before.

        If it raises in the middle, the next call goes on with the callbacks that are left.
        """
        with self._lock:
            first = not self.done
            if first:
                self.done = True
                self.error = error
                if (
                    self.stopped is not None
                ):  # the run may be a success, and frames would refer to it in a circle
                    self.stopped.__traceback__ = None
                self.ended = time.monotonic()
            callbacks, self._callbacks = self._callbacks, []
        for index, callback in enumerate(callbacks):
            try:
                call_again(callback)
            except BaseException:
                with self._lock:
                    self._callbacks = callbacks[index:] + self._callbacks
                raise
        return first

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when the stage ends, in that thread; at once if it has ended."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self) -> None:
        """Wait until the stage ends; raise its error, if any."""
        ended = threading.Event()
        self.on_done(ended.set)
        ended.wait()
        if self.error is not None:
            raise self.error

    def prepare_cancel(self, reason: BaseException) -> None:
        """Prepare for `kill`. Every stage that is to end is prepared before the first is killed.

        In the reactor's thread.
        """

    def kill(self, reason: BaseException) -> None:
        """Cancel the stage with `reason`. From any thread; the first reason stands."""
        raise NotImplementedError

    def stop(self, grace: float) -> None:
        """Ask the stage to end, by force after `grace` seconds; that is not a failure.

        Do nothing if it has ended or is to end. A further call may shorten the time. In the reactor's thread.
        """
        raise NotImplementedError

    def _mark_stopped(self) -> bool:
        """Note that it was asked to end; False if there is nothing to ask."""
        if self.done or self._reason is not None:
            return False
        if self.stopped is None:
            self.stopped = FinishEarly("stopped on purpose")
            self.ctx.cancel(self.stopped)
        return True

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process of a command. ValueError, naming the stage, if it is not one."""
        raise ValueError(f"stage {self.ctx.name!r} is not a command, so it gets no signal")

    def ask_streams(self) -> None:
        """Ask a worker process what its streams do. The answer reaches the ends later. From any thread."""

    def check_exit(self) -> None:
        """Check whether the stage has ended, because an interrupt may have lost the event."""

    def stop_signal(self) -> int | None:
        """Return the signal that has stopped its process; None if none has, or if it is being ended."""
        return None

    def outcome(self, error: BaseException | None) -> BaseException | None:
        """Return the stage's outcome: if it was cancelled while it ran, the reason, however it ended."""
        return error if self._reason is None else self._reason

    def apply_on_exception(self, error: BaseException) -> BaseException | None:
        """Return what `on_exception` makes of an error of the function, but not of its own cancellation."""
        if error is self._reason:
            return error
        self.ctx.barrier.note_error(error)
        handler = self.ctx.scope.on_exception
        if handler is None:
            return error
        try:
            return checked_error("on_exception", handler(self.ctx.name, error))
        except BaseException as raised:  # noqa: BLE001 - a handler may well raise: then that is the outcome
            return raised

    def begin_watch(self) -> None:
        """Start watching, again if an interrupt cut that short."""

    def leave_thread(self, thread: int, error: BaseException) -> None:
        """End with `error` if that thread works for the stage: an interrupt has taken it away. Idempotent."""

    def kill_if_cancelled(self) -> None:
        """End the grace time now, if the stage was cancelled. From any thread."""


class Stoppable(Protocol):
    """A stream, or the end of an edge, that a worker may be blocked in."""

    def poison(self, reason: BaseException) -> None: ...
    def interrupt(self, reason: BaseException) -> None: ...
    def close(self) -> None: ...


class ThreadedStage(Running, Abandonable):
    """A stage that a worker thread runs; if the stage ignores its cancellation, it is abandoned.

    `streams` are those that the worker may be blocked in, the one it writes first. `_cancelled` and the
    deadline belong to the reactor's thread.
    """

    _cancelled = False
    worker: int | None = None
    """The ident of the thread that works for it, once that has begun."""
    _grace = 0.0
    """Seconds that it has to end after it was stopped."""

    def __init__(self, ctx: StageContext, *streams: Stoppable) -> None:
        super().__init__(ctx)
        self.streams = streams

    def prepare_cancel(self, reason: BaseException) -> None:
        """From now on whatever goes wrong is the cancellation's doing."""
        if self.done:
            return
        if self._reason is None:
            self._reason = reason
        for stream in self.streams:
            stream.poison(self._reason)

    def kill(self, reason: BaseException) -> None:
        """Wake the stage from whatever it is blocked in; after the grace time it is abandoned."""
        self.ctx.reactor.post(lambda: self._kill(reason))

    def _kill(self, reason: BaseException) -> None:
        if self.done:
            return
        self.prepare_cancel(reason)
        deadline = time.monotonic() + self.ctx.grace
        # Again if it was set before: the call may be lost, because it raised.
        if self._timer is not None:
            deadline = min(deadline, self._timer.when)
        self.abandon_at(deadline, self._reason, self.ctx.reactor)
        if self._cancelled:
            return
        self.on_done(self.forget_deadline)
        self.interrupt(self._reason or reason)
        self._cancelled = True  # last, since an interrupt may come before

    def stop(self, grace: float) -> None:
        """Wake the stage from whatever it is blocked in; `grace` seconds later it is abandoned."""
        if not self._mark_stopped():
            return
        assert self.stopped is not None
        for stream in self.streams:
            stream.poison(self.stopped)
        self._abandon_stopped(grace)
        self.interrupt(self.stopped)

    def _abandon_stopped(self, grace: float) -> None:
        self._grace = grace
        self.on_done(self.forget_deadline)
        self.abandon_at(time.monotonic() + grace, self.stopped, self.ctx.reactor)

    def abandon(self, outcome: BaseException) -> None:
        """End without the worker: the grace time is over."""
        if self.done:
            return
        if self._reason is not None:  # perhaps it was stopped first, and cancelled meanwhile
            outcome, how, grace = self._reason, "cancelled", self.ctx.grace
        else:
            how, grace = "stopped", self._grace
            self._reason = (
                outcome  # first: the worker may wake with an error as soon as its streams are closed
            )
        self.ctx.emit_event("abandoned", f"did not end within {grace:g} s of being {how}", outcome)
        self.release()
        self.complete(outcome)

    def leave_thread(self, thread: int, error: BaseException) -> None:
        """End with `error` if that thread works for the stage: an interrupt has taken it away. Idempotent."""
        if self.worker == thread and not self.done:
            self.release()
            self.complete(self.outcome(error))

    def wait_in_thread(self, wait: Callable[[], None]) -> None:
        """Have a worker wait for a stage that runs already.

        If the system allows no further thread, `wait_thread_error` says so and fails the start. The stage has
        been started, so a thread must wait for it all the same, or nobody reaps its processes. So this is
        tried again until the stage ends.
        """
        try:
            thread_pool.submit(wait, self.ctx.reactor.fault)
        except RuntimeError as error:
            self.wait_thread_error = error
            if not self.done:
                self.ctx.reactor.call_at(time.monotonic() + _RETRY_DELAY_S, lambda: self.wait_in_thread(wait))

    def interrupt(self, reason: BaseException) -> None:
        """Wake the worker."""
        for stream in self.streams:
            stream.interrupt(reason)

    def release(self) -> None:
        """Close the streams: the worker has ended, or is given up."""
        for stream in self.streams:
            stream.close()


class CustomStageAdapter(ThreadedStage):
    """A running stage that is not the engine's own: its `wait` and `kill` are called in worker threads."""

    def __init__(self, ctx: StageContext, inner: RunningStage, stdin: Input, stdout: Output) -> None:
        super().__init__(ctx, stdout, stdin)
        self._inner = inner
        # Not deferred as functions are: the stage runs already, and must be waited for even if the start of
        # the run fails.
        self.wait_in_thread(self._wait)

    def _wait(self) -> None:
        error: BaseException | None = None
        try:
            self._inner.wait()
        except BaseException as raised:  # noqa: BLE001 - whatever a stage raises is its outcome
            error = raised
        self.complete(self.outcome(error))

    def outcome(self, error: BaseException | None) -> BaseException | None:
        """Return the stage's outcome; if it was stopped, whatever `wait` raises is the end by `kill`."""
        return super().outcome(error if self.stopped is None else self.stopped)

    def interrupt(self, reason: BaseException) -> None:
        """Wake it in its streams, and ask it to end: in a worker, since its kill() is foreign code."""
        super().interrupt(reason)
        self._kill_inner(reason)

    def _kill_inner(self, reason: BaseException) -> None:
        try:
            thread_pool.submit(lambda: self._inner.kill(reason))
        except RuntimeError:  # no thread is available for now
            self.ctx.reactor.call_at(time.monotonic() + _RETRY_DELAY_S, lambda: self._kill_inner(reason))
