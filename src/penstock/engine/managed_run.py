"""One run from outside the engine: start it, wait for it, cancel it, and leave nothing of it behind.

A run is made from a plan first, and started then. A run that was not started holds nothing and needs no
clean-up. So the code that starts one already refers to it when an interrupt comes, and ends it by `end`.

The driver. A run is steered by a reactor: the supervisor's, or one that the calling thread drives itself
while it waits (`inline`), which is possible if no other thread can reach the run.

Out of scope: the shape that users see (`api.run`, `api.async_run`), and the steps of a run (`execution`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from penstock.core.errors import PenstockError, PipelineCancelled, StartError
from penstock.core.options import check_seconds
from penstock.core.placeholders import masked
from penstock.core.printable import printable
from penstock.core.public import half_made_too
from penstock.engine.caller_ends import CallerEnds
from penstock.engine.cancellation import reason_of
from penstock.engine.execution import Execution
from penstock.engine.stops import describe_stops
from penstock.engine.terminal import restore_terminal
from penstock.engine.tree import CancelReason
from penstock.runtime import thread_pool
from penstock.runtime.faults import is_fault
from penstock.runtime.latch import wait_in_slices
from penstock.runtime.supervisor import (
    active_runs,
    block_if_finalizing,
    last_cancellation,
    local_reactor,
    supervisor,
)
from penstock.system.fork_guard import check_threads, late_import
from penstock.system.process_tree import kill_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from penstock.core.result import Result
    from penstock.core.snapshot import Snapshot
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.snapshots import RunLooks
    from penstock.runtime.supervisor import Cancellation
    from penstock.system.process_tree import ProcessTree

__all__ = ["ManagedRun"]


class ManagedRun(CallerEnds):
    """A run of a plan: not started yet, going on, or ended."""

    _looks: RunLooks | None = None
    """Takes the snapshots; made for the first one. If two threads make one each, either will do."""

    def __init__(
        self,
        plan: RunPlan,
        *,
        inline: bool = False,
        by_caller: bool = False,
        since: Cancellation | None = None,
    ) -> None:
        """Make a run; nothing of it is started.

        With `by_caller` the thread that starts it works off its Python stages: it calls `work` then.

        A cancellation of all runs counts for it if it came after `since`; by default, after now.

        Raises StartError if there is no descriptor, or no thread, for the supervisor, and TypeError, naming
        the stage or option, if something is for an event loop and the plan is not bound to one.
        """
        check_threads()
        if plan.loop is None:
            plan.require_sync()
        self._inline = inline
        self._cancellation = since or last_cancellation()
        try:
            reactor = local_reactor() if inline else supervisor()
            super().__init__(Execution(plan, reactor, by_caller=by_caller))
            if plan.options.get("progress") is not None:
                self._show_progress(plan)
            if plan.options.get("profile"):
                self._take_samples()
        except (OSError, RuntimeError, MemoryError) as error:
            raise StartError(plan.stages[0].name, error, index=0) from error
        self.started = False
        """Whether a start was begun; if not, there is nothing to end."""

    @half_made_too
    def __repr__(self) -> str:
        leaves = self.execution.leaves
        names = printable(" | ".join(leaf.stage.name for leaf in leaves))
        return f"<Run {'ended' if self.done() else 'going'}: {names}{describe_stops(leaves)}>"

    def start(self) -> None:
        """Start all stages. An exception ends the run before it is raised here.

        If a stage cannot be started, the run has ended when this returns, as `failed_to_start` says.
        """
        execution = self.execution
        try:
            self.started = True
            execution.start(self)
            self._take_files()
        except BaseException as error:
            failed = execution.is_start_fault(error)
            if failed and execution.failure is None:
                execution.failure = execution.failure_of(error)
            self._reap(error, fault=is_fault(error))
            self._take_files()
            self._close_ends()
            if not failed:
                raise
            return
        if execution.failure is not None:
            self._sleep()
            self._close_ends()

    def work(self) -> None:
        """Work off the Python stages that wait for a thread, and wait for the end.

        Raises what a function has raised to leave the program, such as KeyboardInterrupt, when nothing of the
        run is left.
        """
        try:
            self.execution.barrier.work()
            self.execution.barrier.raise_exit()
        except BaseException as interrupt:
            if not is_fault(interrupt):  # KeyboardInterrupt, or anything else that a signal handler raises
                self._reap(interrupt)
            raise
        self.wait_done()
        self.execution.barrier.raise_exit()

    def _show_progress(self, plan: RunPlan) -> None:
        with late_import:
            from penstock.engine.progress import make_progress  # noqa: PLC0415 - few runs show it

        progress = make_progress(self, plan, plan.option("progress"))
        self.execution.services.resources.progress = progress

    def _take_samples(self) -> None:
        with late_import:  # no stage is started yet, and no worker waits for the modules of its first sample
            from penstock.engine import snapshots  # noqa: F401, PLC0415 - few runs have a profile
            from penstock.profiling.profiler import Profiler  # noqa: PLC0415 - as above

        execution = self.execution
        execution.services.resources.profiler = Profiler(
            lambda: self._run_looks().take_sample(), execution.reactor, lambda: execution.starting
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the commands that were started, in order; an ended one's may be another
        process's by now.
        """
        running = [leaf.running for leaf in self.execution.leaves]
        return tuple(one.pid for one in running if one is not None and one.pid is not None)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self.execution.ended.is_set()

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:
        """Wait for the end, at most `timeout` seconds; see `penstock.Run.wait`."""
        self.wait_done(timeout)
        return self.get_result(check=check)

    def wait_done(self, timeout: float | None = None) -> None:
        """Wait as `wait` does, but raise no error of the run itself."""
        if os.getpid() != self._owner:
            raise RuntimeError("this run belongs to the parent process, of which this one is a fork")
        if timeout is not None and timeout != timeout:  # noqa: PLR0124 - not a number: no clock ever gets there
            raise ValueError("timeout must be a number of seconds, not nan")
        end = None if timeout is None else time.monotonic() + timeout  # a mistake is raised here
        try:
            ended = self._sleep(None if end is None else end - time.monotonic())
            if ended:
                block_if_finalizing()
                if timeout is None:  # else the host may do something else meanwhile, and try again
                    restore_terminal(self.execution, self)
                self.execution.dispatcher.flush()
        except BaseException as interrupt:
            fault = is_fault(interrupt)
            # An inline run has no other driver, so whatever a signal handler raises ends it.
            if self._inline or fault or isinstance(interrupt, KeyboardInterrupt):
                self._reap(interrupt, fault=fault)
            if not fault:
                raise
            ended = True
        if not ended:
            stops = describe_stops(self.execution.leaves)
            raise TimeoutError(f"the run has not ended within {timeout:g} s{stops}")
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()

    def get_result(self, *, check: bool) -> Result:
        """Return the result, once the run has ended; with `check` raise its error if it failed."""
        if check:
            self._raise_error()
        return self.execution.result

    def captured(self) -> bytes:
        """Return the captured stdout, once the run has ended. Raises as `wait` does."""
        self._raise_error()
        sink = self.execution.sink
        return (sink and sink.captured) or b""

    def _raise_error(self) -> None:
        error = self.execution.error
        if error is not None:
            if error.result is None:
                with contextlib.suppress(OSError):  # there is still no descriptor to load the module with
                    error.result = self.execution.result
            # Every caller that waits gets the same object, and its traceback would grow with each.
            raise error.with_traceback(None)

    def cancel(self, reason: BaseException | str | None = None) -> None:
        """Cancel the run; see `penstock.Run.cancel`."""
        self.cancel_for(reason_of(reason))

    def cancel_for(self, error: BaseException) -> None:
        """Cancel the run because of `error`, of whatever kind. Return at once."""
        self.execution.post_cancel(CancelReason(error, PipelineCancelled, self.execution.root))

    def stop_source(self, grace: float | timedelta | None = None) -> None:
        """End the first stage; see `penstock.Run.stop_source`."""
        self.execution.post_stop(None if grace is None else check_seconds("grace", grace))

    def snapshot(self) -> Snapshot:
        """Return what the run does now; see `penstock.Run.snapshot`."""
        if os.getpid() != self._owner:
            raise RuntimeError("this run belongs to the parent process, of which this one is a fork")
        return self._run_looks().take()

    def _run_looks(self) -> RunLooks:
        if self._looks is None:
            with late_import:
                from penstock.engine.snapshots import RunLooks  # noqa: PLC0415 - few runs are asked

            self._looks = RunLooks(self.execution)
        return self._looks

    def send_signal(self, signum: int, stage: str | int | None = None) -> None:
        """Send a signal to commands; see `penstock.Run.send_signal`."""
        if isinstance(signum, bool) or not isinstance(signum, int) or signum not in signal.valid_signals():
            raise ValueError(f"there is no signal {signum!r}")
        leaves = self.execution.leaves
        stage = masked(stage) if isinstance(stage, str) else stage
        chosen = [leaf for leaf in leaves if stage is None or stage in (leaf.stage.name, leaf.index)]
        if not chosen:
            names = ", ".join(repr(leaf.stage.name) for leaf in leaves)
            raise ValueError(f"there is no stage {stage!r}; there are: {names}")
        for leaf in chosen:
            running = leaf.running
            if running is not None and (stage is not None or running.takes_signals):
                running.send_signal(signum)

    def enqueue_cancel(self, error: BaseException) -> Callable[[], None]:
        """Prepare `cancel_for`, and return what carries it out."""
        self.execution.enqueue_cancel(CancelReason(error, PipelineCancelled, self.execution.root))
        return self.execution.reactor.interrupt

    def cancelled_before(self) -> BaseException | None:
        """Return why all runs were cancelled since this one was made, if they were."""
        last = last_cancellation()
        return None if last is self._cancellation else last.make_reason()

    def end(self, error: BaseException, *, fault: bool = False) -> None:
        """Cancel a run that still goes on, and wait until nothing is left, whatever interrupts that.

        `fault` says that a step of the engine has raised `error`, which is to be the run's own then. Do
        nothing in a forked copy, which has no part of the run.
        """
        try:
            if self.started and not self.done() and os.getpid() == self._owner:
                self._reap(error, fault=fault)
        except KeyboardInterrupt:  # a further one; the first is what is raised
            self.end(error, fault=fault)

    def absorb(self, error: BaseException, *, wait: bool = True) -> bool:
        """End the run with `error`, if a step of the engine has raised it, and wait for that.

        Return whether the outcome of the run reports it; if not, it is to be raised.
        """
        expected = isinstance(error, PenstockError | TimeoutError | TypeError | ValueError | StopIteration)
        if expected or not self.started or not is_fault(error) or os.getpid() != self._owner:
            return False
        if not wait:
            self.execution.fault(error)
            return True
        self.end(error, fault=True)
        return self.execution.error is not None

    @property
    def failed_to_start(self) -> bool:
        """Whether a stage could not be started; then the run has ended already."""
        return self.execution.failure is not None

    @property
    def finished_early(self) -> bool:
        """Whether it succeeded with its input left unread on purpose."""
        return self.execution.finished_early

    def ends_within_grace(self) -> bool:
        """Wait for the end, at most the grace time."""
        return self._sleep(self.grace)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when the run has ended and its handlers have got all events.

        The thread may be any one, so `callback` only hands over.
        """

        def ended() -> None:
            dispatcher = self.execution.dispatcher
            if not dispatcher.busy:
                callback()
                return
            try:
                thread_pool.submit(flushed)  # a worker may wait; the thread that drives runs may not
            except RuntimeError:  # no thread is available: nobody delivers either
                callback()

        def flushed() -> None:
            self.execution.dispatcher.flush()
            callback()

        self.execution.ended.on_set(ended)

    # For exit and fork handlers.

    def to_be_killed(self) -> Iterator[tuple[ProcessTree, Callable[[], None]]]:
        """Yield the trees of all children, and what kills each, because the interpreter is ending."""
        return self.execution.to_be_killed()

    def forget_in_child(self) -> None:
        """Close the files, in a forked copy: the descriptors are closed there, and no threads exist."""
        if self.stdin is not None:
            self.stdin.forget()
        if self.stdout is not None:
            self.stdout.close()

    def _sleep(self, timeout: float | None = None) -> bool:
        """Sleep until the end, driving the run's own reactor if it has one; False if the time is over."""
        execution = self.execution
        if not self._inline:
            return wait_in_slices(execution.ended, timeout)
        while not execution.ended.is_set():
            execution.reactor.run_once()
        execution.reactor.close()
        return True

    def _reap(self, interrupt: BaseException, *, fault: bool = False) -> None:
        """Cancel for `interrupt`, which may be a fault of the engine's steps; wait until nothing is left.

        Each further Ctrl-C skips the rest of the grace time. An interrupt can arrive between any two steps,
        so the sequence is retried; the outer `except` catches one raised while the inner handler runs.
        """
        execution = self.execution
        forced = False
        while True:
            try:
                try:
                    execution.starting = False
                    if fault:
                        execution.fault(interrupt)
                    else:
                        self.cancel_for(interrupt)
                    for leaf in execution.leaves:
                        if leaf.running is not None:
                            leaf.running.leave_thread(threading.get_ident(), interrupt)
                    if forced:
                        kill_trees(execution.to_be_killed())
                    execution.reactor.post(execution.recover)
                    self._sleep()
                except BaseException:  # noqa: BLE001 - whatever a signal handler raises meanwhile
                    forced = True
                else:
                    active_runs.discard(self)  # an interrupt may have kept its end from doing that
                    restore_terminal(self.execution, self)
                    return
            except BaseException:  # noqa: BLE001 - as above
                forced = True
