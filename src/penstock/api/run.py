"""The handle of one execution of a pipeline.

Who drives. A run is steered by a reactor: the supervisor's, or one that the calling thread drives itself
while it waits (`inline`), which is possible where nobody else ever gets hold of the run. The engine is
`Execution`; here is what its users may do with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from penstock.core.errors import Cancelled, FinishEarly, PipelineCancelled, StartError
from penstock.engine.execution import Execution
from penstock.engine.loop_binding import bind
from penstock.engine.run_plan import plan_run
from penstock.engine.tree import CancelReason
from penstock.runtime import thread_pool
from penstock.runtime.latch import wait_in_slices
from penstock.runtime.supervisor import active_runs, block_if_finalizing, local_reactor, supervisor
from penstock.system import procfs
from penstock.system.fork_guard import fork_guard_held

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from penstock.core.result import Result
    from penstock.engine.graph import PipelineSpec
    from penstock.runtime.reactor import Reactor
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.event_loops import Loop
    from penstock.system.process import ProcessTable

__all__ = ["CANCEL_MARGIN_S", "Run"]

CANCEL_MARGIN_S = 1.0
"""Seconds within which a run that was cancelled has ended, after its grace time."""


class Run:
    """A pipeline that goes on, or has ended; what `start()` returns.

    As a context manager it closes `stdin` and `stdout` and waits when the block is left, and cancels first
    where that is by an exception.
    """

    stdin: io.BufferedWriter | None
    """The pipe to the first stage, where `stdin=PIPE` was asked for.

    What is written is on its way at once; close it to give EOF.
    """
    stdout: io.BufferedReader | None
    """The pipe from the last stage, where `stdout=PIPE` was asked for. Reads bytes; the caller closes it."""

    def __init__(  # noqa: PLR0913 - who drives it, and what becomes of its ends
        self,
        pipeline: PipelineSpec,
        options: Mapping[str, Any],
        *,
        inline: bool = False,
        iterate: bool = False,
        ends: tuple[Input, Output] | None = None,
        loop: Loop | None = None,
        held: list[Run] | None = None,
    ) -> None:
        """`held` gets the run before anything of it is started, for who may be interrupted before this has
        returned.
        """
        self._owner = os.getpid()
        self._inline = inline
        self.stdin = None
        self.stdout = None
        # Before anything is opened here, so that a number that is no open descriptor is found to be none.
        plan = bind(plan_run(pipeline, options, iterate=iterate, ends=ends), loop)
        try:
            reactor = self._reactor()
        except (OSError, RuntimeError) as error:  # there is no descriptor, or no thread, for the supervisor
            raise StartError(plan.stages[0].name, error, index=0) from error
        self._execution = execution = Execution(plan, reactor)
        try:
            if held is not None:
                held.append(self)
            execution.start(self)
        except BaseException as error:
            self._reap(error)
            self._take_files()
            self._close_ends()
            raise
        self._take_files()
        if execution.failure is not None:
            self._sleep()
            self._close_ends()

    def _reactor(self) -> Reactor:
        return local_reactor() if self._inline else supervisor()

    def __repr__(self) -> str:
        names = " | ".join(leaf.stage.name for leaf in self._execution.leaves)
        return f"<Run {'ended' if self.done() else 'going'}: {names}>"

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the commands that were started, in order; an ended one's may be another
        process's by now.
        """
        running = [leaf.running for leaf in self._execution.leaves]
        return tuple(one.pid for one in running if one is not None and one.pid is not None)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._execution.ended.is_set()

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:
        """Wait for the end, at most `timeout` seconds.

        Raises TimeoutError where that is over first (the run goes on), and with `check` the run's
        PipelineError if it failed. It may be called again, and from any thread. KeyboardInterrupt cancels the
        run, waits for its children, and is raised again.
        """
        self.wait_done(timeout)
        return self.get_result(check=check)

    def get_result(self, *, check: bool) -> Result:
        """What `wait` returns or raises, once it has ended."""
        if check:
            self._raise_error()
        return self._execution.result

    def captured(self) -> bytes:
        """What was captured of stdout, once it has ended. Raises as `wait` does."""
        self._raise_error()
        sink = self._execution.sink
        return (sink and sink.captured) or b""

    def _raise_error(self) -> None:
        error = self._execution.error
        if error is not None:
            if error.result is None:
                with contextlib.suppress(OSError):  # there is still no descriptor to load what makes it
                    error.result = self._execution.result
            # Every caller that waits is given the same object, whose traceback would grow with each.
            raise error.with_traceback(None)

    def cancel(self, reason: BaseException | str | None = None) -> None:
        """End the run with PipelineCancelled.

        SIGTERM to its commands, SIGKILL after the grace time; blocked functions wake.

        Returns at once. Idempotent; from any thread or signal handler. `reason` is an exception, or a text
        for one.
        """
        if reason is None or isinstance(reason, str):
            reason = Cancelled(reason or "cancelled")
        elif not isinstance(reason, BaseException):
            raise TypeError(f"reason must be an exception, a str or None, not {reason!r}")
        elif isinstance(reason, FinishEarly):
            raise TypeError("reason must not be FinishEarly, which is not a failure")
        self._cancel(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._cancel(error)
            self._close_files()
            self.wait_done()
        except BaseException as interrupt:
            if os.getpid() == self._owner:
                _end([self], interrupt)
            raise
        self.get_result(check=error is None)

    # What the pipeline's own methods use.

    def wait_done(self, timeout: float | None = None) -> None:
        """Wait as `wait` does, without a look at the verdict."""
        if os.getpid() != self._owner:
            raise RuntimeError("this run belongs to the parent process, of which this one is a fork")
        if timeout is not None and timeout != timeout:  # noqa: PLR0124 - not a number: no clock ever gets there
            raise ValueError("timeout must be a number of seconds, not nan")
        try:
            if not self._sleep(timeout):
                raise TimeoutError(f"the run has not ended within {timeout:g} s")  # noqa: TRY301 - one way out
            block_if_finalizing()
            self._execution.dispatcher.flush()
        except BaseException as interrupt:
            # An inline run has no other driver, so whatever a signal handler raises ends it.
            if self._inline or isinstance(interrupt, KeyboardInterrupt):
                self._reap(interrupt)
            raise
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()

    @classmethod
    def begin(cls, pipeline: PipelineSpec, options: Mapping[str, Any]) -> Run:
        """Start a run that the caller gets hold of; what interrupts the start ends it."""
        held: list[Run] = []
        try:
            run = cls(pipeline, options, held=held)
            if run.failed_to_start:
                run.wait()
        except BaseException as error:
            _end(held, error)
            raise
        return run

    @classmethod
    def run_inline(cls, pipeline: PipelineSpec, options: Mapping[str, Any]) -> Run:
        """Start a run that nobody gets hold of before it has ended, driving it in this thread.

        What interrupts it, between the two steps too, ends the run.
        """
        held: list[Run] = []
        try:
            cls(pipeline, options, inline=True, held=held)
            held[0].wait_done()
        except BaseException as error:
            _end(held, error)
            raise
        return held[0]

    @property
    def failed_to_start(self) -> bool:
        """Whether a stage could not be started; then the run has ended already."""
        return self._execution.failure is not None

    @property
    def finished_early(self) -> bool:
        """Whether it succeeded with its input left unread on purpose."""
        return self._execution.finished_early

    def explains(self, error: BaseException) -> bool:
        """Whether its outcome says what ended the reading of its output: the reason of its cancellation,
        or that the kernel failed, which is from here on an error of `stdout`.
        """
        if self._execution.was_cancelled_by(error) or not isinstance(error, OSError):
            return self._execution.was_cancelled_by(error)
        self._execution.fail_reading(error)
        self.abandon_reader()
        return True

    @property
    def reader(self) -> Reader:
        """The stream of a run that was started to be iterated over."""
        sink = self._execution.sink
        assert sink is not None
        assert sink.reader is not None
        return sink.reader

    def close_reader(self) -> None:
        """The iterator over stdout was closed: close the pipe, end what is left, and wait; none of it
        is a failure.
        """
        execution = self._execution
        if not self.abandon_reader():
            return
        # It may be the garbage collector that closes the iterator, in any thread: in the one that steers, or
        # with a lock held.
        if not (execution.reactor.in_driver_thread or fork_guard_held()):
            wait_in_slices(execution.ended, self.cancel_timeout)

    @property
    def cancel_timeout(self) -> float:
        """Seconds within which it has ended after a cancellation."""
        return float(self._execution.root.option("grace")) + CANCEL_MARGIN_S

    def abandon_reader(self) -> bool:
        """As `close_reader`, without waiting for the end; False where nothing is left to be ended."""
        execution = self._execution
        if os.getpid() != self._owner:  # a forked copy's, where nothing of the run is left
            return False
        if sys.is_finalizing():
            # Left open until the interpreter ends: its children are dead by now, and a lock may be held by a
            # thread that will never go on.
            return False
        execution.left_early = True
        self.reader.close()
        reason = Cancelled("the reader of its output has gone")
        execution.post_cancel(CancelReason(reason, PipelineCancelled, execution.root, collateral=True))
        return True

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when it has ended and its handlers have been given what they had to get.

        In whatever thread that is: it hands over, and does no more.
        """

        def ended() -> None:
            dispatcher = self._execution.dispatcher
            if not dispatcher.busy:
                callback()
                return
            try:
                thread_pool.submit(flushed)  # which may wait, unlike who steers runs
            except RuntimeError:  # no thread to be had: nobody delivers either
                callback()

        def flushed() -> None:
            self._execution.dispatcher.flush()
            callback()

        self._execution.ended.on_set(ended)

    @property
    def streams(self) -> tuple[Any, Any]:
        """What an event loop has in the place of `stdin` and `stdout`."""
        source, sink = self._execution.source, self._execution.sink
        return (source and source.stream), (sink and sink.stream)

    # What the end of the process, and forks, concern.

    def kill_at_exit(self, processes: ProcessTable) -> None:
        """Kill every child at once: the interpreter is ending. The kernel hands the dead to init."""
        self._execution.kill_now(processes)

    def forget_in_child(self) -> None:
        """In a forked copy: its descriptors are closed there, and its threads are not there."""
        self._close_files()

    def _take_files(self) -> None:
        source, sink = self._execution.source, self._execution.sink
        if source is not None and sink is not None:
            self.stdin, self.stdout = source.file, sink.file

    def close_streams(self) -> None:
        """Close what an event loop has in the place of the files, and what it reads."""
        sink = self._execution.sink
        reader = None if sink is None else sink.reader
        for stream in (*self.streams, reader):
            if stream is not None:
                stream.close()

    def _close_files(self) -> None:
        for file in (self.stdin, self.stdout):
            if file is not None:
                file.close()

    def _close_ends(self) -> None:
        """Nobody was, or will be, given the other ends of a run that did not start."""
        self._close_files()
        self.close_streams()

    def _cancel(self, reason: BaseException) -> None:
        self._execution.post_cancel(CancelReason(reason, PipelineCancelled, self._execution.root))

    def _sleep(self, timeout: float | None = None) -> bool:
        """Sleep until the end, driving the run's own reactor where it has one; False where time is over."""
        execution = self._execution
        if not self._inline:
            return wait_in_slices(execution.ended, timeout)
        while not execution.ended.is_set():
            execution.reactor.run_once()
        execution.reactor.close()
        return True

    def _reap(self, interrupt: BaseException | None = None) -> None:
        """Cancel for `interrupt`, if that is given, and wait until nothing is left.

        Each further Ctrl-C takes what is left of the grace time away. It may come at any moment, between two
        steps of this too, so all of them are taken again, and there is a second net under the first.
        """
        execution = self._execution
        forced = False
        while True:
            try:
                try:
                    if interrupt is not None:
                        self._cancel(interrupt)
                    if forced:
                        execution.kill_now(procfs.table())
                    execution.reactor.post(execution.recover)
                    self._sleep()
                except BaseException:  # noqa: BLE001 - whatever a signal handler raises meanwhile
                    forced = True
                else:
                    active_runs.discard(self)  # an interrupt may have kept its end from seeing to that
                    return
            except BaseException:  # noqa: BLE001 - as above
                forced = True


def _end(held: list[Run], error: BaseException) -> None:
    """Cancel a run that still goes on, and wait until nothing is left, whatever interrupts that."""
    try:
        for run in held:
            if not run.done():
                run._reap(error)  # noqa: SLF001 - a method that is nobody else's
    except KeyboardInterrupt:  # a further one; the first is what is raised
        _end(held, error)
