"""Results made by hand, for the tests of what shows them."""

from __future__ import annotations

import signal

from penstock import ExitError, PipelineError, Result, StageResult
from penstock.core.profile import Sample, make_profile
from penstock.core.result import EdgeResult

__all__ = ["FAILED", "HOSTILE", "line_of", "plain"]


def line_of(count: int, seconds: float = 10.0, samples: int = 200) -> Result:
    """Return the result of a line of so many commands, with a profile."""
    stages = tuple(
        StageResult(
            f"stage {place}",
            "command",
            1000 + place,
            0,
            user_time=seconds / 2,
            system_time=0.0,
            max_rss=(place + 1) << 20,
            elapsed=seconds,
            id=f"s{place}",
        )
        for place in range(count)
    )
    ids = ["stdin", *(stage.id for stage in stages), "stdout"]
    names = ["stdin", *(stage.name for stage in stages), "stdout"]
    edges = tuple(
        EdgeResult(names[place], names[place + 1], "memory", 10**6, ids[place], ids[place + 1])
        for place in range(count + 1)
    )
    taken = [
        Sample(
            seconds * part,
            ("running",) * count,
            tuple(seconds * part / 2 for _ in stages),
            tuple((place + 1) << 20 for place in range(count)),
            (int(10**6 * part),) * count,
            (int(10**6 * part),) * count,
        )
        for part in (place / samples for place in range(1, samples))
    ]
    spans = [(0.0, seconds)] * count
    profile = make_profile(1.7e9, seconds, spans, taken, stages, edges)
    return Result(None, seconds, stages, edges, profile=profile)


NASTY = "<script>alert(1)</script>\x1b[31m&\"'\u202e"


def _failed(name: str, stderr: bytes) -> Result:
    cause = ExitError(3, [name], stderr)
    sigpipe = ExitError(-signal.SIGPIPE, ["yes"])
    stages = (
        StageResult(
            "yes", "command", 10, -13, 13, sigpipe, elapsed=0.5, user_time=0.1, system_time=0.2, id="a"
        ),
        StageResult(name, "command", 11, 3, None, cause, stderr, 0.01, 0.02, 5 << 20, 0.5, id="b"),
        StageResult("upper", "function", elapsed=0.5, id="c"),
    )
    edges = (
        EdgeResult("stdin", "yes", "discard", None, "stdin", "a"),
        EdgeResult("yes", name, "os-pipe", None, "a", "b"),
        EdgeResult(name, "upper", "os-pipe", 4096, "b", "c"),
        EdgeResult("upper", "stdout", "capture", 4096, "c", "stdout"),
    )
    error = PipelineError(name, cause, index=1)
    spans = [(0.0, 0.4), (0.01, 0.5), (0.02, 0.5)]
    return Result(error, 0.51, stages, edges, b"", (), make_profile(1.7e9, 0.51, spans, (), stages, edges))


FAILED = _failed("head", b"one\ntwo\nno such file\n")
"""The second stage failed with status 3, and the first one died of SIGPIPE."""
HOSTILE = _failed(NASTY, NASTY.encode() + b"\xff\n</pre>\n")
"""The same with a name and a stderr that a page must not obey."""


def plain(result: Result) -> Result:
    """Return the result of the same run without a profile."""
    return Result(result.error, result.elapsed, result.stages, result.edges, result.stdout, result.outputs)
