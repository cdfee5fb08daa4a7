"""What a run is going to be, found by looking only: nothing is opened, and nothing started.

The pipeline is taken apart, the endpoints are told from one another, and what carries each edge is settled. A
mistake that can be seen so far is told here, by the name of the option or the stage. `explain()` asks for no
more than this.
"""

from __future__ import annotations

from itertools import pairwise
from types import NoneType
from typing import TYPE_CHECKING, Any

from penstock.core.constants import Special
from penstock.core.plan import carriers
from penstock.core.stage import Stream
from penstock.engine.stdin_endpoints import GivenStdin, stdin_endpoint
from penstock.engine.stdout_endpoints import ITERATED, GivenStdout, stdout_endpoint
from penstock.engine.tree import build_tree
from penstock.stages.base import traits_of
from penstock.stages.chain import ChainStage
from penstock.streams.endpoints import check_open

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.core.stage import Requirements
    from penstock.engine.stdin_endpoints import StdinEndpoint
    from penstock.engine.stdout_endpoints import StdoutEndpoint
    from penstock.engine.tree import Group, Leaf, PipelineSpec
    from penstock.streams.stage_ends import Input, Output

__all__ = ["RunPlan", "plan_run", "requirements_of"]


LONGEST_CHAIN = 50
"""Stages that may be fused."""
_FORBIDDEN = Stream.FORBIDDEN
_PLAIN = (str, bytes, float, Special, NoneType)


class RunPlan:
    """What a run is going to be: its pipelines (itself first) and leaves, its endpoints, and what carries
    each edge.
    """

    __slots__ = ("groups", "kinds", "leaves", "root", "sink", "source")

    def __init__(
        self, groups: list[Group], leaves: list[Leaf], source: StdinEndpoint, sink: StdoutEndpoint
    ) -> None:
        self.root = groups[0]
        self.groups = groups
        self.leaves = leaves
        self.source = source
        self.sink = sink
        self.kinds = _edge_kinds(leaves, source, sink)

    @property
    def has_user_objects(self) -> bool:
        """Whether there may be code of the caller's in it, finalizers for one: an object, a function."""
        return not (
            all(
                traits_of(leaf.stage).has_no_user_objects and leaf.parent is leaf.group
                for leaf in self.leaves
            )
            and all(_is_plain(*option) for group in self.groups for option in group.options.items())
        )

    @property
    def objects_to_close(self) -> list[Any]:
        """What is to be closed after the run."""
        return [end.closing for end in (self.source, self.sink) if end.closing is not None]


def plan_run(
    pipeline: PipelineSpec,
    options: Mapping[str, Any],
    *,
    iterate: bool = False,
    ends: tuple[Input, Output] | None = None,
) -> RunPlan:
    """Take a pipeline apart for a run; starts and opens nothing.

    TypeError or ValueError, naming the option or the stage, where the pipeline cannot be run like that.
    """
    groups, leaves = build_tree(pipeline, options)
    root = groups[0]
    source: StdinEndpoint
    sink: StdoutEndpoint
    if ends is not None:
        source, sink = GivenStdin(ends[0]), GivenStdout(ends[1])
    else:
        source = stdin_endpoint(root.option("stdin"), root.option("input"))
        sink = ITERATED if iterate else stdout_endpoint(root.option("stdout"))
    for group in groups:
        check_open("stderr", group.options.get("stderr"))
    for leaf in leaves:
        check_open("stderr", traits_of(leaf.stage).stderr)
    return RunPlan(groups, leaves, source, sink)


def _edge_kinds(leaves: Sequence[Leaf], source: StdinEndpoint, sink: StdoutEndpoint) -> list[str]:
    """How each edge is going to be carried; ValueError naming the stage where a stream is forbidden to it."""
    requirements = [requirements_of(leaf) for leaf in leaves]
    for place, wants in enumerate(requirements):
        if wants.stdin is _FORBIDDEN and (place > 0 or source.kind != "null"):
            raise ValueError(
                f"stage {leaves[place].stage.name!r} takes no stdin: it must be first, with stdin=DEVNULL"
            )
        if wants.stdout is _FORBIDDEN and (place < len(leaves) - 1 or sink.kind not in ("null", "inherit")):
            raise ValueError(
                f"stage {leaves[place].stage.name!r} has no stdout: it must be last, with stdout=DEVNULL"
            )
    groups = [leaf.group if isinstance(leaf.stage, ChainStage) else None for leaf in leaves]
    # Each stage of a chain takes a few frames of its worker's stack.
    chained = [
        left is right and left is not None and place % LONGEST_CHAIN > 0
        for place, (left, right) in enumerate(pairwise(groups), 1)
    ]
    return carriers(requirements, source.kind, sink.kind, chained, (source.carrier, sink.carrier))


def requirements_of(leaf: Leaf) -> Requirements:
    """What a stage asks of its streams; a custom one that says nothing takes any."""
    return traits_of(leaf.stage).requirements


def _is_plain(option: str, value: object) -> bool:
    """Whether a value is no object of the caller's.

    What a number stands for may be copied by a worker: of stdin and stdout the ports know that, of stderr
    nobody does.
    """
    return isinstance(value, _PLAIN) or (isinstance(value, int) and option != "stderr")
