"""Memory works: what stays, what is allocated anew, and what many runs at one time hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.measure import Figure, Limit, Work
from benchmarks.probes import probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.context import Context

__all__ = ["works"]


def works(context: Context) -> Iterator[Work]:
    """Short copies, four GiB, a service, and many runs at one time."""
    copies = 1_000 if context.quick else 10_000
    size = 1 << 29 if context.quick else 1 << 32
    seconds = 5 if context.quick else 20
    amount = f"{size >> 30} GiB" if size >> 30 else f"{size >> 20} MiB"
    yield Work("copies", f"{copies:,} short copies", probe=lambda: _copies(copies))
    yield Work("resident", f"{amount} pass a Python function", probe=lambda: _resident(size))
    yield Work(
        "service",
        f"short pipelines into a Python writer, {seconds} s each",
        probe=lambda: _service(context, seconds),
        note="allocated: tracemalloc's high-water mark of each pipeline over what was live before it, summed;"
        " for go-pipe runtime.MemStats.TotalAlloc, which counts every object",
    )
    yield Work("idle", "20 runs of 5 commands at one time", probe=lambda: _idle(20))


def _copies(count: int) -> list[Figure]:
    got = probe("copies", count)
    return [
        Figure("growth per copy", got["growth"], "bytes", Limit(1024), note="tracemalloc, after a warm-up"),
        Figure(
            "pool hits", got["hits"], "%", Limit(99, at_least=True), note=f"of {got['borrowed']:.0f} borrowed"
        ),
        Figure("high-water mark", got["peak"] / 1e3, "KB"),
    ]


def _resident(size: int) -> list[Figure]:
    got = probe("resident", size)
    return [
        Figure("RSS growth", got["growth"], "MB", Limit(4), note="from a first run of 64 KiB to the peak"),
        Figure("RSS growth from before the first run", got["cold"], "MB"),
        Figure("peak RSS", got["peak"], "MB"),
    ]


def _service(context: Context, seconds: int) -> list[Figure]:
    got = probe("service", seconds)
    figures = []
    for name, label in (("pool", "with the pool"), ("no pool", "without it"), ("copyfileobj", "copyfileobj")):
        note = (
            f"{got[f'{name}: KB each']:.1f} KB a pipeline, {got[f'{name}: pipelines/s']:.0f} pipelines/s, "
            f"{got[f'{name}: collections per 1000']:.1f} collections in 1000"
        )
        figures.append(Figure(f"allocated, {label}", got[f"{name}: MB/s"], "MB/s", note=note))
    if context.go is not None:
        each, allocated = context.go.ask("service", seconds * 100)
        note = f"{allocated / 1e3:.1f} KB a pipeline, {1 / each:.0f} pipelines/s"
        figures.append(Figure("allocated, go-pipe", allocated / each / 1e6, "MB/s", note=note))
    return figures


def _idle(count: int) -> list[Figure]:
    got = probe("idle", count)
    return [
        Figure(
            "threads", got["threads"], "", note=f"for {got['commands']:.0f} commands, the main one counted"
        ),
        Figure("descriptors a run", got["descriptors"], ""),
        Figure("RSS a run", got["KB"], "KB"),
    ]
