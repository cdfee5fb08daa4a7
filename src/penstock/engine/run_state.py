"""Keep the state of a run's stages: which were started, which are to end and why, and how they ended.

All of it is bookkeeping under one lock, which is never held during a call that may block or that runs user
code. Each method only records, and returns what must be done next; `Execution` then does it.

Out of scope: starting and ending stages, events, and the verdict over the endpoints.
"""

from __future__ import annotations

import threading
import time

from penstock.core.errors import Cancelled, PipelineCancelled
from penstock.engine.graph import PlanGroup
from penstock.engine.tree import FilterRun, GroupRun, NodeOutcome, StageRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.engine.graph import PlanFilter
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.start_failure import StartFailure
    from penstock.engine.tree import CancelReason, Node
    from penstock.runtime.guarded_call import GuardedCall
    from penstock.stages.running import Running

__all__ = ["RunState", "leaf_outcome"]


class RunState:
    """The stages of one run, and the tree of pipelines and filters above them; for any thread."""

    __slots__ = ("_lock", "asked", "cancelled_at", "groups", "leaves", "reason", "root")

    def __init__(self, plan: RunPlan) -> None:
        graph = plan.graph
        self.root = root = GroupRun(graph.root, None, plan.options)
        self.groups = [root]
        """The pipelines, outer ones first."""
        parents: dict[PlanGroup | PlanFilter, GroupRun | FilterRun] = {graph.root: root}
        for part in graph.parents:
            above = None if part.parent is None else parents[part.parent]
            if isinstance(part, PlanGroup):
                parents[part] = group = GroupRun(part, above, part.options)
                self.groups.append(group)
            elif above is not None:
                parents[part] = FilterRun(part, above)
        self.leaves = [
            StageRun(node, parents[node.parent], stage)
            for node, stage in zip(graph.nodes, plan.stages, strict=True)
        ]
        self.reason: CancelReason | None = None
        """Why the whole run was cancelled."""
        self.asked: CancelReason | None = None
        """Why the whole run is about to be cancelled, or was."""
        self.cancelled_at = 0.0
        """When that was, by `time.monotonic()`."""
        self._lock = threading.Lock()

    def record_start(self, leaf: StageRun, running: Running) -> CancelReason | None:
        """Record that a stage was started; return why it is to end, if a reason came meanwhile."""
        with self._lock:
            leaf.set_running(running)
            return leaf.reason

    def record_end(self, leaf: StageRun, end: NodeOutcome) -> bool:
        """Record how a stage ended; the first time counts. Return whether that matters above it."""
        with self._lock:
            if leaf.end is None:
                leaf.finish(end)
            parent = leaf.parent
            return end.error is not None or not isinstance(parent, GroupRun) or parent.finished

    def record_decision(self, node: FilterRun, end: NodeOutcome) -> bool:
        """Record what a filter has decided; False if that was decided before."""
        with self._lock:
            first = node.end is None
            if first:
                node.finish(end)
            return first

    def propagate(self, node: Node) -> Iterator[tuple[GroupRun | FilterRun, NodeOutcome]]:
        """End the nodes above `node` that its end completes; doing it again does no harm.

        Yields each node that an end has reached, with that end: a pipeline, or a filter that is to decide
        now.
        """
        end = node.end
        while end is not None and node.parent is not None:
            parent = node.parent
            if isinstance(parent, FilterRun):
                with self._lock:
                    parent.ask(end)
                if parent.end is None:
                    yield parent, end
                    return
            else:
                with self._lock:
                    if parent.end is None and parent.finished:
                        parent.finish(parent.compute_outcome())
                yield parent, end
            node, end = parent, parent.end

    def ask(self, reason: CancelReason) -> None:
        """Note why the run, or a pipeline in it, is about to be cancelled. Takes no lock."""
        if reason.origin is self.root and self.asked is None:
            self.asked = reason

    def cancel(self, group: GroupRun, reason: CancelReason) -> list[StageRun] | None:
        """Record `reason` for the stages of a pipeline that have none and go on; return these.

        None if it is for the whole run, and that was cancelled before.
        """
        with self._lock:
            if group is self.root:
                if self.reason is not None:
                    return None
                self.reason = reason
                self.cancelled_at = time.monotonic()
            leaves = [
                leaf
                for leaf in self.leaves
                if leaf.end is None and leaf.reason is None and leaf.within(group)
            ]
            for leaf in leaves:
                leaf.cancel(reason)
        return leaves

    def cancel_again(self) -> list[StageRun]:
        """Return the stages that go on, each with the run's reason if it has none of its own."""
        leaves = [leaf for leaf in self.leaves if leaf.end is None]
        for leaf in leaves:
            if leaf.reason is None and self.reason is not None:
                leaf.cancel(self.reason)
        return leaves

    def undecided_filters(self, group: GroupRun) -> Iterator[tuple[GuardedCall, float, int]]:
        """Yield the calls of those filters in `group` that have not answered.

        With each come its grace time in seconds, and the index of the first stage below the filter.
        """
        for leaf in self.leaves:
            grace = leaf.group.option("grace")
            for node in leaf.filters():
                if node.call is not None and node.end is None and node.within(group):
                    yield node.call, grace, next(one.index for one in self.leaves if one.within(node))


def leaf_outcome(
    leaf: StageRun, failure: StartFailure | None, asked: CancelReason | None = None
) -> NodeOutcome:
    """Return the outcome of a stage that has ended, or that was never started.

    `failure` is the reason why the start of the run failed, if it did. `asked` is the reason of a
    cancellation that has not reached the stage yet. If a run within the stage was cancelled together with
    this one, and ended first, the stage was not the one to fail.
    """
    running, reason = leaf.running, leaf.reason
    if running is not None:
        error = running.error
    elif failure is not None and failure.leaf is leaf:
        error = failure.cause
    else:
        error = Cancelled("it was never started") if reason is None else reason.error
    if reason is None and asked is not None and isinstance(error, PipelineCancelled):
        error, reason = asked.error, asked
    if reason is not None and error is not reason.error:
        reason = None  # the stage ended by itself before it was cancelled
    return NodeOutcome(error, leaf.index, reason, ignored=reason is not None and reason.collateral)
