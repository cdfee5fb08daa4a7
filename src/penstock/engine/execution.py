"""The engine of a run: from the first open descriptor to the verdict.

The end. A run has ended when its tree of stages has, its stdout is drained if Penstock drains it, and its
stdin port is released. Each of these facts can be read at any time; `advance` looks at them and does what is
due, as often as it is called. So a KeyboardInterrupt may come in the middle of it, in a thread that drives
its own run: afterwards `recover` looks again, and nothing was missed. The run ends with anything else that a
step raises (`fault`).

Locks. `RunState` guards the ends in the tree and the reasons; `_conclusion` lets one thread at a time
conclude. `post_cancel` takes no lock at all: it appends and wakes the reactor, so it may be called from a
signal handler that interrupted any of this.
"""

from __future__ import annotations

import time
from functools import partial

from penstock.core.errors import PipelineCancelled
from penstock.core.noop import noop
from penstock.core.timing import timing
from penstock.engine import cancellation, startup
from penstock.engine.closing import ClosingTask
from penstock.engine.end_tasks import finish_tasks
from penstock.engine.events import emit_abandoned, emit_exit, emit_run_start, report_start
from penstock.engine.faults import ends_with_fault
from penstock.engine.judged_run import JudgedRun
from penstock.engine.outputs import OutputTask
from penstock.engine.run_state import RunState, leaf_outcome
from penstock.engine.source_stops import stop_sources
from penstock.engine.stage_starts import start_stages
from penstock.engine.start_failure import StartFailure
from penstock.engine.stops import StopWatch
from penstock.engine.tree import CancelReason, FilterRun, GroupRun, Node, NodeOutcome, StageRun
from penstock.engine.watches import make_idle_watch, make_memory_watches
from penstock.runtime.dispatcher import Dispatcher
from penstock.runtime.events import EventEmitter, listeners, process_observers
from penstock.runtime.latch import Latch
from penstock.runtime.start_barrier import StartBarrier
from penstock.runtime.start_slots import StartSlot
from penstock.runtime.supervisor import active_runs, begin_start, end_start
from penstock.stages.run_services import RunResources, RunServices
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.engine.idle_watch import IdleWatch
    from penstock.engine.ports import StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.runtime.guarded_call import GuardedCall
    from penstock.runtime.reactor import Reactor
    from penstock.runtime.supervisor import ActiveRun
    from penstock.stages.running import Running
    from penstock.system.process_tree import ProcessTree

__all__ = ["Execution"]


