"""The stage between a program that writes to names of pipes (`writing`) and the branches behind them.

It passes on what comes, so that a branch sees the end when the program has exited, even if a process that the
program has left behind keeps the pipe open. And if the branches meet again in a join, it reads on for one
while another is held up (`streams.relay`). Each of its inputs has one output. A plain file needs it only if
the program may not have that itself (`engine.direct_files`).
"""

from __future__ import annotations

import time
from functools import partial

from penstock.stages.graph_stage import GraphStage
from penstock.stages.relay_copy import RelayCopy
from penstock.stages.running_function import RunningFunction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.runtime.reactor import Timer
    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.stage_ends import Input, Output

__all__ = ["Relaying"]


class Relaying(GraphStage):
    """Passes on what a program writes to each of its named pipes."""

    is_relay = True
    reads_any_input = True

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Begin to copy."""
        ends = [(stdin, "stdout", stdout)]
        ends += [(end, port, ports.outputs[port]) for port, end in ports.inputs.items()]
        try:
            copy = RelayCopy(ctx, [(source, [(port, sink)]) for source, port, sink in ends], ports)
            return _RunningRelay(ctx, copy, ports)
        except BaseException:
            stdin.close()
            stdout.close()
            ports.close()
            raise


class _RunningRelay(RunningFunction):
    """A relay while it runs; it ends some time after its program at the latest."""

    def __init__(self, ctx: StageContext, copy: RelayCopy, ports: StagePorts) -> None:
        super().__init__(ctx, copy.run, copy)
        self._copy = copy
        self._end_timer: Timer | None = None
        for program in ports.writers():
            program.on_done(self._program_ended)

    def _program_ended(self) -> None:
        """Give processes that it has left behind the grace time. In any thread."""
        self.ctx.reactor.post(self._limit)

    def _limit(self) -> None:
        if not self.done and self._end_timer is None:
            self._end_timer = self.ctx.reactor.call_at(time.monotonic() + self.ctx.grace, self._cut)
            self.on_done(partial(self.ctx.reactor.post, self._end_timer.cancel))

    def _cut(self) -> None:
        if not self.done:
            self._copy.finish()
