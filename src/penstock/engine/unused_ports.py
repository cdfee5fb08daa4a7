"""Release ports whose stage was not started. Each call is idempotent."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.tree import StageRun

__all__ = ["release_sink", "release_source"]


def release_source(port: StdinPort, reader: StageRun) -> None:
    """Close the end of a port if the stage that was to read it was not started."""
    if reader.running is None:
        port.input.close()


def release_sink(port: StdoutPort, writer: StageRun) -> None:
    """Close the end of a port if the stage that was to write to it was not started, and drain the port."""
    if writer.running is None:
        port.output.close()
    try:
        port.start()
    except RuntimeError:  # there is no thread for it
        port.abandon()