class Execution(JudgedRun):
    """One run of a pipeline; `penstock.Run` is the handle that users get."""

    def __init__(self, plan: RunPlan, reactor: Reactor, *, by_caller: bool = False) -> None:
        """`by_caller`: the thread that starts it works off its Python stages, by `barrier.work()`."""
        super().__init__(plan)
        self.began = time.monotonic()
        self.reactor = reactor = reactor.for_run(self.fault)
        self._state = RunState(plan)
        self.root, self.leaves = self._state.root, self._state.leaves
        self.dispatcher = dispatcher = Dispatcher()
        events = EventEmitter(self.root.option("on_event"), dispatcher, listeners())
        self._resources = RunResources(plan.objects_to_close, events)
        self.services = RunServices(reactor, dispatcher, self._resources, events)
        self.ended = Latch()
        self.on_cut: Callable[[], None] = noop
        """Called when the reader of the output is to get nothing more, because the run was cancelled."""
        self._launched = False
        self._aborted = False
        """Whether the start has failed, or was interrupted. Nothing is the fault of a stage then."""
        self.starting = False
        """Whether a thread is in the middle of the start."""
        self._start_slot = StartSlot()
        self._watches = make_memory_watches(self._state.groups, self.leaves, reactor, events)
        self._by_caller, self.barrier = by_caller, StartBarrier(reactor, by_caller=by_caller)
        self._stops = StopWatch(reactor, self.leaves)
        self._closing = ClosingTask(reactor, self._resources.objects_to_close)
        self._outputs = OutputTask(reactor, self._resources.outputs)
        self._idle: IdleWatch | None = None

    @property
    def reason(self) -> CancelReason | None:
        """Why the whole run was cancelled."""
        return self._state.reason

    def was_cancelled_by(self, error: BaseException) -> bool:
        """Return whether `error` is the reason why the whole run was cancelled."""
        return self.reason is not None and self.reason.error is error

    # Starting, in the thread that called `start()`.

    def start(self, handle: ActiveRun) -> None:
        """Start all stages, once it is the calling thread's turn.

        If one cannot be started, the others are cancelled, and the run ends with a StartError. Exit and fork
        handlers find the run by `handle` until it has ended.
        """
        if not begin_start():
            self.ended.set()
            raise RuntimeError("the interpreter is shutting down: no run can be started")
        self.starting = True
        try:
            self.ended.on_set(partial(active_runs.discard, handle))
            active_runs.add(handle)
            if (reason := handle.cancelled_before()) is not None:
                self._cancel(self.root, CancelReason(reason, PipelineCancelled, self.root))
            self._start_slot.acquire()
            if process_observers:
                self._launch_observed()
            else:
                self._launch()
        except BaseException as error:
            if not (isinstance(error, StartFailure) or self.is_start_fault(error)):
                self.abort(CancelReason(error, PipelineCancelled, self.root, collateral=True))
                raise
            self.fail_start(error if isinstance(error, StartFailure) else self.failure_of(error))
        finally:
            self.starting = False
            end_start()
            self._start_slot.release()

    def _launch_observed(self) -> None:
        with late_import:
            from penstock.engine.observing import observe_run  # noqa: PLC0415 - few programs have an observer
        self._end_report = set()
        observe_run(self.services.events, self.root, self.leaves, self._launch)

    def _launch(self, observe: Callable[[], None] = noop) -> None:
        groups, reactor, plan, held = self._state.groups, self.reactor, self.plan, self._resources
        if held.events.handlers:
            self._end_report = once = set[object]()
            emit_run_start(held.events, self.root, self.leaves, once)
        startup.check_passed_descriptors(self.leaves)
        startup.share_files(plan, held)
        startup.prepare_stages(self.leaves, groups, self.services, self.began, self.barrier)
        observe()
        size = self.root.option("pipe_size")
        self.source, self.sink = self.ports[:] = startup.open_ports(
            plan, reactor, size, self.end_output, held
        )
        if not plan.graph.is_line:
            self.branches = startup.open_branches(plan, self.leaves, reactor, size, self.advance, held)
            self.ports.append(self.branches)
        self._watch_output(self.sink, self.root.option("idle_timeout"))
        startup.set_deadlines(groups, reactor, self.began, self._time_out, held.timers)
        start_stages(plan, self.leaves, (self.source, self.sink, self.branches), self._started, held.pages)
        for leaf in self.leaves:
            if leaf.running is None:  # cancelled before its turn
                self._leaf_ended(leaf)
        try:
            for port in self.ports:
                port.start()
            self.barrier.open()
        except RuntimeError as error:  # the system allows no further thread
            raise StartFailure(error, leaf=self.leaves[0]) from error
        self._launched = True

    def _watch_output(self, sink: StdoutPort, idle_timeout: float | None) -> None:
        """End the run if there is too much output, or none for too long."""
        for port in self.ports[1:]:
            port.limit(lambda: self.post_cancel(cancellation.because_of_output(self.root)))
        self._idle = make_idle_watch(idle_timeout, self.reactor, sink, self._time_out_idle)

    def _time_out_idle(self) -> None:
        timeout: float = self.root.option("idle_timeout")
        self._cancel(self.root, cancellation.because_idle(timeout, self.root, self.leaves))

    def end_output(self) -> None:
        """Note that the last stage's output has been read to its end. From any thread."""
        if self._idle is not None:
            self._idle.end_output()
        self.advance()

    def _started(self, leaf: StageRun, running: Running) -> None:
        reason = self._state.record_start(leaf, running)
        if self._resources.shared_files is not None:
            self._resources.shared_files.started = True
        if (ctx := leaf.ctx) is not None:
            ctx.unregister()  # it is known now
            if running.hand_over is None and report_start(ctx, running):  # else its process is still to start
                self._stops.begin()
        if self._watches is not None and running.hand_over is None:
            self._watches.started(leaf, running, self._cancel)
        if reason is not None:  # it came while the stage was being started
            running.kill(reason.error)
        running.on_done(partial(self._leaf_ended, leaf))
        if running.wait_thread_error is not None:  # fails the start; the stage is ended with the others
            raise running.wait_thread_error

    def abort(self, reason: CancelReason) -> None:
        """Cancel the stages that were started; the others end unstarted."""
        self._aborted = True
        self._release_unstarted()
        self._cancel(self.root, reason)
        # A deadline may have cancelled the run before the child of this start was known.
        cancellation.cancel_stages(self._state.cancel_again(), self.reactor)
        for leaf in self.leaves:
            if leaf.running is None:
                self._leaf_ended(leaf)
            else:  # again: the start may have failed before this
                leaf.running.on_done(partial(self._leaf_ended, leaf))

    def _release_unstarted(self) -> None:
        """Release everything that waited for the rest of the start. Doing it again does no harm."""
        self.barrier.abort()
        startup.kill_unregistered_children(self.leaves)
        startup.release_ports(self.plan.graph, self.leaves, self.ports)

    # The ends of stages, travelling up the tree; in whatever thread a stage ends.

    @ends_with_fault
    def _leaf_ended(self, leaf: StageRun) -> None:
        running = leaf.running
        end = leaf_outcome(leaf, self.failure, self._state.asked)
        if running is not None and running.ctx.listened_to and not leaf.exit_event_sent:
            emit_exit(running, end)  # before the end is recorded, with which the run may be over; then
            leaf.note_exit_event()  # this, because an interrupt may come in between
        if self._state.record_end(leaf, end):
            self._propagate(leaf)

    def _propagate(self, node: Node) -> None:
        """End what the end of `node` completes. Doing it again does no harm."""
        for parent, end in self._state.propagate(node):
            if isinstance(parent, FilterRun):
                self._call_filter(parent)
                continue
            if end.error is not None and end.failed and parent.option("fail_fast"):
                self._fail_fast(parent, end)
            if self._watches is not None:
                self._watches.ended(parent)
        self.advance()

    def _call_filter(self, node: FilterRun) -> None:
        """Ask the user's filter in a worker: it may take its time, and only this stage waits for it."""
        call = node.call
        assert call is not None
        call.on_done(partial(self._filter_ended, node, call))
        call.start(inline=True)

    @ends_with_fault
    def _filter_ended(self, node: FilterRun, call: GuardedCall) -> None:
        """Record what the filter has decided; at the deadline, the reason of the cancellation decides."""
        leaf = next(leaf for leaf in self.leaves if leaf.within(node))
        end = call.outcome if call.error is None else NodeOutcome(call.error, leaf.index)
        first = self._state.record_decision(node, end)
        if first and call.abandoned and leaf.ctx is not None:  # before the run may be over
            leaf.ctx.emit_event("abandoned", "its error filter did not return", end.error)
        self._propagate(node)

    def _fail_fast(self, group: GroupRun, end: NodeOutcome) -> None:
        name = "a stage" if end.index is None else self.leaves[end.index].stage.name
        self.post_cancel(cancellation.because_failed(name, group))

    # Cancelling.

    def post_cancel(self, reason: CancelReason) -> None:
        """Cancel the pipeline that the reason comes from. From any thread or signal handler."""
        self.enqueue_cancel(reason)
        self.reactor.interrupt()

    def enqueue_cancel(self, reason: CancelReason) -> None:
        """Do as `post_cancel`, but leave it to the caller to interrupt the reactor."""
        self._state.ask(reason)
        self.reactor.enqueue(partial(self._cancel, reason.origin, reason))

    def post_stop(self, grace: float | None) -> None:
        """Ask the first stages to end, which is not a failure. From any thread or signal handler."""
        self.reactor.enqueue(partial(self._stop_first, grace))
        self.reactor.interrupt()

    def _stop_first(self, grace: float | None) -> None:
        if self.ended.is_set():
            self._defer_release()  # as in `_cancel`
        elif self.source is not None:
            ports = {self.plan.graph.first.index: self.source}
            if self.branches is not None:
                ports |= {end.node.index: port for end, port in self.branches.sources}
            stop_sources(self.leaves, ports, grace, self.advance)

    def _time_out(self, group: GroupRun, timeout: float) -> None:
        self._cancel(group, cancellation.because_timed_out(timeout, group, self.leaves))

    def _cancel(self, group: GroupRun, reason: CancelReason) -> None:
        """Cancel; in the reactor's thread, or in the starter's if nothing is driven yet."""
        if self.ended.is_set():
            self._defer_release()  # the posted call may hold the last reference to it
            return
        leaves = self._state.cancel(group, reason)
        if leaves is None:
            return
        cancellation.cancel_stages(leaves, self.reactor)
        if group is self.root and not reason.collateral:
            self._cut(reason.error)
        self._limit_filters(group, reason)
        self.advance()

    def _cut(self, error: BaseException) -> None:
        """End an iteration over the output now: what is on its way may be millions of lines."""
        reader = None if self.sink is None else self.sink.reader
        if reader is not None and self.root.end is None:
            self._read_error = error  # the run has failed now, even if its stages have just ended well
            reader.interrupt(error)
            self.on_cut()

    def _limit_filters(self, group: GroupRun, reason: CancelReason) -> None:
        """End filters that have not answered when the grace time is over; `reason` becomes their error."""
        now = time.monotonic()
        for call, grace, index in self._state.undecided_filters(group):
            end = NodeOutcome(reason.error, index, reason, ignored=reason.collateral)
            call.abandon_at(now + grace, end, self.reactor)

    def to_be_killed(self) -> Iterator[tuple[ProcessTree, Callable[[], None]]]:
        """Yield the trees of all children, and what kills each without grace. In any thread."""
        return cancellation.to_be_killed(self.leaves)

    def recover(self) -> None:
        """Look at everything again after an interrupt or a fault, which may have come anywhere.

        In the reactor's thread. The start may have stopped half-way, a cancellation may not have been carried
        out, or an end not have been recorded.
        """
        if not (self._launched or self.starting):
            self._release_unstarted()
        cancellation.cancel_stages(self._state.cancel_again(), self.reactor)
        for leaf in self.leaves:
            if leaf.running is not None:
                leaf.running.check_exit()
                leaf.running.on_done(partial(self._leaf_ended, leaf))
            if leaf.end is not None or (leaf.running is None and not self.starting):
                self._leaf_ended(leaf)
        if self.reason is not None:
            self._limit_filters(self.root, self.reason)
        self.advance()

    # The end.

    @ends_with_fault
    def advance(self) -> None:
        """Do what is due once the stages have ended; conclude if nothing is left. From any thread."""
        if self.root.end is None:
            return
        reason = self.reason
        # If a stage used up the grace period, the endpoints still get `timing.close_grace_s` seconds.
        deadline = time.monotonic() + timing.close_grace_s
        if reason is not None:
            deadline = max(deadline, self._state.cancelled_at + self.root.option("grace"))
        finished = True
        for port in self.ports:
            port.release(self.advance)
            if reason is not None and not port.finished:
                port.stop(reason.error, deadline)
            finished = finished and port.finished
        if finished:
            self._finish(reason, deadline)

    def _finish(self, reason: CancelReason | None, deadline: float) -> None:
        """Do what follows the end of the stages and of the endpoints; conclude if that is done."""
        tasks = self._closing, self._outputs, self._resources
        error = None if reason is None else reason.error
        if finish_tasks(tasks, self.reactor, self._has_succeeded, error, deadline, self.advance):
            self._conclude()

    def _has_succeeded(self) -> bool:
        return not self._aborted and self._verdict().error is None

    def _conclude(self) -> None:
        """Judge the run, and release everything."""
        with self._conclusion:
            if self.ended.is_set():
                return
            self._start_slot.release()  # an interrupt may have come before
            if self._watches is not None:
                self._watches.close()
            self._stops.close()
            if self._idle is not None:
                self._idle.close()
            for port in self.ports[1:]:
                port.limit(noop)  # which refers to this run
            self._resources.close()
            if self._closing.abandoned:
                emit_abandoned(self.services.events, self._closing.error)
            self.elapsed = time.monotonic() - self.began
            self._judge()
            if self._end_report is not None:
                self._emit_end()
            self._defer_release()
            self.ended.set()
            if self.reason is not None or not self._by_caller:
                self.reactor.wake()
            self.reactor.forget_run()
