"""The start of a run up to its stages: what the pipelines share, the endpoints, the deadlines.

Out of scope: the stages and the edges between them (`stage_starts`).
"""

from __future__ import annotations

import errno
import os
from functools import partial

from penstock.core.requirements import Stream
from penstock.engine.ports import StdinPort, StdoutPort
from penstock.engine.run_outputs import given_descriptor
from penstock.engine.start_failure import StartFailure
from penstock.engine.unused_ports import release_sink, release_source
from penstock.stages.context import Scope, StageContext
from penstock.stages.stderr import StderrTarget
from penstock.streams.stage_ends import load_streams
from penstock.system.fds import is_open
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.engine.branch_ports import BranchPorts
    from penstock.engine.graph import Graph
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import GroupRun, StageRun
    from penstock.limits.confinement import Confinement
    from penstock.runtime.guarding import RunGuard
    from penstock.runtime.reactor import Reactor, Timer
    from penstock.runtime.start_barrier import StartBarrier
    from penstock.stages.run_services import RunResources, RunServices

__all__ = [
    "kill_unregistered_children",
    "open_branches",
    "open_ports",
    "prepare_stages",
    "release_ports",
    "set_deadlines",
    "share_files",
]


def check_passed_descriptors(leaves: Sequence[StageRun]) -> None:
    """Raise StartFailure for a closed number in `pass_fds`, before one of the run's own pipes gets it."""
    for leaf in leaves:
        for number in getattr(leaf.stage, "pass_fds", ()):
            if not is_open(number):
                text = f"pass_fds: {number} is not an open descriptor"
                raise StartFailure(OSError(errno.EBADF, text), leaf=leaf)


def share_files(plan: RunPlan, resources: RunResources) -> None:
    """Have outputs that are one file share it, those that the caller has open first. Before any is opened."""
    if not plan.outputs:
        return
    option = "stdout"
    try:
        with late_import:
            from penstock.system.shared_files import SharedFiles  # noqa: PLC0415 - few runs need it

        resources.shared_files = files = SharedFiles()
        for option, value in plan.outputs:
            number = given_descriptor(option, value)
            if number is not None:
                files.add(number)
    except OSError as error:
        raise StartFailure(error, stage=option.split()[0]) from error


def prepare_stages(
    leaves: Sequence[StageRun],
    groups: Sequence[GroupRun],
    services: RunServices,
    began: float,
    barrier: StartBarrier,
) -> None:
    """Give each stage its context, with the scope of its pipeline."""
    scopes = _make_scopes(groups, services, began)
    for leaf in leaves:
        stage = leaf.stage
        leaf.prepare(StageContext(stage.name, scopes[id(leaf.group)], barrier, stage, leaf.node.id))


def _make_scopes(groups: Sequence[GroupRun], services: RunServices, began: float) -> dict[int, Scope]:
    """Make one scope for each pipeline, by its id: options, environment, stderr. The watching begins.

    Everything that is opened for them goes to the resources of the run. An environment with values of the
    pipeline's own is evaluated here, in the starter's thread and context.
    """
    scopes: dict[int, Scope] = {}
    progress = services.resources.progress
    if progress is not None:
        try:
            progress.begin(services.resources.stderr_relay)
        except OSError as error:
            raise StartFailure(error, stage="progress") from error
    if services.resources.profiler is not None:
        services.resources.profiler.begin(began)
    for group in groups:
        outer = scopes.get(id(group.ancestors()[-2])) if group.parent is not None else None
        scope = scopes[id(group)] = _scope(group, outer, services, began)
        if scope.env_layers:
            try:
                scope.environ()
            except Exception as error:
                raise StartFailure(error, stage="env") from error
    return scopes


def _scope(group: GroupRun, outer: Scope | None, services: RunServices, began: float) -> Scope:
    timeout = group.options.get("timeout")
    deadline = None if timeout is None else began + timeout
    if outer is not None and outer.deadline is not None:
        deadline = outer.deadline if deadline is None else min(deadline, outer.deadline)
    return Scope(
        services,
        group.merged_options,
        env_layers=tuple(layer for each in group.ancestors() if (layer := each.options.get("env"))),
        deadline=deadline,
        stderr=_stderr(group, outer, services.resources),
        confinement=_confinement(group, outer, services.resources),
        guard=_guard(group, services),
    )


def _stderr(group: GroupRun, outer: Scope | None, resources: RunResources) -> StderrTarget:
    """Return the target of the stderr of a pipeline's commands, by default that of the outer pipeline."""
    value = group.option("stderr")
    if isinstance(value, StderrTarget):  # a pipeline within a custom stage shares that stage's
        return value
    if outer is not None and "stderr" not in group.options:
        return outer.stderr
    try:
        stderr = StderrTarget("stderr", value, resources)
    except OSError as error:
        raise StartFailure(error, stage="stderr") from error
    resources.stderrs.append(stderr)
    if stderr.closing is not None:
        resources.objects_to_close.append(stderr.closing)
    return stderr


