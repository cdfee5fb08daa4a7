"""The option that `memory_limit` and `memory_observer` set on the pipeline around a stage.

Out of scope: sampling, see `limits.memory_sampler`.
"""

from __future__ import annotations

from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.events import Event

__all__ = ["MemoryWatch"]


@exported
class MemoryWatch:
    """The wanted watch of a pipeline's memory.

    `limit` is in bytes, None for an observer. `longest` is the most seconds between two samples.
    """

    __slots__ = ("limit", "longest", "name", "on_event")

    def __init__(
        self,
        name: str,
        limit: int | None,
        on_event: Callable[[Event], object] | None,
        longest: float,
    ) -> None:
        self.name = name
        self.limit = limit
        self.on_event = on_event
        self.longest = longest

    def show(self, watched: str) -> str:
        """Return how the pipeline around `watched` is written."""
        if self.limit is None:
            return f"memory_observer({watched})"
        return f"memory_limit({watched}, {self.limit})"
