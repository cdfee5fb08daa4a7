"""Sum up the looks at a run in the last seconds: how often each edge was full, and how fast counters grew.

Looks come as often as somebody asks. They are summed up in slots of a tenth of a second, so that memory and
time do not depend on how often that is. Each slot counts the same, so a burst of looks is not worth more than
the time that it takes. A look forgets the slots that are too old, so nothing has to be tidied up.

A rate is the growth since the oldest slot that is kept: for the last 3 seconds if looks come that often, else
since the look before, and at the first look since the start of the run.
"""

from __future__ import annotations

from collections import deque

from penstock.core.bottleneck import EMPTY, FULL
from penstock.core.timing import timing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LookHistory"]

_SLOT_S = 0.1
_MIN_RATE_SPAN_S = 0.001
_ROUNDING = 1e-9
"""A difference of shares below this is one of sums of floats."""


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
        # The sums of the shares of all slots that count, but for the last one.
        self._counting = 0
        self._full = [0.0] * edges
        self._empty = [0.0] * edges

    def add(self, now: float, states: Sequence[str | None], counters: Sequence[float | None]) -> None:
        """Add a look: the state of each edge, and the counters, None for one that is not known."""
        self._now, self._counters = now, counters
        slot = self._slots[-1]
        if now - slot.began >= _SLOT_S or not slot.looks:
            self._sum_up(slot, 1)
            slot = _Slot(now, counters, self._edges)
            self._slots.append(slot)
            self._forget_before(now - timing.look_span_s)
        slot.looks += 1
        for place, state in enumerate(states):
            if state == FULL:
                slot.full[place] += 1
            elif state == EMPTY:
                slot.empty[place] += 1

    def shares(self, edge: int) -> tuple[float, float]:
        """Return the shares of the time that an edge was full, and empty; 0 and 0 without any look."""
        last = self._slots[-1]
        if not last.looks:
            return 0.0, 0.0
        slots = self._counting + 1
        full = (self._full[edge] + last.full[edge] / last.looks) / slots
        empty = (self._empty[edge] + last.empty[edge] / last.looks) / slots
        return max(0.0, full), max(0.0, empty)

    def judge(self, edge: int) -> str | None:
        """Return what an edge was for longer, FULL or EMPTY; None if neither."""
        full, empty = self.shares(edge)
        return None if abs(full - empty) < _ROUNDING else FULL if full > empty else EMPTY

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

    def _forget_before(self, oldest: float) -> None:
        """Forget what was before `oldest`; the last slot before that is kept for the sake of rates."""
        slots = self._slots
        while slots[1].began <= oldest:
            self._sum_up(slots.popleft(), -1)
        if slots[0].began < oldest - _SLOT_S:
            self._sum_up(slots[0], -1)
            slots[0].looks = 0

    def _sum_up(self, slot: _Slot, sign: int) -> None:
        """Add the shares of a slot to the sums, or take them out of these."""
        if not slot.looks:
            return
        self._counting += sign
        part = sign / slot.looks
        for place in range(self._edges):
            self._full[place] += slot.full[place] * part
            self._empty[place] += slot.empty[place] * part
