"""A profile as a trace in the JSON format of Chrome, which Perfetto and other viewers read.

The run is a process, and each stage a thread of it, so that a viewer shows the stages one below the other, in
their order. The format has a phase for each event: `M` names processes and threads, `X` is a slice with a
duration, `C` is a counter that holds until its next event, and `i` is an instant. Times are in microseconds
since the start of the run.

Out of scope: writing the file (`profiling.files`).
"""

from __future__ import annotations

from penstock.core.errors import text_of
from penstock.core.printable import printable
from penstock.profiling.series import rates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from penstock.core.profile import Profile
    from penstock.core.result import Result, StageResult

__all__ = ["trace_of"]

_RUN = 1
"""The number of the process in the trace. The pids of commands are in the arguments of their slices."""


def trace_of(result: Result) -> dict[str, Any]:
    """Return the trace of a run as a dict for json.dumps; ValueError if the run had no profile."""
    profile = result.profile
    if profile is None:
        raise ValueError("this result has no profile, so a trace of it is empty: run with profile=True")
    events = [*_slices(result, profile), *_counters(result, profile)]
    if result.error is not None:
        events.append(
            {"name": "failed", "ph": "i", "s": "p", "ts": _us(result.elapsed), "pid": _RUN, "tid": 0}
            | {"args": {"error": _text(text_of(result.error))}}
        )
    return {
        "traceEvents": [*_names(result), *sorted(events, key=lambda event: float(event["ts"]))],
        "displayTimeUnit": "ms",
        "otherData": {"began": profile.began, "ok": result.ok},
    }


def _names(result: Result) -> Iterator[dict[str, Any]]:
    names = " | ".join(stage.name for stage in result.stages)
    yield _meta("process_name", 0, {"name": _text(names)})
    yield _meta("thread_name", 0, {"name": "the run"})
    yield _meta("thread_sort_index", 0, {"sort_index": 0})
    for place, stage in enumerate(result.stages, 1):
        yield _meta("thread_name", place, {"name": _label(place, stage)})
        yield _meta("thread_sort_index", place, {"sort_index": place})


def _slices(result: Result, profile: Profile) -> Iterator[dict[str, Any]]:
    yield _slice("run", "run", 0, (0.0, result.elapsed), {"ok": result.ok})
    for place, (stage, span) in enumerate(zip(result.stages, profile.spans, strict=True), 1):
        if span is not None:
            yield _slice(stage.name, stage.kind, place, span, _facts(stage))


def _slice(
    name: str, category: str, thread: int, span: tuple[float, float], args: dict[str, Any]
) -> dict[str, Any]:
    start, end = map(_us, span)
    return {
        "name": _text(name),
        "cat": category,
        "ph": "X",
        "ts": start,
        "dur": round(end - start, 3),
        "pid": _RUN,
        "tid": thread,
        "args": args,
    }


def _facts(stage: StageResult) -> dict[str, Any]:
    facts = {
        name: getattr(stage, name)
        for name in ("pid", "returncode", "user_time", "system_time", "max_rss", "branch")
    }
    if stage.error is not None:
        facts["error"] = _text(text_of(stage.error) or type(stage.error).__name__)
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _counters(result: Result, profile: Profile) -> Iterator[dict[str, Any]]:
    samples = profile.samples
    times = [sample.elapsed for sample in samples]
    for index, (stage, span) in enumerate(zip(result.stages, profile.spans, strict=True)):
        place, end = index + 1, None if span is None else span[1]
        label = _label(place, stage)
        cpu = rates(times, [sample.cpu[index] for sample in samples], end)
        for start, _, cores in cpu:
            yield _counter(f"CPU of {label}", place, start, {"cores": round(cores, 4)})
        if cpu:
            yield _counter(f"CPU of {label}", place, cpu[-1][1], {"cores": 0})
        yield from _levels(
            f"RSS of {label}", place, times, {"bytes": [sample.rss[index] for sample in samples]}
        )
        read = [sample.bytes_in[index] for sample in samples]
        written = [sample.bytes_out[index] for sample in samples]
        yield from _levels(f"bytes of {label}", place, times, {"in": read, "out": written})


def _levels(
    name: str, place: int, times: Sequence[float], series: dict[str, Sequence[int | None]]
) -> Iterator[dict[str, Any]]:
    for index, when in enumerate(times):
        known = {key: values[index] for key, values in series.items() if values[index] is not None}
        if known:
            yield _counter(name, place, when, known)


def _counter(name: str, thread: int, when: float, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "C", "ts": _us(when), "pid": _RUN, "tid": thread, "args": args}


def _meta(name: str, thread: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "ts": 0, "pid": _RUN, "tid": thread, "args": args}


def _label(place: int, stage: StageResult) -> str:
    """Return the name of a stage with its place, because names may recur and counters are known by theirs."""
    return _text(f"{place} {stage.name}")


def _text(text: str) -> str:
    return printable(text, keep="")


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
