"""Plan a run without side effects: nothing is opened or started.

A plan is the structure of the pipeline, the options of this run, the two endpoints, and the kind of carrier
of each edge. It is immutable, and may be run more than once. A mistake that can be seen so far is raised
here, and names the option or the stage. `explain()` needs no more than this.
"""

from __future__ import annotations

from penstock.core.constants import NEXT
from penstock.core.constants import STDOUT as MERGED
from penstock.core.errors import StartError
from penstock.core.loaded import is_template
from penstock.core.options import DEFAULTS, TEMPLATE
from penstock.core.plan import Edge, Node, Plan, carriers
from penstock.core.requirements import Stream
from penstock.core.stream_options import all_plain
from penstock.engine.graph import make_graph
from penstock.engine.run_outputs import check_outputs, stderr_of
from penstock.engine.stdin_endpoints import AsyncObjectStdin, GivenStdin, stdin_endpoint
from penstock.engine.stdout_choice import ITERATED, stdout_endpoint
from penstock.engine.stdout_endpoints import AsyncObjectStdout, GivenStdout
from penstock.stages.base import BuiltinStage, traits_of
from penstock.system.fork_guard import OUT_OF_RESOURCES, late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any

    from penstock.core.stage import Stage
    from penstock.engine.graph import Graph, PipelineSpec
    from penstock.engine.stdin_endpoints import StdinEndpoint
    from penstock.engine.stdout_endpoints import StdoutEndpoint
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.event_loops import Loop

__all__ = ["RunPlan", "plan_run"]

_FORBIDDEN = Stream.FORBIDDEN


