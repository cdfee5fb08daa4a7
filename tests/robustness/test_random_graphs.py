"""Random graphs on real processes against a reference in plain Python (`tests.support.random_graphs`).

Every output holds the expected bytes, the verdict names the stage that failed, and the run ends in time. The
leak check looks for what is left. `PENSTOCK_RANDOM_GRAPHS=2000` in the environment runs so many.
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.support.random_graphs import RandomGraph

from penstock import CAPTURE, PipelineCancelled, PipelineError, PipelineTimeout
from penstock.streams import lane

if TYPE_CHECKING:
    from pathlib import Path

    from tests.robustness.conftest import Fail

    from penstock import Result

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("PENSTOCK_RANDOM_GRAPHS", "200"))
FIRST = int(os.environ.get("PENSTOCK_RANDOM_GRAPHS_FIRST", "0"))
FAULTS = (
    ("pipe", errno.EMFILE),
    ("open", errno.EMFILE),
    ("posix_spawn", errno.EAGAIN),
    ("read", errno.EIO),
    ("read", errno.EAGAIN),
    ("write", errno.ENOSPC),
    ("write", errno.EAGAIN),
    ("splice", errno.EAGAIN),
    ("splice", errno.EPERM),
    ("poll", errno.EINTR),
)
"""Calls of the package that fail once, and how."""
AT_ONCE = 10
"""Graphs of one test."""
DEADLINE_S = 20.0
"""Seconds for one graph: without other load each takes well below one."""


@pytest.fixture(autouse=True)
def _pass_on_from_the_first_byte(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every other test, because these graphs carry little."""
    if first // AT_ONCE % 2:
        monkeypatch.setattr(lane, "_FIRST_TEE", 0)


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, AT_ONCE))
def test_a_random_graph_does_what_plain_python_does(first: int, tmp_path: Path) -> None:
    """At each of its outputs, and in its verdict."""
    for seed in range(first, min(first + AT_ONCE, FIRST + COUNT)):
        graph = RandomGraph(seed, tmp_path)
        began = time.monotonic()
        result = graph.pipeline.run(stdout=CAPTURE, check=False, timeout=DEADLINE_S, **graph.options)
        mistakes = _mistakes(graph, result)
        if time.monotonic() - began > DEADLINE_S:
            mistakes.append("it took too long")
        if mistakes:
            pytest.fail("\n".join([f"seed {seed}", *mistakes, repr(graph.pipeline), str(result)]))


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, AT_ONCE))
def test_a_random_graph_that_is_cut_short_ends_at_once(first: int, tmp_path: Path) -> None:
    """By a deadline or a cancellation at a random moment: it ends as if it had been faster, or says so."""
    for seed in range(first, min(first + AT_ONCE, FIRST + COUNT)):
        graph, dice = RandomGraph(seed, tmp_path), random.Random(f"cut {seed}")
        moment = dice.choice((0.0, 0.002, 0.01, 0.05)) * dice.random()
        began = time.monotonic()
        if dice.random() < 0.5:
            result = graph.pipeline.run(stdout=CAPTURE, check=False, timeout=moment, **graph.options)
        else:
            run = graph.pipeline.start(stdout=CAPTURE, **graph.options)
            timer = threading.Timer(moment, run.cancel)
            timer.start()
            result = run.wait(DEADLINE_S, check=False)
            timer.join()
        assert time.monotonic() - began < DEADLINE_S / 2, f"seed {seed}: {graph.pipeline!r}"
        if result.error is None:
            assert _mistakes(graph, result) == [], f"seed {seed}: {graph.pipeline!r}"
        elif not isinstance(result.error, PipelineTimeout | PipelineCancelled):  # it had failed before
            assert graph.nested or result.error.stage in graph.failing, f"seed {seed}: {result.error!r}"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, AT_ONCE))
def test_a_random_graph_with_a_failing_call_ends_in_time(first: int, tmp_path: Path, fail: Fail) -> None:
    """With an error, or as if the call had not failed; the call and its turn are random."""
    for seed in range(first, min(first + AT_ONCE, FIRST + COUNT)):
        graph, dice = RandomGraph(seed, tmp_path), random.Random(f"fault {seed}")
        call, number = dice.choice(FAULTS)
        chosen = dice.randint(1, 30)
        began = time.monotonic()
        with fail(call, number, lambda turn, chosen=chosen: turn == chosen):  # type: ignore[misc]
            result = graph.pipeline.run(stdout=CAPTURE, check=False, timeout=DEADLINE_S, **graph.options)
        assert time.monotonic() - began < DEADLINE_S / 2, f"seed {seed}, {call}: {graph.pipeline!r}"
        if result.error is None:
            assert _mistakes(graph, result) == [], f"seed {seed}, {call}: {graph.pipeline!r}"


def _mistakes(graph: RandomGraph, result: Result) -> list[str]:
    """Return what is wrong with a run."""
    found = []
    assert result.stdout is not None
    if not graph.stdout.matches(result.stdout):
        found.append(_difference("stdout", graph.stdout.lines, result.stdout))
    for name, expected in graph.branches.items():
        if not expected.matches(result.output(name)):
            found.append(_difference(name, expected.lines, result.output(name)))
    for path, expected in graph.files.items():
        if not expected.matches(path.read_bytes()):
            found.append(_difference(path.name, expected.lines, path.read_bytes()))
        path.unlink()
    if not _is_expected(result.error, graph, result):
        found.append(f"the verdict is {result.error!r}, and these fail: {graph.failing}")
    most = max(edge.spooled for edge in result.edges)
    if most > graph.bytes:
        found.append(f"{most} bytes were spooled of {graph.bytes}")
    return found


def _is_expected(error: PipelineError | None, graph: RandomGraph, result: Result) -> bool:
    if error is None or not graph.failing:
        return error is None and not graph.failing
    if graph.nested:  # a pipeline within it is judged as one stage
        return error.stage in graph.failing
    return error.stage == next(stage.name for stage in result.stages if stage.name in graph.failing)


def _difference(name: str, expected: list[bytes], found: bytes) -> str:
    lines = found.splitlines(keepends=True)
    return f"{name}: {len(lines)} lines, not {len(expected)}: {lines[:2]}... and not {expected[:2]}..."
