"""The base of stages that only a run can start, because only a run knows their other ends."""

from __future__ import annotations

from penstock.core.public import half_made_too
from penstock.core.requirements import Requirements, Stream
from penstock.stages.base import BuiltinStage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import Running
    from penstock.streams.stage_ends import Input, Output

__all__ = ["GraphStage"]


class GraphStage(BuiltinStage):
    """A stage with more ends than two, or one that stands at such an end. It copies by descriptors."""

    kind = "relay"
    requirements = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)
    starts_in_graph = True
    has_no_user_objects = True

    def __init__(self, name: str) -> None:
        self.name = name

    @half_made_too
    def __repr__(self) -> str:
        return f"{self.kind}({self.name!r})"

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> Running:
        """Raise TypeError."""
        stdin.close()
        stdout.close()
        raise TypeError(
            f"{self.name!r} is a part of a graph, so a custom stage must start the pipeline around it"
        )

    def start_in_graph(self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts) -> Running:
        """Start it with all its ends, which are its own from here on."""
        raise NotImplementedError
