"""Sum up the looks at a run in the last seconds: how often each edge was full, and how fast counters grew.

Looks come as often as somebody asks. They are summed up in slots of a tenth of a second, so that memory and
time do not depend on how often that is. A look that finds an older one forgets it, so nothing has to be
tidied up.

A rate is the growth since the oldest slot that is kept: for the last 3 seconds if looks come that often, else
since the look before, and at the first look since the start of the run.
"""

from __future__ import annotations

from collections import deque

from penstock.core.bottleneck import EMPTY, FULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SPAN_S", "LookHistory"]

SPAN_S = 3.0
"""Seconds that a judgement is about."""
_SLOT_S = 0.1
_MIN_RATE_SPAN_S = 0.001


class _Slot:
    """The looks of a tenth of a second. `counters` are those of the first of them."""

    __slots__ = ("began", "counters", "empty", "full", "looks")

    def __init__(self, began: float, counters: Sequence[float | None], edges: int) -> None:
        self.began = began
        self.counters = counters
        self.looks = 0
        self.full = [0] * edges
        self.empty = [0] * edges


class LookHistory:
    """The looks at one run. Times are in seconds, by one clock that never goes back."""

    def __init__(self, edges: int, began: float, counters: Sequence[float | None]) -> None:
        """`began` is when the run began, and `counters` what they were then; None if that is not known."""
        self._edges = edges
        self._slots = deque([_Slot(began, counters, edges)])
        self._counters = counters
        self._now = began

    def add(self, now: float, states: Sequence[str | None], counters: Sequence[float | None]) -> None:
        """Add a look: the state of each edge, and the counters, None for one that is not known."""
        self._now, self._counters = now, counters
        slots = self._slots
        while len(slots) > 1 and slots[1].began <= now - SPAN_S:
            slots.popleft()
        slot = slots[-1]
        if now - slot.began >= _SLOT_S or not slot.looks:
            slot = _Slot(now, counters, self._edges)
            slots.append(slot)
        slot.looks += 1
        for place, state in enumerate(states):
            if state == FULL:
                slot.full[place] += 1
            elif state == EMPTY:
                slot.empty[place] += 1

    def shares(self, edge: int) -> tuple[float, float]:
        """Return the shares of the looks that saw an edge full, and empty; 0 and 0 without any look."""
        looks = full = empty = 0
        for slot in self._recent():
            looks += slot.looks
            full += slot.full[edge]
            empty += slot.empty[edge]
        return (full / looks, empty / looks) if looks else (0.0, 0.0)

    def judge(self, edge: int) -> str | None:
        """Return what an edge was more often, FULL or EMPTY; None if neither."""
        full, empty = self.shares(edge)
        return None if full == empty else FULL if full > empty else EMPTY

    def rate(self, counter: int) -> float | None:
        """Return how much a counter grew a second; None while that is not known."""
        value = self._counters[counter]
        if value is None:
            return None
        for slot in self._slots:
            before, seconds = slot.counters[counter], self._now - slot.began
            if seconds < _MIN_RATE_SPAN_S:
                return None
            if before is not None:
                return max(0.0, (value - before) / seconds)
        return None

    def _recent(self) -> list[_Slot]:
        oldest = self._now - SPAN_S - _SLOT_S
        return [slot for slot in self._slots if slot.began >= oldest]