class RunPlan:
    """The plan of a run.

    `stages` are those of the graph's nodes, in the same order, `kinds` the carriers of its edges, in theirs.
    A plan that is bound to an event loop has stages and endpoints that know the loop, and is for one run.
    """

    __slots__ = (
        "graph",
        "kinds",
        "loop",
        "options",
        "outputs",
        "requirements",
        "sink",
        "sinks",
        "source",
        "sources",
        "stages",
    )

    def __init__(  # noqa: PLR0913 - the parts of a plan
        self,
        graph: Graph,
        options: Mapping[str, Any],
        sources: Sequence[StdinEndpoint],
        sinks: Sequence[StdoutEndpoint],
        *,
        stages: Sequence[Stage] | None = None,
        loop: Loop | None = None,
        outputs: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.graph = graph
        self.options = options
        """The options that were given for the outermost pipeline."""
        self.outputs = outputs
        """The names and values of all outputs if two of them may be one file; else nothing."""
        self.sources = sources
        """The endpoints of the graph's sources."""
        self.sinks = sinks
        """The endpoints of its sinks."""
        self.source = sources[0]
        self.sink = sinks[0]
        self.loop = loop
        """The event loop that serves a part of it; None for a plan that needs none."""
        self.stages = [node.stage for node in graph.nodes] if stages is None else stages
        self.requirements = [traits_of(stage).requirements for stage in self.stages]
        """The requirements of each stage; a custom one that states none takes any stream."""
        self.kinds: Sequence[str] = _line_kinds(self) if graph.is_line else _graph_plan().graph_kinds(self)

    def option(self, name: str) -> Any:
        """Return an option of the outermost pipeline."""
        return self.options.get(name, DEFAULTS[name])

    @property
    def has_user_objects(self) -> bool:
        """Whether there may be user code in it, a finalizer for one: an object, a function."""
        return self.graph.has_user_objects or not all_plain(self.options)

    @property
    def objects_to_close(self) -> list[Any]:
        """The objects that are to be closed after the run."""
        found = [end.closing for end in (self.source, self.sink) if end.closing is not None]
        if not self.graph.is_line:
            found += [source.closing for source in self.sources[1:] if source.closing is not None]
            found += [sink.closing for sink in self.sinks[1:] if sink.closing is not None]
        return found

    def require_sync(self) -> None:
        """Raise TypeError, naming the stage or option, if something can only be served by an event loop."""
        stage = self.graph.first_async
        if stage is not None:
            raise TypeError(
                f"stage {stage.name!r} is async: it can only run in arun() and the other async methods"
            )
        fed = "stdin" if self.options.get("input") is None else "input"
        for option, end in (*((fed, end) for end in self.sources), *(("stdout", end) for end in self.sinks)):
            if isinstance(end, AsyncObjectStdin | AsyncObjectStdout):
                raise TypeError(
                    f"{option} is async: it can only be used by arun() and the other async methods: "
                    f"{end.value!r}"
                )

    def explain(self) -> Plan:
        """Return the plan as users see it."""
        stages = [
            Node(stage.name, node.id, traits_of(stage).kind)
            for stage, node in zip(self.stages, self.graph.nodes, strict=True)
        ]
        inputs = [
            Node(end.name, end.id, "endpoint")
            for end, source in zip(self.graph.sources, self.sources, strict=True)
            if end.is_main or source.kind != "null"
        ]
        outputs = [Node(end.name, end.id, "endpoint") for end in self.graph.sinks]
        nodes = [*inputs, *stages, *outputs]
        names = {node.id: str(node) for node in nodes}
        streams = dict(zip((node.id for node in self.graph.nodes), self._streams(), strict=True))
        edges = [
            Edge(
                names[edge.source],
                names[edge.target],
                kind,
                edge.source,
                edge.target,
                edge.port or streams.get(edge.source, "main"),
                elastic=edge.elastic,
            )
            for edge, kind in zip(self.graph.edges, self.kinds, strict=True)
            if edge.source in names and edge.target in names
        ]
        return Plan(nodes, edges)

    def _streams(self) -> Iterator[str]:
        """Yield the streams of each stage that go to the next one."""
        for stage, node in zip(self.stages, self.graph.nodes, strict=True):
            is_merged = traits_of(stage).kind == "command" and stderr_of(node, self.options) in (NEXT, MERGED)
            alone = traits_of(stage).stdout is not None
            yield "stderr" if alone else "main+stderr" if is_merged else "main"


def plan_run(
    pipeline: PipelineSpec,
    options: Mapping[str, Any],
    *,
    iterate: bool = False,
    ends: tuple[Input, Output] | None = None,
) -> RunPlan:
    """Plan a run of `pipeline` with `options` in the place of its own.

    `iterate` is for a caller that reads the last stage's output in chunks, `ends` for a custom stage that
    holds the pipeline. Raises TypeError or ValueError, naming the option or the stage, if the pipeline cannot
    be run like that, and StartError if no descriptor or memory is left to load what it needs.
    """
    if TEMPLATE in options or pipeline.graph.is_template:
        _refuse_template(pipeline, options)
    try:
        keep = options.get("keep")
        graph = pipeline.graph if keep is None else make_graph(pipeline.stages, keep)
        return _plan(pipeline, graph, options, iterate=iterate, ends=ends)
    except OSError as error:
        if error.errno not in OUT_OF_RESOURCES:
            raise
        first = pipeline.graph.nodes[0].stage.name
        raise StartError(first, error, index=0) from error


def _refuse_template(pipeline: PipelineSpec, options: Mapping[str, Any]) -> None:
    """Raise ValueError if there is a placeholder; an option that had one may have been overridden."""
    if pipeline.graph.is_template or any(map(is_template, options.values())):
        raise ValueError(f"{pipeline!r} has placeholders (item), so it can only be mapped: use .map(inputs)")


def _plan(
    pipeline: PipelineSpec,
    graph: Graph,
    options: Mapping[str, Any],
    *,
    iterate: bool,
    ends: tuple[Input, Output] | None,
) -> RunPlan:
    source: StdinEndpoint
    sink: StdoutEndpoint
    own = graph.sources[0].options  # a pipeline that begins with a shared one has the stdin of that
    if own and not ("stdin" in options or "input" in options):
        options = {**options, **own}
    if ends is not None:
        if options.get("idle_timeout") is not None:
            raise ValueError("idle_timeout cannot be an option of a pipeline that a custom stage holds")
        source, sink = GivenStdin(ends[0]), GivenStdout(ends[1])
    else:
        source = stdin_endpoint(options.get("stdin", DEFAULTS["stdin"]), options.get("input"))
        stdout = options.get("stdout", DEFAULTS["stdout"])
        sink = ITERATED if iterate else stdout_endpoint(stdout, options.get("max_output"))
    own_ends = ends is None
    outputs = check_outputs(graph, options, own_ends=own_ends, iterate=iterate)
    if options.get("idle_timeout") is not None:
        with late_import:
            from penstock.engine.clocked_stdout import check_file_size, clocked  # noqa: PLC0415 - few runs have one

        check_file_size(sink, graph.last, options)
        sink = clocked(sink, shared=bool(outputs))
    if graph.is_line:
        return RunPlan(graph, options, (source,), (sink,), outputs=outputs)
    if graph.direct:
        with late_import:
            from penstock.engine.direct_files import branches_to_relay  # noqa: PLC0415 - as above

        relayed = branches_to_relay(graph.direct, outputs)
        if relayed:
            graph = make_graph(pipeline.stages, branches=relayed)
    more_sources, more_sinks = _graph_plan().other_ends(graph)
    return RunPlan(graph, options, (source, *more_sources), (sink, *more_sinks), outputs=outputs)


def _line_kinds(plan: RunPlan) -> Sequence[str]:
    """Return the carrier of each edge of a line; ValueError if a stage has a stream that it forbids.

    They depend on what the ends are, and are made once for each kind of these. A custom stage may change its
    requirements.
    """
    source, sink = plan.source, plan.sink
    drain = sink.planned_kind(wants_file=True)
    ends = source.kind, source.carrier, sink.kind, drain, sink.carrier
    known = plan.graph.plans_of_line
    found = known.get(ends)
    if found is None:
        found = _new_line_kinds(plan)
        if all(isinstance(node.stage, BuiltinStage) for node in plan.graph.nodes):
            known[ends] = found
    return found


def _new_line_kinds(plan: RunPlan) -> list[str]:
    source, sink, requirements = plan.source, plan.sink, plan.requirements
    for place, wants in enumerate(requirements):
        if wants.stdin is _FORBIDDEN and (place > 0 or source.kind != "null"):
            raise ValueError(
                f"stage {plan.stages[place].name!r} takes no stdin: it must be first, with stdin=DEVNULL"
            )
        if wants.stdout is _FORBIDDEN and (
            place < len(requirements) - 1 or sink.kind not in ("null", "inherit")
        ):
            raise ValueError(
                f"stage {plan.stages[place].name!r} has no stdout: it must be last, with stdout=DEVNULL"
            )
    chained = [edge.chained for edge in plan.graph.edges[1:-1]]
    drain = sink.planned_kind(wants_file=requirements[-1].stdout is Stream.PREFER_FILE)
    return carriers(requirements, source.kind, drain, chained, (source.carrier, sink.carrier))


def _graph_plan() -> ModuleType:
    with late_import:
        from penstock.engine import graph_plan  # noqa: PLC0415 - most pipelines are lines
    return graph_plan
