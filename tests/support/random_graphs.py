"""Random graphs with a reference in plain Python: what each output holds, and which stage fails.

A graph is built from its sources to its outputs. Each step adds stages, and does the same to lists of lines.
Everything follows from the seed. Out of scope: running it (`tests/robustness/test_random_graphs.py`).
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from penstock import (
    FinishEarly,
    Pipeline,
    command,
    concat,
    filter_lines,
    function,
    map_lines,
    merge,
    reading,
    shared,
    source,
    tee,
    transform,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["Flow", "RandomGraph"]

Lines = list[bytes]

MOST_NODES = 12
SIZES = (0, 3, 200, 200, 2000, 2000, 2000, 20_000, 20_000, 120_000)
"""Lines of a source; the last of them are more than all pipes and windows of a branch hold."""


@dataclass
class Flow:
    """Lines that leave a pipeline. `ordered`: their order is known.

    `fragile`: a program upstream writes to branches too, and would die if somebody left early.
    """

    lines: Lines
    ordered: bool = True
    fragile: bool = False


@dataclass
class Expected:
    """The bytes of one output, as lines; in any order if they are not `ordered`."""

    lines: Lines
    ordered: bool

    def matches(self, data: bytes) -> bool:
        """Tell whether an output is right."""
        found = data.splitlines(keepends=True)
        return found == self.lines if self.ordered else sorted(found) == sorted(self.lines)


@dataclass
class RandomGraph:
    """One graph: `pipeline` to run with `options`, and all that is expected of it."""

    seed: int
    folder: Path
    branches: dict[str, Expected] = field(default_factory=dict)
    files: dict[Path, Expected] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)
    """The names of the stages that fail."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.nested = False
        self.bytes = 0
        """The bytes of all sources."""
        self._room = self.rng.randint(2, MOST_NODES)
        self._numbers = itertools.count(1)
        self._shared: list[tuple[Pipeline, Flow]] = []
        # A `tac` that is killed leaves its temporary file, which is not ours.
        env = {"LC_ALL": "C", "TMPDIR": str(self.folder)}
        self.options: dict[str, Any] = {"env": env, "grace": 0.5}
        if self.rng.random() < 0.3:
            self.options["pipe_size"] = 4096
        self.pipeline, flow = self._expression(0)
        self.stdout = Expected(flow.lines, flow.ordered)

    def _expression(self, depth: int) -> tuple[Pipeline, Flow]:
        """Return a pipeline that nothing reads yet."""
        self._room -= 1
        kind = self.rng.choice(
            ("line", "line", "merge", "concat", "paste", "comm", "cat", "shared", "shared")
        )
        if depth > 2 or self._room < 2:
            kind = "line"
        if kind == "shared":
            pipeline, flow = self._use_shared(depth)
        elif kind == "line":
            pipeline, flow = self._source()
        else:
            pipeline, flow = self._join(kind, depth)
        return self._extended(pipeline, flow)

    def _source(self) -> tuple[Pipeline, Flow]:
        size = self.rng.choice(SIZES)
        lines = [b"%d\n" % number for number in range(1, size + 1)]
        self.bytes += sum(map(len, lines))
        kind = self.rng.choice(("seq", "input", "python"))
        if kind == "seq":
            return Pipeline(command("seq", str(size))), Flow(lines)
        if kind == "input":
            return Pipeline(command("cat"), input=b"".join(lines)), Flow(lines)
        blocks = [b"".join(lines[start : start + 500]) for start in range(0, size, 500)]
        return Pipeline(source(blocks)), Flow(lines)

    def _use_shared(self, depth: int) -> tuple[Pipeline, Flow]:
        if not self._shared or self.rng.random() < 0.3:
            pipeline, flow = self._expression(depth + 1)
            pipeline = shared(pipeline)
            self._shared.append((pipeline, flow))
        else:
            pipeline, flow = self.rng.choice(self._shared)
        return pipeline, Flow(flow.lines, flow.ordered, flow.fragile)

    def _join(self, kind: str, depth: int) -> tuple[Pipeline, Flow]:
        count = 2 if kind == "comm" else self.rng.randint(1, 3)
        parts = [self._expression(depth + 1) for _ in range(count)]
        if kind in ("paste", "comm"):
            parts = [self._sorted(*part) for part in parts]
        flows = [flow for _, flow in parts]
        pipelines = [pipeline for pipeline, _ in parts]
        fragile = any(flow.fragile for flow in flows)
        ordered = all(flow.ordered for flow in flows)
        together = [line for flow in flows for line in flow.lines]
        if kind == "merge":
            return merge(*pipelines), Flow(together, ordered=False, fragile=fragile)
        if kind == "concat":
            return concat(*pipelines), Flow(together, ordered, fragile)
        names = [reading(each, via=self.rng.choice(("fd", "fd", "fifo"))) for each in pipelines]
        if kind == "cat":
            return Pipeline(command("cat", *names)), Flow(together, ordered, fragile)
        if kind == "paste":
            rows = zip_longest(*(flow.lines for flow in flows), fillvalue=b"\n")
            lines = [b"\t".join(cell[:-1] for cell in row) + b"\n" for row in rows]
            return Pipeline(command("paste", *names)), Flow(lines, fragile=fragile)
        lines = list(_common(flows[0].lines, flows[1].lines))
        return Pipeline(command("comm", "-12", "--nocheck-order", *names)), Flow(lines, fragile=fragile)

    def _sorted(self, pipeline: Pipeline, flow: Flow) -> tuple[Pipeline, Flow]:
        """Make the order of the lines known."""
        if flow.ordered:
            return pipeline, flow
        self._room -= 1
        return pipeline.then(command("sort")), Flow(sorted(flow.lines, key=_text))

    def _extended(self, pipeline: Pipeline, flow: Flow, *, outlets: bool = True) -> tuple[Pipeline, Flow]:
        """Add some stages to the end of a pipeline."""
        for _ in range(self.rng.randint(0, 3)):
            if self._room < 1:
                break
            self._room -= 1
            draw = self.rng.random() if outlets else 1.0
            if draw < 0.25:
                branches = [self._branch(flow) for _ in range(self.rng.randint(1, 3))]
                pipeline = pipeline.then(tee(*branches))
            elif draw < 0.35:
                flow = Flow(flow.lines, flow.ordered, fragile=True)
                names = [writing(self._branch(flow)) for _ in range(self.rng.randint(1, 2))]
                pipeline = pipeline.then(command("tee", *names))
            else:
                stage, flow = self._filter(flow)
                if self.rng.random() < 0.15:
                    self.nested = True
                    stage = Pipeline(stage, command("cat"), cwd="/")
                pipeline = pipeline.then(stage)
        return pipeline, flow

    def _branch(self, flow: Flow) -> Any:
        """Return a branch that gets these lines."""
        number = next(self._numbers)
        path = self.folder / f"{self.seed}-{number}"
        if self.rng.random() < 0.3:
            self.files[path] = Expected(flow.lines, flow.ordered)
            return path
        self._room -= 1
        stage, found = self._filter(flow)
        pipeline, found = self._extended(Pipeline(stage), found, outlets=self._room > 2)
        if self.rng.random() < 0.3:
            self.files[path] = Expected(found.lines, found.ordered)
            return pipeline.to(path)
        name = f"branch-{number}"
        self.branches[name] = Expected(found.lines, found.ordered)
        return pipeline.replace(name=name)

    def _filter(self, flow: Flow) -> tuple[Any, Flow]:
        """Return a stage, and what becomes of the lines."""
        makers: list[Callable[[Flow], tuple[Any, Flow]]] = [self._mapping, self._keeping, self._sorting]
        if flow.ordered:
            makers.append(self._reversing)
            if not flow.fragile:
                makers += [self._leaving, self._leaving, self._failing]
        return self.rng.choice(makers)(flow)

    def _mapping(self, flow: Flow) -> tuple[Any, Flow]:
        kind = self.rng.choice(("cat", "sed", "map", "slow", "copy"))
        if kind == "cat":
            return command("cat"), flow
        if kind == "slow":
            return transform(_slowly), flow
        if kind == "copy":
            return function(_copy), flow
        lines = [b"x" + line for line in flow.lines]
        stage = command("sed", "s/^/x/") if kind == "sed" else map_lines(_with_x)
        return stage, Flow(lines, flow.ordered, flow.fragile)

    def _keeping(self, flow: Flow) -> tuple[Any, Flow]:
        mark = self.rng.choice((b"7", b"77", b"nothing", b"1"))
        stage: Any = command("grep", mark, ok_codes=(0, 1))
        if self.rng.random() < 0.4:
            stage = filter_lines(lambda line: mark in line)
        return stage, Flow([line for line in flow.lines if mark in line], flow.ordered, flow.fragile)

    def _sorting(self, flow: Flow) -> tuple[Any, Flow]:
        if self.rng.random() < 0.3:
            return function(_sort), Flow(sorted(flow.lines, key=_text))
        if self.rng.random() < 0.5:
            return command("sort"), Flow(sorted(flow.lines, key=_text))
        return command("sort", "-r"), Flow(sorted(flow.lines, key=_text, reverse=True))

    def _reversing(self, flow: Flow) -> tuple[Any, Flow]:
        return command("tac"), Flow(flow.lines[::-1])

    def _leaving(self, flow: Flow) -> tuple[Any, Flow]:
        count = self.rng.choice((0, 1, 5, 3000))
        left = Flow(flow.lines[:count])
        kind = self.rng.choice(("head", "return", "finish", "true"))
        if kind == "head":
            return command("head", "-n", str(count)), left
        if kind == "true":
            return command("true"), Flow([])
        return function(_Taking(count, FinishEarly() if kind == "finish" else None)), left

    def _failing(self, flow: Flow) -> tuple[Any, Flow]:
        count = self.rng.choice((0, 2, 3000))
        name = f"fails-{next(self._numbers)}"
        self.failing.append(name)
        if self.rng.random() < 0.5:
            stage: Any = command("sh", "-c", f"head -n {count}; exit 3", name=name)
        else:
            stage = function(_Taking(count, ValueError(name)), name=name)
        return stage, Flow(flow.lines[:count])


class _Taking:
    """A function that passes on some lines, and then returns or raises."""

    def __init__(self, count: int, error: Exception | None) -> None:
        self._count = count
        self._error = error

    def __call__(self, _ctx: object, stdin: Any, stdout: Any) -> None:
        """Do it; a reader that has gone makes no difference."""
        try:
            for _ in range(self._count):
                stdout.write(stdin.readline())
        except BrokenPipeError:
            if self._error is None:
                raise
        if self._error is not None:
            raise self._error


def _common(left: Lines, right: Lines) -> Iterator[bytes]:
    """Yield the lines that `comm -12` prints."""
    one, two = 0, 0
    while one < len(left) and two < len(right):
        a, b = left[one][:-1], right[two][:-1]
        if a == b:
            yield left[one]
        one += a <= b
        two += b <= a


def _slowly(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks):
        if number < 50:  # a chunk may be a line
            time.sleep(0.001)
        yield chunk


def _copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def _sort(_ctx: object, stdin: Any, stdout: Any) -> None:
    stdout.writelines(sorted(stdin, key=_text))


def _text(line: bytes) -> bytes:
    """Return what sort compares: a tab comes before a line feed."""
    return line[:-1]


def _with_x(line: bytes) -> bytes:
    return b"x" + line
