"""How a work is measured: in rounds, every contender once a round, and the median of the rounds' ratios.

The machine is never quiet. Contenders that take turns meet the same weather, so a ratio is taken within each
round, and the median over the rounds is what counts; the order changes from round to round, so that nobody
always runs in the wake of the same neighbour. The first round warms up and is dropped.

What a work does must be the same for every contender, and each checks its own result every time: a wrong
count is a `WrongResult`, not a figure.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Bar", "Figure", "Limit", "Work", "WrongResult", "expect", "in_a_loop", "measure", "repeat"]

OURS = "Penstock"


class WrongResult(Exception):  # noqa: N818 - it is one, whatever it is called
    """A contender did not deliver what the work asks for."""


def expect(what: object, wanted: object) -> None:
    """WrongResult unless `what` is `wanted`."""
    if what != wanted:
        raise WrongResult(f"{what!r} came, {wanted!r} was wanted")


@dataclass(frozen=True, slots=True)
class Bar:
    """What is asked of Penstock against one peer.

    `time`: our time over the peer's is at most `limit`. `throughput`: the peer's time over ours is at least
    `limit`.
    """

    peer: str
    kind: Literal["time", "throughput"]
    limit: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What is asked of a figure that has no peer; `at_least` instead of at most where it says so."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that stands for itself: what, how much, and where there is one, the bar."""

    label: str
    value: float
    unit: str
    bar: Limit | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The figure as it goes into the results."""
        return {
            "label": self.label,
            "value": self.value,
            "unit": self.unit,
            "bar": None if self.bar is None else str(self.bar),
            "pass": None if self.bar is None else self.bar.met(self.value),
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work and who does it.

    `contenders` maps a name to a function that does the work as often as one round takes and returns seconds
    per item; Penstock is among them. `volume` is the bytes that one item moves, or None where time is what
    is compared. `cpu` is the most that Penstock's own process may use per item, in seconds. A work that
    cannot be compared has a `probe` instead, which returns figures.
    """

    name: str
    title: str
    contenders: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    bars: tuple[Bar, ...] = ()
    volume: int | None = None
    cpu: float | None = None
    per_round: int = 1
    probe: Callable[[], list[Figure]] | None = None
    note: str = ""


def repeat(count: int, call: Callable[[], object]) -> Callable[[], float]:
    """`call`, done `count` times a round: the seconds of one."""

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - began) / count

    return timed


def in_a_loop(count: int, make: Callable[[], Any]) -> Callable[[], float]:
    """As `repeat`, for an awaitable each time; that a loop is started is not part of the time."""

    async def timed() -> float:
        began = time.perf_counter()
        for _ in range(count):
            await make()
        return (time.perf_counter() - began) / count

    return lambda: asyncio.run(timed())


def measure(work: Work, rounds: int) -> dict[str, Any]:
    """Measure one work and return its entry of the results."""
    entry: dict[str, Any] = {"name": work.name, "title": work.title, "note": work.note, "volume": work.volume}
    entry["load_before"] = os.getloadavg()[0]
    if work.probe is not None:
        entry["figures"] = [figure.as_json() for figure in work.probe()]
        return entry
    seconds: dict[str, list[float]] = {name: [] for name in work.contenders}
    cpu: list[float] = []
    order = list(work.contenders)
    for turn in range(rounds + 1):
        for name in order:
            gc.collect()
            before = time.process_time()
            value = work.contenders[name]()
            used = (time.process_time() - before) / work.per_round
            if turn > 0:
                seconds[name].append(value)
                if name == OURS:
                    cpu.append(used)
        order = [*order[1:], order[0]]
    entry["load_after"] = os.getloadavg()[0]
    entry["seconds"] = seconds
    entry["median"] = {name: statistics.median(values) for name, values in seconds.items()}
    entry["rows"] = [_row(work, name, seconds) for name in work.contenders if name != OURS]
    entry["figures"] = []
    bar = None if work.cpu is None else Limit(work.cpu * 1000)
    own = Figure(
        "own CPU", statistics.median(cpu) * 1000, "ms", bar, note="of the process that measures, per item"
    )
    entry["figures"].append(own.as_json())
    return entry


def _row(work: Work, peer: str, seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    bar = next((bar for bar in work.bars if bar.peer == peer), None)
    kind = bar.kind if bar is not None else "time" if work.volume is None else "throughput"
    pairs = list(zip(seconds[OURS], seconds[peer], strict=True))
    ratios = [ours / theirs if kind == "time" else theirs / ours for ours, theirs in pairs]
    ratio = statistics.median(ratios)
    met = None
    if bar is not None:
        met = Limit(bar.limit, at_least=kind == "throughput").met(round(ratio, 3))
    return {
        "peer": peer,
        "kind": kind,
        "ratio": ratio,
        "spread": [min(ratios), max(ratios)],
        "bar": None if bar is None else str(Limit(bar.limit, at_least=kind == "throughput")),
        "pass": met,
    }
