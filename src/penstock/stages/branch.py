"""A branch of a graph: where a stage writes besides its stdout."""

from __future__ import annotations

import os

from penstock.core.constants import DEVNULL
from penstock.core.file_targets import atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from penstock.stages.running import Running
    from penstock.streams.spool import SpoolBudget
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.fds import Fd

    class StagePorts(Protocol):
        """The ends of one stage besides its stdin and stdout; see `engine.graph_pipes`."""

        inputs: dict[str, Input]
        outputs: dict[str, Output]
        ends: dict[str, Input | Output]
        budget: SpoolBudget

        def elastic(self, port: str) -> bool: ...
        def reader(self, port: str) -> str: ...
        def join_waits(self, port: str) -> bool: ...
        def who_waits(self, port: str) -> str: ...
        def writers(self) -> list[Running]: ...
        def watch(self, port: str, fd: Fd) -> None: ...
        def on_reader_done(self, callback: Callable[[], None]) -> None: ...
        def file_feeds(self) -> list[Running]: ...
        def outcome_of_files(self) -> tuple[bool, BaseException | None]: ...
        def name_at(self, port: str) -> str: ...
        def close(self) -> None: ...


__all__ = ["Branch"]


class Branch:
    """The stages of a branch, and what takes the output of the last one.

    `pipeline` is None if the bytes go straight to that. `options` are `stdout` and `max_output`.
    """

    __slots__ = ("name", "options", "pipeline")

    def __init__(self, name: str, pipeline: Any, options: Mapping[str, Any]) -> None:
        self.name = name
        self.pipeline = pipeline
        self.options = options

    @property
    def is_plain_file(self) -> bool:
        """Whether the bytes go straight to DEVNULL or to a file that the run makes, or makes empty."""
        target = self.options["stdout"]
        return self.pipeline is None and (target is DEVNULL or isinstance(target, str | os.PathLike | atomic))

    def __repr__(self) -> str:
        target = self.options.get("stdout")
        return repr(target) if self.pipeline is None else f"{self.pipeline!r}.to({target!r})"