def _confinement(group: GroupRun, outer: Scope | None, resources: RunResources) -> Confinement | None:
    """Return the limits of a pipeline, over those of the one around it."""
    limits = group.options.get("limits")
    around = None if outer is None else outer.confinement
    if limits is None:
        return around
    with late_import:
        from penstock.limits.confinement import Confinement  # noqa: PLC0415 - most runs have no limits

    if isinstance(limits, Confinement):  # a pipeline within a custom stage shares that stage's
        return limits
    return Confinement.within(around, limits, resources.cgroups, leftover=group.option("on_leftover"))


def _guard(group: GroupRun, services: RunServices) -> RunGuard | None:
    """Return the guard of the run, the same for all its pipelines that ask for one."""
    # The kernel kills all others of a container when process 1 of it ends; and a guardian would be its child.
    if group.option("orphans") == "leave" or os.getpid() == 1:
        return None
    resources = services.resources
    if resources.guard is None:
        try:
            with late_import:
                from penstock.runtime.guarding import RunGuard  # noqa: PLC0415 - most runs have no guard

            resources.guard = RunGuard(services.events)
            resources.guard.start()
        except (OSError, RuntimeError, ImportError) as error:  # ImportError: no descriptor left to load it
            raise StartFailure(error, stage="orphans") from error
    return resources.guard


def set_deadlines(
    groups: Sequence[GroupRun],
    reactor: Reactor,
    began: float,
    expire: Callable[[GroupRun, float], None],
    timers: list[Timer],
) -> None:
    """Have `expire(group, timeout)` called for each pipeline that has a timeout, unless its timer is
    cancelled before.
    """
    for group in groups:
        timeout = group.options.get("timeout")
        if timeout is not None:
            timers.append(reactor.call_at(began + timeout, partial(expire, group, timeout)))


def open_ports(
    plan: RunPlan,
    reactor: Reactor,
    pipe_size: int | None,
    on_end: Callable[[], None],
    resources: RunResources,
) -> tuple[StdinPort, StdoutPort]:
    """Open both endpoints, or neither. The modules that stages of this process need are loaded before.

    `resources` gets what the run ends, such as a file that is to be committed or discarded.
    """
    in_process = plan.graph.first_in_process
    if in_process is not None:
        try:
            load_streams()
        except OSError as error:
            raise StartFailure(error, stage=in_process.name) from error
    graph = plan.graph
    first, last = plan.requirements[graph.first.index].stdin, plan.requirements[graph.last.index].stdout
    try:
        feed = plan.source.open(reactor, pipe_size, wants_file=first is Stream.PREFER_FILE)
    except OSError as error:
        raise StartFailure(error, stage="stdin") from error
    try:
        wants_file = last is Stream.PREFER_FILE
        drain = plan.sink.open_for(resources, reactor, pipe_size, on_end, wants_file=wants_file)
    except OSError as error:
        feed.abandon()
        raise StartFailure(error, stage="stdout") from error
    except BaseException:
        feed.abandon()
        raise
    try:
        # With commands alone, and what the reactor does itself, no thread but the caller's takes part.
        alone = in_process is None and not plan.has_user_objects
        if alone and not (reactor.shared or feed.uses_thread or drain.uses_thread):
            reactor.expect_no_posts()
    except BaseException:
        feed.abandon()
        drain.abandon()
        raise
    return feed, drain


def kill_unregistered_children(leaves: Sequence[StageRun]) -> None:
    """Kill children that exist, but were not recorded yet when an interrupt or a fault came in between.

    A child that its stage was about to watch is recorded, and ended as any other is.
    """
    for leaf in leaves:
        if leaf.running is not None or leaf.ctx is None:
            continue
        child = leaf.ctx.recover_child()
        if child is not None:
            leaf.set_running(child)


def open_branches(  # noqa: PLR0913 - as `open_ports`, for a graph
    plan: RunPlan,
    leaves: Sequence[StageRun],
    reactor: Reactor,
    pipe_size: int | None,
    on_end: Callable[[], None],
    resources: RunResources,
) -> BranchPorts:
    """Open the other ends of a graph, and make what its stages share."""
    with late_import:  # nothing is started yet
        from penstock.engine.branch_ports import BranchPorts  # noqa: PLC0415 - most runs are lines
        from penstock.engine.graph_pipes import GraphPipes  # noqa: PLC0415

    resources.graph_pipes = pipes = GraphPipes(plan, leaves)
    ports = BranchPorts(pipes)
    ports.open(plan, reactor, pipe_size, on_end, resources)
    return ports


def release_ports(
    graph: Graph, leaves: Sequence[StageRun], ports: Sequence[StdinPort | StdoutPort | BranchPorts]
) -> None:
    """Close the ends of the ports that no stage was given, and drain the sinks. Idempotent."""
    for port in ports:
        if isinstance(port, StdinPort):
            release_source(port, leaves[graph.first.index])
        elif isinstance(port, StdoutPort):
            release_sink(port, leaves[graph.last.index])
        else:
            port.release_unstarted(leaves)
