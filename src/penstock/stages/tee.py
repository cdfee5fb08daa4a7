"""Stages that copy their input into several outputs: `tee`, and the one behind a `shared` pipeline.

The copy is that of `streams.relay`, in a worker thread. It needs descriptors, so all its edges are pipes,
files or what the caller has given.

Ends. An output whose reader has gone is left out. If none is left, the stage fails with a closed pipe, which
the verdict forgives if a reader had enough. An output that cannot be written to, because a disk is full, is
left out too, and the stage fails with that error once the others have got everything.
"""

from __future__ import annotations

from functools import partial

from penstock.core.public import exported, half_made_too
from penstock.stages.base import BuiltinStage
from penstock.stages.graph_stage import GraphStage
from penstock.stages.relay_copy import RelayCopy
from penstock.stages.running_function import RunningFunction
from penstock.streams.stage_ends import Input
from penstock.system.fds import duplicate
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from penstock.stages.branch import Branch, StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import Running, ThreadedStage
    from penstock.streams.stage_ends import Output

__all__ = ["Shared", "Splitter", "Tee"]

_STDOUT = "stdout"


class Splitter(GraphStage):
    """Copies its input into all its outputs."""

    kind = "split"
    is_relay = True

    def start_in_graph(self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts) -> Running:
        """Begin to copy."""
        try:
            if stdin.fd is None or stdout.fd is None:  # a custom stage holds the pipeline
                with late_import:
                    from penstock.stages.pipe_adapter import start_with_pipes  # noqa: PLC0415 - rarely needed

                return start_with_pipes(partial(_start_between, self, ports), ctx, stdin, stdout)
            outlets = [(_STDOUT, stdout), *ports.outputs.items()]
            copy = RelayCopy(ctx, [(stdin, outlets)], ports, until_first=self.ends_with_stdout)
            return RunningFunction(ctx, copy.run, copy)
        except BaseException:
            stdin.close()
            stdout.close()
            ports.close()
            raise


def _start_between(
    splitter: Splitter, ports: StagePorts, ctx: StageContext, stdin: Input, stdout: Output
) -> Running:
    assert stdin.fd is not None
    own = Input(
        duplicate(stdin.fd), owned_description=stdin.owned_description
    )  # the caller closes the other one
    stdin.close()
    return splitter.start_in_graph(ctx, own, stdout, ports)


@exported
class Tee(Splitter):
    """Passes its input on, and copies it into branches; see `penstock.tee`."""

    kind = "tee"

    def __init__(self, outlets: Mapping[str, Branch], name: str, *, ends_with_stdout: bool) -> None:
        super().__init__(name)
        self.outlets = outlets
        self.ends_with_stdout = ends_with_stdout

    @half_made_too
    def __repr__(self) -> str:
        parts = [repr(branch) for branch in self.outlets.values()]
        if self.ends_with_stdout:
            parts.append("until='main'")
        return f"tee({', '.join(parts)})"


@exported
class Shared(BuiltinStage):
    """A pipeline that is one node of a graph, however often it is used; see `penstock.shared`.

    A graph puts the stages of the pipeline in its place, and a `splitter` after them.
    """

    kind = "shared"
    is_source = True

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @half_made_too
    def __repr__(self) -> str:
        return f"shared({self.pipeline!r})"

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        return str(self.pipeline.name)

    def splitter(self) -> Splitter:
        """Return the stage that copies the output for each user."""
        return Splitter(f"shared {self.name}")

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> ThreadedStage:
        """Raise: only a run knows its users."""
        stdin.close()
        stdout.close()
        raise TypeError(f"{self!r} is a source of a graph, so a custom stage cannot start it")
