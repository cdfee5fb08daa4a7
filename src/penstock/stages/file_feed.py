"""The stage between a source and a program that reads a whole file (`reading(via="file")`): it writes that.

The file is in the folder of the run, for its owner only, and the program is started when it is complete.
"""

from __future__ import annotations

import os

from penstock.stages.graph_stage import GraphStage
from penstock.stages.running_function import RunningFunction
from penstock.streams.copy import copy_stream
from penstock.streams.fd_streams import FdWriter
from penstock.system.fds import open_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.stage_ends import Input, Output

__all__ = ["FileFeed"]


class FileFeed(GraphStage):
    """Copies its input into a new file."""

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Begin to copy."""
        stdout.close()  # /dev/null, in the place of the file
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            fd = open_path(ports.name_at("stdout"), flags, 0o600)
            writer = FdWriter(fd, owned_description=True)
            reader = stdin.reader
        except BaseException:
            stdin.close()
            raise

        def copy() -> None:
            copy_stream(reader, writer)

        return RunningFunction(ctx, copy, writer, reader)
