"""The state of one run of a pipeline: its stages in order, and the tree of pipelines and filters above them.

Each object is made from its counterpart in the plan (`graph`), and refers to it.

Ends travel up the tree. A stage ends with its running stage. A filter ends when its child has ended and user
code has decided what that counts as. A group (a pipeline, nested or not) ends when all its children have
ended, and the verdict over them is its outcome. Nothing here waits or does I/O; `RunState` keeps the order.
"""

from __future__ import annotations

from functools import partial

from penstock.core.errors import Cancelled, FinishEarly, checked_error
from penstock.core.matchers import is_pipe_error
from penstock.core.options import DEFAULTS
from penstock.core.verdict import Outcome, verdict
from penstock.runtime.guarded_call import GuardedCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from penstock.core.errors import PipelineError
    from penstock.core.stage import Stage
    from penstock.engine.graph import PlanFilter, PlanGroup, PlanNode
    from penstock.stages.context import StageContext
    from penstock.stages.running import Running
else:
    Protocol = object

__all__ = ["CancelReason", "FilterRun", "GroupRun", "Node", "NodeOutcome", "StageRun"]


_NO_ENDS: Mapping[str, Counted] = {}


class CancelReason:
    """Why stages were cancelled.

    The error to report, the exception class the run raises, and the group that caused it. `collateral` is set
    if a stage is cancelled for a fault that is not its own; then it takes no part in the verdict.
    """

    __slots__ = ("collateral", "error", "origin", "reported_as")

    def __init__(
        self,
        error: BaseException,
        reported_as: type[PipelineError],
        origin: GroupRun,
        *,
        collateral: bool = False,
    ) -> None:
        self.error = error
        self.reported_as = reported_as
        self.origin = origin
        self.collateral = collateral


class NodeOutcome:
    """How a node ended: the error, the index of the leaf that it belongs to, and the reason if cancelled.

    `end` is the name of the endpoint whose error it is, "" for a stage's.
    """

    __slots__ = ("end", "error", "ignored", "index", "reason")

    def __init__(
        self,
        error: BaseException | None,
        index: int | None,
        reason: CancelReason | None = None,
        *,
        ignored: bool = False,
        end: str = "",
    ) -> None:
        self.error = error
        self.index = index
        self.reason = reason
        self.ignored = ignored
        self.end = end

    @property
    def outcome(self) -> Outcome:
        """The outcome for the verdict, in which the reason of a cancellation is never a pipe error."""
        if self.reason is not None and self.error is not None:
            return Outcome(Cancelled(), excluded=self.ignored)
        return Outcome(self.error, excluded=self.ignored)

    @property
    def failed(self) -> bool:
        """Whether this is a failure that no later stage can explain away."""
        return (
            self.error is not None
            and not self.ignored
            and not isinstance(self.error, FinishEarly)
            and not is_pipe_error(self.error)
        )


class Counted(Protocol):
    """An end of an edge that may know how many bytes went through it."""

    @property
    def count(self) -> int | None: ...


class Node:
    """Anything in the tree.

    It refers to the nodes above it, and a group to the outcomes of the nodes below, never to these: so a run
    that has ended is freed at once, and not by the garbage collector.
    """

    __slots__ = ("_place", "end", "parent")

    def __init__(self, parent: GroupRun | FilterRun | None, place: int) -> None:
        """`place` is which child of its parent it is."""
        self.parent = parent
        self._place = place
        self.end: NodeOutcome | None = None

    def finish(self, end: NodeOutcome) -> None:
        """Record how it ended, above it first: if an interrupt comes in between, it is done again."""
        if isinstance(self.parent, GroupRun):
            self.parent.ends[self._place] = end
        self.end = end

    def within(self, ancestor: Node) -> bool:
        """Whether this is `ancestor` or below it."""
        node: Node | None = self
        while node is not None:
            if node is ancestor:
                return True
            node = node.parent
        return False


class StageRun(Node):
    """One stage of one run. `stage` is the node's own, or that stage bound to an event loop."""

    __slots__ = (
        "ctx",
        "ends",
        "exit_event_sent",
        "group",
        "index",
        "node",
        "reason",
        "running",
        "stage",
        "stdin",
        "stdout",
    )

    def __init__(self, node: PlanNode, parent: GroupRun | FilterRun, stage: Stage) -> None:
        super().__init__(parent, node.place)
        self.node = node
        self.group = parent.group
        """The innermost pipeline that it belongs to."""
        self.index = node.index
        self.stage = stage
        self.ctx: StageContext | None = None
        self.running: Running | None = None
        self.reason: CancelReason | None = None
        self.stdin: Counted | None = None
        self.stdout: Counted | None = None
        self.ends: Mapping[str, Counted] = _NO_ENDS
        """Those besides the two, by the names of their ports."""
        self.exit_event_sent = False
        """Whether the event about its exit was sent."""

    def prepare(self, ctx: StageContext) -> None:
        """Set the context of the stage, which is about to be started."""
        self.ctx = ctx

    def connect(self, stdin: Counted | None = None, stdout: Counted | None = None) -> None:
        """Set the end that it reads, the end that it writes, or both."""
        if stdin is not None:
            self.stdin = stdin
        if stdout is not None:
            self.stdout = stdout

    def connect_others(self, ends: Mapping[str, Counted]) -> None:
        """Set the ends that it has besides."""
        self.ends = ends

    def set_running(self, running: Running) -> None:
        """Record that it was started."""
        self.running = running

    def cancel(self, reason: CancelReason) -> None:
        """Record why it is to end."""
        self.reason = reason

    def note_exit_event(self) -> None:
        """Note that the event about its exit was sent."""
        self.exit_event_sent = True

    def end_as_seen_from(self, other: StageRun) -> NodeOutcome | None:
        """Return how it ended, or the outermost filter or pipeline around it that is not around `other` too.

        None if that is not known yet.
        """
        node: Node = self
        while node.parent is not None and not other.within(node.parent):
            if node.end is None:
                return None
            node = node.parent
        return node.end

    def filters(self) -> Iterator[FilterRun]:
        """The filters that its end goes through, innermost first."""
        node: Node | None = self.parent
        while node is not None:
            if isinstance(node, FilterRun):
                yield node
            node = node.parent

    @property
    def error(self) -> BaseException | None:
        """The error that its result shows, after the filters around just this stage."""
        node: Node = self
        while isinstance(node.parent, FilterRun) and node.parent.end is not None:
            node = node.parent
        error = None if node.end is None else node.end.error
        return None if isinstance(error, FinishEarly) else error


