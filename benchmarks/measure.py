"""Measure a work: in rounds, every contender once a round, and the median of the rounds' ratios.

The machine is never quiet. Contenders that take turns meet the same load, so a ratio is taken within each
round, and the median over the rounds counts. The order changes from round to round, so that no contender
always runs after the same one. The first round warms up and is dropped.

A work must be the same for every contender, and each checks its own result every time: a wrong count is a
`WrongResult`, not a figure.
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


class WrongResult(Exception):  # noqa: N818 - the name says what happened
    """A contender did not deliver what the work asks for."""


def expect(what: object, wanted: object) -> None:
    """Raise WrongResult unless `what` is `wanted`."""
    if what != wanted:
        raise WrongResult(f"{what!r} came, {wanted!r} was wanted")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar for Penstock against one peer.

    `time`: our time over the peer's is at most `limit`. `throughput`: the peer's time over ours is at least
    `limit`.
    """

    peer: str
    kind: Literal["time", "throughput"]
    limit: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A bar for a figure without a peer: at most `limit`, or at least with `at_least`."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Return whether `value` meets the bar."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number without a peer: its name, its value, and its bar, if any."""

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
    """A piece of work and its contenders.

    `contenders` maps a name to a function that does the work as often as one round takes and returns seconds
    per item; Penstock is among them. `volume` is the bytes that one item moves, or None if times are
    compared. `cpu` is the most that Penstock's own process may use per item, in seconds; `cpu_bar` compares
    that with the processor time that this process uses for a peer. A work that cannot be compared has a
    `probe` instead, which returns figures.
    """

    name: str
    title: str
    contenders: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    bars: tuple[Bar, ...] = ()
    volume: int | None = None
    cpu: float | None = None
    cpu_bar: Bar | None = None
    per_round: int = 1
    probe: Callable[[], list[Figure]] | None = None
    note: str = ""


def repeat(count: int, call: Callable[[], object]) -> Callable[[], float]:
    """Return a contender that calls `call` `count` times a round and returns the seconds of one call."""

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - began) / count

    return timed


def in_a_loop(count: int, make: Callable[[], Any]) -> Callable[[], float]:
    """Return a contender as `repeat` does, for an awaitable each time; starting the loop does not count."""

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
    cpu: dict[str, list[float]] = {name: [] for name in work.contenders}
    order = list(work.contenders)
    for turn in range(rounds + 1):
        for name in order:
            gc.collect()
            before = time.process_time()
            value = work.contenders[name]()
            used = (time.process_time() - before) / work.per_round
            if turn > 0:
                seconds[name].append(value)
                cpu[name].append(used)
        order = [*order[1:], order[0]]
    entry["load_after"] = os.getloadavg()[0]
    entry["seconds"] = seconds
    entry["median"] = {name: statistics.median(values) for name, values in seconds.items()}
    entry["rows"] = [_row(work, name, seconds) for name in work.contenders if name != OURS]
    entry["figures"] = []
    bar = None if work.cpu is None else Limit(work.cpu * 1000)
    own = Figure(
        "own CPU",
        statistics.median(cpu[OURS]) * 1000,
        "ms",
        bar,
        note="of the process that measures, per item",
    )
    entry["figures"].append(own.as_json())
    if work.cpu_bar is not None:
        peer, limit = work.cpu_bar.peer, Limit(work.cpu_bar.limit)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(cpu[OURS], cpu[peer], strict=True))
        entry["figures"].append(Figure(f"own CPU over that of {peer}", ratio, "x", limit).as_json())
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
