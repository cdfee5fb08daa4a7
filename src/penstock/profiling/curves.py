"""The sections of a report that a profile adds: the timeline, and a chart for each stage and figure."""

from __future__ import annotations

from penstock.core.sizes import binary_size
from penstock.profiling.charts import area_of, bar, chart, curve_of, nice_top, steps_of
from penstock.profiling.markup import seconds, text
from penstock.profiling.series import levels, phases, rates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from penstock.core.profile import Profile
    from penstock.core.result import Result
    from penstock.profiling.series import Step

__all__ = ["cpu_charts", "memory_charts", "throughput_charts", "timeline"]

_MAX_NAMES = 12
"""Names that the sentence about stages without a chart lists."""


def timeline(result: Result, profile: Profile) -> str:
    """Return a bar for each stage, from its start to its end, with its states."""
    times = [sample.elapsed for sample in profile.samples]
    rows, seen = [], {"running"}
    for index, (stage, span) in enumerate(zip(result.stages, profile.spans, strict=True)):
        name = text(f"{index + 1} {stage.name}")
        if span is None:
            never = '<span></span><span class="time">never ran</span>'
            rows.append(f'<li><span class="name">{name}</span>{never}</li>')
            continue
        parts = phases(times, [sample.states[index] for sample in profile.samples], span)
        seen |= {state for _, _, state in parts}
        told = f"{seconds(span[0])} to {seconds(span[1])}"
        rows.append(
            f'<li><span class="name" title="{name}">{name}</span>'
            f"{bar(f'{index + 1} {stage.name}: {told}', parts, result.elapsed)}"
            f'<span class="time">{text(told)}</span></li>'
        )
    return f'{_legend(seen)}\n<ol class="rows">\n' + "\n".join(rows) + "\n</ol>"


def cpu_charts(result: Result, profile: Profile) -> str:
    """Return a chart of the cores that each stage kept busy."""
    found = {
        index: steps
        for index in range(len(result.stages))
        if (steps := _rates(profile, index, [sample.cpu[index] for sample in profile.samples]))
    }
    top = nice_top(_most(found.values()))
    figures = []
    for index, steps in found.items():
        paths = [
            ("area", area_of(steps, top, result.elapsed)),
            ("line", steps_of(steps, top, result.elapsed)),
        ]
        total = sum((end - start) * value for start, end, value in steps)
        told = f"{seconds(total)} in all, at most {_most([steps]):.2f} cores"
        figures.append(_figure(result, index, told, paths, top, lambda value: f"{value:g}"))
    why = "The processor time of stages that run in this program is not known apart"
    return _all(result, "Cores kept busy, with the processes that a stage has started.", figures, found, why)


def memory_charts(result: Result, profile: Profile) -> str:
    """Return a chart of the resident memory of each stage."""
    times = [sample.elapsed for sample in profile.samples]
    found = {
        index: pieces
        for index in range(len(result.stages))
        if (pieces := levels(times, [sample.rss[index] for sample in profile.samples]))
    }
    most = max((value for pieces in found.values() for piece in pieces for _, value in piece), default=0)
    top = nice_top(most, 2)
    figures = []
    for index, pieces in found.items():
        told = f"at most {binary_size(max(value for piece in pieces for _, value in piece))}"
        paths = [("line", curve_of(pieces, top, result.elapsed))]
        figures.append(_figure(result, index, told, paths, top, binary_size))
    why = "Nobody looked while these ran, or they run in this program"
    return _all(result, "Resident memory, with the processes that a stage has started.", figures, found, why)


def throughput_charts(result: Result, profile: Profile) -> str:
    """Return a chart of the bytes a second that went into and out of each stage."""
    found = {}
    for index in range(len(result.stages)):
        read = _rates(profile, index, [sample.bytes_in[index] for sample in profile.samples])
        written = _rates(profile, index, [sample.bytes_out[index] for sample in profile.samples])
        if read or written:
            found[index] = read, written
    top = nice_top(_most(steps for pair in found.values() for steps in pair), 2)
    last = profile.samples[-1]
    figures = []
    for index, (read, written) in found.items():
        paths = [
            ("line", steps_of(read, top, result.elapsed)),
            ("line out", steps_of(written, top, result.elapsed)),
        ]
        counts = (("in", last.bytes_in[index]), ("out", last.bytes_out[index]))
        told = ", ".join(f"{binary_size(count)} {way}" for way, count in counts if count is not None)
        figures.append(_figure(result, index, told, paths, top, lambda value: f"{binary_size(value)}/s"))
    why = "The kernel carries the bytes of these past Penstock"
    intro = "Bytes a second: a full line for the input, a dashed one for the output."
    return _all(result, intro, figures, found, why)


def _rates(profile: Profile, index: int, counts: Sequence[float | None]) -> list[Step]:
    span = profile.spans[index]
    times = [sample.elapsed for sample in profile.samples]
    return [] if span is None else rates(times, counts, span[1])


def _most(series: Iterable[Sequence[Step]]) -> float:
    return max((value for steps in series for _, _, value in steps), default=0.0)


def _figure(  # noqa: PLR0913 - all that a figure shows
    result: Result,
    index: int,
    told: str,
    paths: Sequence[tuple[str, str]],
    top: float,
    show: Callable[[float], str],
) -> str:
    name = f"{index + 1} {result.stages[index].name}"
    svg = chart(f"{name}: {told}", paths, top, result.elapsed, show)
    return f"<figure><figcaption><b>{text(name)}</b>: {text(told)}</figcaption>{svg}</figure>"


def _all(result: Result, intro: str, figures: Sequence[str], found: Container[int], why: str) -> str:
    missing = [f"{place + 1} {stage.name}" for place, stage in enumerate(result.stages) if place not in found]
    more = len(missing) - _MAX_NAMES
    names = ", ".join(missing[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
    parts = [f"<p>{text(intro)}</p>"] if figures else []
    parts += ['<div class="charts">', *figures, "</div>"] if figures else []
    parts += [f'<p class="soft">{text(f"{why}: {names}.")}</p>'] if missing else []
    return "\n".join(parts)


def _legend(states: set[str]) -> str:
    meanings = {
        "running": "at work",
        "reading": "waits for input",
        "writing": "waits for room in its output",
        "stopped": "stopped by a signal",
    }
    items = "".join(
        f'<li><span class="key {state}{"" if state == "running" else " thin"}"></span>{meaning}</li>'
        for state, meaning in meanings.items()
        if state in states
    )
    return f'<ul class="legend">{items}</ul>'