class FilterRun(Node):
    """An error filter around a stage or pipeline."""

    __slots__ = ("call", "fn", "group")

    def __init__(self, plan: PlanFilter, parent: GroupRun | FilterRun) -> None:
        super().__init__(parent, plan.place)
        self.group: GroupRun = parent.group
        self.fn = plan.fn
        self.call: GuardedCall | None = None
        """Asks the function, in a worker; None until then, and if the function is not asked."""

    def ask(self, end: NodeOutcome) -> None:
        """Make the call that asks the function, or take `end` over if the function is not to be asked."""
        if self.end is None and self.call is None:
            if self.applies(end):
                self.call = GuardedCall(partial(self.apply, end))
            else:
                self.finish(end)

    def applies(self, end: NodeOutcome) -> bool:
        """Return whether the function is asked: not if the stage was cancelled from outside.

        The run's deadline is such a cancellation.
        """
        return end.reason is None or end.reason.origin.within(self)

    def apply(self, end: NodeOutcome) -> NodeOutcome:
        """Ask the function; an exception that it raises is the error.

        For the function `FinishEarly` is a success, and it stays `FinishEarly`.
        """
        early = isinstance(end.error, FinishEarly)
        try:
            error = checked_error("the error filter", self.fn(None if early else end.error))
        except BaseException as raised:  # noqa: BLE001 - a filter may raise: then that is what counts
            error = raised
        if error is None:
            return NodeOutcome(end.error if early else None, end.index)
        return NodeOutcome(error, end.index, end.reason if error is end.error else None, ignored=end.ignored)


class GroupRun(Node):
    """A pipeline of this run, the outermost one or a nested one."""

    __slots__ = ("_first_open", "_options", "_plan", "ends", "options")

    def __init__(
        self, plan: PlanGroup, parent: GroupRun | FilterRun | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(parent, plan.place)
        self._plan = plan
        self.options = options
        """The options that were given for this very pipeline."""
        around = DEFAULTS if parent is None else parent.group._options  # noqa: SLF001 - another group's
        self._options: Mapping[str, Any] = {**around, **options}
        self.ends: list[NodeOutcome | None] = [None] * plan.children
        """How its children ended, in their order; None for one that goes on."""
        self._first_open = 0

    @property
    def group(self) -> GroupRun:
        """Itself."""
        return self

    @property
    def merged_options(self) -> Mapping[str, Any]:
        """All options: its own, over those of the pipelines around it, over the defaults."""
        return self._options

    def option(self, name: str) -> Any:
        """An option of its own, else that of the pipeline around it."""
        return self._options[name]

    def ancestors(self) -> list[GroupRun]:
        """The pipelines around it, outermost first, and itself."""
        groups = []
        node: Node | None = self
        while node is not None:
            if isinstance(node, GroupRun):
                groups.append(node)
            node = node.parent
        return groups[::-1]

    @property
    def finished(self) -> bool:
        """Whether all its children have ended; an end stays, so none is looked at twice."""
        ends, place = self.ends, self._first_open
        while place < len(ends) and ends[place] is not None:
            place += 1
        self._first_open = place
        return place == len(ends)

    def compute_outcome(
        self,
        before: Sequence[tuple[int, NodeOutcome]] = (),
        after: Sequence[tuple[int, NodeOutcome]] = (),
    ) -> NodeOutcome:
        """Return the outcome of the whole, by the verdict over its children and, for the root, endpoints.

        With each endpoint comes the place of the child that reads it, or that writes to it.
        """
        own = [end for end in self.ends if end is not None]
        ends = [*(end for _, end in before), *own, *(end for _, end in after)]
        if all(end.error is None for end in ends):
            return NodeOutcome(None, None)
        consumers, head = self._plan.consumers, 0
        if consumers is not None and (before or after):
            consumers = _extended(consumers, [place for place, _ in before], [place for place, _ in after])
        if consumers is not None:
            head = len(before) + self._plan.head
        kept = verdict(
            [end.outcome for end in ends],
            pipe_errors=self.option("pipe_errors"),
            consumers=consumers,
            head=head,
        )
        if kept.index is not None:
            return ends[kept.index]
        cut = any(
            end.ignored and end.reason is not None and not end.reason.origin.within(self) for end in ends
        )
        return NodeOutcome(FinishEarly() if kept.finished_early else None, None, ignored=cut)


def _extended(
    consumers: Sequence[Sequence[int]], before: Sequence[int], after: Sequence[int]
) -> list[Sequence[int]]:
    """Return who reads whom, with endpoints before and after the children, which are at these places."""
    shift, count = len(before), len(consumers)
    moved = [[each + shift for each in found] for found in consumers]
    for number, place in enumerate(after):
        moved[place].append(shift + count + number)
    return [*([place + shift] for place in before), *moved, *([] for _ in after)]
