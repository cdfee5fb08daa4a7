"""The outcome of a run: its verdict, its error and its result.

The run is judged when it ends, and once more if the caller finds afterwards that its output could not be
read. `_conclusion` lets one thread at a time do that. The result is built when it is first asked for; that of
a failed run at once, because the error holds it.

Out of scope: the rule of the verdict (`core.verdict`), and when a run has ended (`Execution`).
"""

from __future__ import annotations

import contextlib
import threading

from penstock.core.matchers import is_pipe_error
from penstock.engine.events import emit_run_end
from penstock.engine.faults import FaultBoundary
from penstock.engine.graph_parts import STDIN, STDOUT, place_within
from penstock.engine.outcome import EndFault, build_result, conclude

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.errors import PipelineError
    from penstock.core.result import Result
    from penstock.engine.branch_ports import BranchPorts
    from penstock.engine.closing import ClosingTask
    from penstock.engine.graph_parts import PlanNode
    from penstock.engine.outcome import Conclusion
    from penstock.engine.outputs import OutputTask
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.start_failure import StartFailure
    from penstock.engine.tree import CancelReason
    from penstock.stages.run_services import RunServices

__all__ = ["JudgedRun"]


class JudgedRun(FaultBoundary):
    """The part of an `Execution` that judges it."""

    began: float
    services: RunServices
    _closing: ClosingTask
    _outputs: OutputTask
    _by_caller = False
    """Whether the caller's thread works off the stages; the driver sees nothing of a run that goes well."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.source: StdinPort | None = None
        self.sink: StdoutPort | None = None
        self.ports: list[StdinPort | StdoutPort | BranchPorts] = []
        """The ports of all its ends, once they are open."""
        self.branches: BranchPorts | None = None
        """The ports of the other ends of a graph that is not a line."""
        self.elapsed = 0.0
        """Seconds that it took; set at the end."""
        self.left_early = plan.sink.kind == "pipe"
        """The caller reads the last stage's output, and may have stopped doing so before its end."""
        self.failure: StartFailure | None = None
        """The reason why a stage could not be started, if one could not."""
        self._conclusion = threading.Lock()
        self._concluded: Conclusion | None = None
        self._result: Result | None = None
        self._read_error: BaseException | None = None
        """Why the caller could not read what the last stage wrote, or not all of it."""
        self._end_report: set[object] | None = None
        """The handlers that know of its end; None if its start was not reported, or its end was."""

    def _emit_end(self) -> None:
        """Report the end of the run, if its start was reported; again, if an interrupt came."""
        once = self._end_report
        if once is None:
            return
        started = self.failure is None
        events = self._resources.events
        emit_run_end(
            events, self.root, self.leaves, self.error, self.elapsed, once, failed_to_start=not started
        )
        self._end_report = None

    @property
    def reason(self) -> CancelReason | None:
        """Why the whole run was cancelled."""
        raise NotImplementedError

    @property
    def error(self) -> PipelineError | None:
        """The error that the run raises, once it has ended."""
        return None if self._concluded is None else self._concluded.error

    @property
    def finished_early(self) -> bool:
        """Whether it has ended, and succeeded with its input left unread on purpose."""
        return self._concluded is not None and self._concluded.finished_early

    def record_left_early(self) -> None:
        """Record that the caller has stopped reading the last stage's output."""
        self.left_early = True

    def fail_reading(self, error: OSError) -> None:
        """Record that reading the last stage's output has failed; the run may have been judged before."""
        with self._conclusion:
            self._read_error = error
            if self.ended.is_set():
                self._judge()

    @property
    def result(self) -> Result:
        """The result, once the run has ended; built when it is first asked for, and the same each time."""
        with self._conclusion:
            if self._result is None:
                self._result = self._build_result(self.error)
            return self._result

    def _judge(self) -> PipelineError | None:
        """Conclude; return the error. If there is one, build the result now, because the error holds it."""
        self._concluded = self._verdict()
        error, self._result = self._concluded.error, None
        if error is not None:
            # Without a file descriptor to load the module with, it is built where the error is raised.
            with contextlib.suppress(OSError):
                error.result = self._result = self._build_result(error)
        return error

    def _verdict(self) -> Conclusion:
        """Judge all that is known by now."""
        graph, source, sink = self.plan.graph, self.source, self.sink
        stdin_error = None if source is None else source.error
        stdout_error = None if sink is None else self._stdout_error(sink)
        fed = [] if stdin_error is None else [EndFault(STDIN, stdin_error, self._place(graph.first))]
        last = self._place(graph.last)
        drained = [] if stdout_error is None else [EndFault(STDOUT, stdout_error, last)]
        if self.branches is not None:
            sources, sinks = self.branches.errors()
            fed += [EndFault(end.name, error, self._place(end.node)) for end, error in sources]
            drained += [EndFault(end.name, error, self._place(end.node)) for end, error in sinks]
        found = conclude(
            self.root,
            self.leaves,
            stdin_faults=fed,
            stdout_faults=drained,
            left_early=last if self.left_early else None,
            reason=self.reason,
            failure=self.failure,
        )
        self.blame_fault(found)
        return found

    def _defer_release(self) -> None:
        """Keep a reference until a worker drops it, so user finalizers never run on the supervisor thread."""
        keep = self.reactor.defer_release
        if keep is None or (self._by_caller and self.reason is None):
            return
        if self.reason is not None or self.plan.has_user_objects or self._resources.events.handlers:
            keep(self)

    def _place(self, node: PlanNode) -> int:
        """Return the place of that child of the root which the node is, or is below."""
        if self.plan.graph.is_line:
            return 0  # the verdict over a line needs none
        place = place_within(self.plan.graph.root, node)
        assert place is not None
        return place

    def _stdout_error(self, sink: StdoutPort) -> BaseException | None:
        found, last = sink.error, self.leaves[self.plan.graph.last.index].end
        if sink.is_relay and last is not None and _broken(found) and _broken(last.error):
            found = None  # the stage has met the same in its own pipe, and its outcome says so
        for error in (found, self._read_error, self._closing.error):
            if error is not None:
                return error
        return self._outputs.error

    def _build_result(self, error: PipelineError | None) -> Result:
        ports = self.source, self.sink
        result = build_result(self.leaves, self.plan, ports, self.branches, self.elapsed, error)
        profiler = self.services.resources.profiler
        return result if profiler is None else profiler.add_to(result, self._spans())

    def _spans(self) -> list[tuple[float, float] | None]:
        """Return the seconds from the start of the run to the start and to the end of each stage."""
        spans: list[tuple[float, float] | None] = []
        for running in [leaf.running for leaf in self.leaves]:
            if running is None or running.hand_over is not None:
                spans.append(None)
            else:  # one that was left behind counts to the end
                end = running.ended - self.began if running.done else self.elapsed
                spans.append((running.started - self.began, end))
        return spans


def _broken(error: BaseException | None) -> bool:
    return error is not None and is_pipe_error(error)
