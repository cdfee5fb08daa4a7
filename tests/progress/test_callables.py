"""`progress=` with a callable: when it is called, with what, and that it cannot harm the run."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.support.processes import sh
from tests.support.waiting import DEADLINE

from penstock import (
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    StartError,
    command,
    function,
    map_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import Stubborn

    from penstock import Run, Snapshot

CAT = command("cat")


class Seen(list["Snapshot"]):
    """Collects snapshots; `some` is set once there are three."""

    def __init__(self) -> None:
        super().__init__()
        self.some = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, snapshot: Snapshot) -> None:
        self.append(snapshot)
        self.threads.add(threading.get_ident())
        if len(self) >= 3:
            self.some.set()


def test_snapshots_come_from_the_start_to_the_end() -> None:
    seen = Seen()
    with (CAT | map_lines(bytes.upper) | CAT).start(progress=seen, stdin=PIPE, stdout=DEVNULL):
        assert seen.some.wait(DEADLINE)
    *before, last = seen
    assert last.done
    assert not any(snapshot.done for snapshot in before)
    assert [stage.state for stage in last.stages] == ["ended"] * 3
    assert all(len(snapshot.stages) == 3 for snapshot in seen)
    assert [snapshot.elapsed for snapshot in seen] == sorted(snapshot.elapsed for snapshot in seen)


WAYS: dict[str, Callable[[Pipeline, Seen], object]] = {
    "run": lambda pipeline, seen: pipeline.run(progress=seen),
    "output": lambda pipeline, seen: pipeline.output(progress=seen),
    "text": lambda pipeline, seen: pipeline.text(progress=seen),
    "start": lambda pipeline, seen: pipeline.start(progress=seen).wait(),
    "iter_bytes": lambda pipeline, seen: list(pipeline.iter_bytes(progress=seen)),
    "iter_lines": lambda pipeline, seen: list(pipeline.iter_lines(progress=seen)),
    "option": lambda pipeline, seen: pipeline.replace(progress=seen).run(),
    "constructor": lambda _, seen: Pipeline(CAT, CAT, stdout=DEVNULL, progress=seen).run(),
}


@pytest.mark.parametrize("way", WAYS)
def test_when_a_method_returns_the_last_snapshot_has_come(way: str) -> None:
    seen = Seen()
    WAYS[way](Pipeline(command("true") | CAT, stdout=DEVNULL), seen)
    assert [snapshot.done for snapshot in seen][-1:] == [True]
    assert sum(snapshot.done for snapshot in seen) == 1
    assert threading.get_ident() not in seen.threads


@pytest.mark.parametrize("failure", ["exit 3", "kill -9 $$"])
def test_a_run_that_fails_has_a_last_snapshot_too(failure: str) -> None:
    seen = Seen()
    with pytest.raises(PipelineError):
        sh(failure).run(progress=seen)
    assert [snapshot.done for snapshot in seen][-1:] == [True]


def test_a_run_that_is_cancelled_by_the_callable() -> None:
    seen = Seen()
    runs: list[Run] = []

    def cancel(snapshot: Snapshot) -> None:
        seen(snapshot)
        for run in runs:
            run.cancel("enough")

    runs.append(command("sleep", "1000").start(progress=cancel))
    with pytest.raises(PipelineCancelled, match="enough"):
        runs[0].wait()
    assert seen[-1].done


def test_a_run_that_cannot_start_has_no_progress() -> None:
    seen = Seen()
    with pytest.raises(StartError):
        (command("true") | command("no such program")).run(progress=seen)
    assert seen == []


def test_a_callable_that_raises_is_reported_once_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()

    def call(snapshot: Snapshot) -> None:
        seen(snapshot)
        raise KeyError("mine")

    with caplog.at_level(logging.DEBUG, "penstock"), CAT.start(progress=call, stdin=PIPE, stdout=DEVNULL):
        assert seen.some.wait(DEADLINE)
    assert seen[-1].done
    (record,) = [record for record in caplog.records if "progress" in record.getMessage()]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


def test_a_callable_that_blocks_delays_no_run(stubborn: Stubborn) -> None:
    """It is called once at a time, and the end of the run waits for it a moment only."""
    with CAT.start(progress=stubborn, stdin=PIPE, stdout=DEVNULL) as run:
        assert stubborn.begun.wait(DEADLINE)
    assert run.done()
    assert not any(ended.is_set() for ended in stubborn.left)
    assert len(stubborn.left) == 1


def test_it_never_overlaps_with_other_handlers() -> None:
    inside = threading.Lock()
    overlaps: list[object] = []

    def handle(thing: object) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(thing)
            return
        inside.release()

    pipeline = sh("for i in 1 2 3 4 5 6 7 8 9; do echo $i >&2; sleep 0.02; done")
    pipeline.run(progress=handle, on_event=handle, stderr=handle)
    assert overlaps == []


def test_only_the_progress_of_the_outermost_pipeline_counts() -> None:
    outer, inner = Seen(), Seen()
    Pipeline(Pipeline(CAT, progress=inner) | CAT, progress=outer).run(stdout=DEVNULL)
    Pipeline(Pipeline(CAT, progress=inner) | CAT).run(stdout=DEVNULL)
    assert outer
    assert inner == []


def test_a_custom_stage_that_holds_a_pipeline_shows_no_progress_of_its_own() -> None:
    seen = Seen()

    class Holder:
        name = "holder"

        def start(self, ctx: Any, stdin: Any, stdout: Any) -> Any:
            return Pipeline(CAT, CAT, progress=seen).start(ctx, stdin, stdout)

    holder: Any = Holder()
    assert (command("echo", "a") | holder).output() == b"a\n"
    assert seen == []


def test_runs_within_runs_have_their_own() -> None:
    outer, inner = Seen(), Seen()

    def run_another(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        stdout.write(CAT.output(input=b"a", progress=inner))

    assert function(run_another).output(progress=outer) == b"a"
    assert inner[-1].done
    assert outer[-1].done


@pytest.mark.parametrize("value", [1, 0, "auto", "", [], 1.5, b"plain"])
def test_a_mistake_names_the_option(value: Any) -> None:
    with pytest.raises(TypeError, match="progress must be"):
        CAT.run(progress=value)


def test_an_async_function_is_refused() -> None:
    async def call(snapshot: Snapshot) -> None: ...

    with pytest.raises(TypeError, match="progress must be a plain function"):
        CAT.run(progress=cast("Any", call))


def test_a_call_can_switch_it_off() -> None:
    seen = Seen()
    Pipeline(CAT, progress=seen).run(progress=False, stdout=DEVNULL)
    Pipeline(CAT, progress=seen).run(progress=None, stdout=DEVNULL)
    assert seen == []


def test_a_run_without_it_loads_and_samples_nothing(host: Any) -> None:
    out = host.output(
        """
        command("true").run()
        command("true").start().wait()
        parts = ("penstock.progress", "penstock.engine.progress", "penstock.engine.snapshots", "live_area")
        say(*[name for name in sys.modules if any(part in name for part in parts)])
        """
    )
    assert out.split() == []
