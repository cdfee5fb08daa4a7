"""Many runs that are ended together: each one whole, at a cost that does not grow with the square."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import gone, sh
from tests.support.waiting import DEADLINE, until

from penstock import PIPE, PipelineCancelled, PipelineTimeout, command
from penstock.system import procfs

if TYPE_CHECKING:
    from tests.support.processes import Strays

    from penstock import Event, Run


def end(runs: list[Run]) -> set[tuple[int | None, ...]]:
    """Cancel all, and wait for each; return the statuses that there were."""
    for run in runs:
        run.cancel()
    statuses = set()
    for run in runs:
        with pytest.raises(PipelineCancelled) as caught:
            run.wait(DEADLINE)
        assert caught.value.result is not None
        statuses.add(caught.value.result.returncodes)
    return statuses


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets an entry whenever all processes of the machine are listed."""
    seen: list[int] = []
    real = procfs.pids

    def pids() -> list[int]:
        found = real()
        seen.append(len(found))
        return found

    monkeypatch.setattr(procfs, "pids", pids)
    return seen


@pytest.mark.slow
def test_runs_that_are_cancelled_together_share_each_look(listings: list[int]) -> None:
    """They are listed a few times in all, and not once or more for each run."""
    runs = [command("sleep", "1000").start() for _ in range(200)]
    assert end(runs) == {(-signal.SIGTERM,)}
    assert len(listings) <= 40


@pytest.mark.slow
def test_tasks_that_are_cancelled_together_share_each_look(listings: list[int]) -> None:
    """The runs of an event loop too."""

    async def main() -> None:
        started: list[Event] = []
        sleeping = command("sleep", "1000")
        tasks = [asyncio.ensure_future(sleeping.arun(on_event=started.append)) for _ in range(100)]
        await asyncio.to_thread(until, lambda: [event.kind for event in started].count("start") == len(tasks))
        listings.clear()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results)

    asyncio.run(main())
    assert len(listings) <= 60


@pytest.mark.slow
def test_runs_that_ignore_sigterm_are_killed_together(strays: Strays, listings: list[int]) -> None:
    """With all that they have started, in their group or out of it."""
    script = "trap '' TERM; setsid sleep 1000 & echo $! >>$PIDS; echo; wait"
    runs = [sh(script, strays).start(stdout=PIPE, grace=0.2) for _ in range(30)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == b"\n"
    listings.clear()
    assert end(runs) == {(-signal.SIGKILL,)}
    assert all(gone(pid) for pid in strays.pids(30))
    assert len(listings) <= 30
    for run in runs:
        assert run.stdout is not None
        run.stdout.close()


@pytest.mark.slow
def test_deadlines_that_are_over_together_are_served_together(listings: list[int]) -> None:
    """One that comes later has a look of its own."""
    runs = [command("sleep", "1000").start(timeout=0.5) for _ in range(100)]
    for run in runs:
        with pytest.raises(PipelineTimeout):
            run.wait(DEADLINE)
    assert len(listings) <= 100


def test_neighbours_of_a_cancelled_run_go_on() -> None:
    """Stopping the trees of some touches none of the others."""
    kept: list[Any] = [sh("read x; echo got $x").start(stdin=PIPE, stdout=PIPE) for _ in range(5)]
    assert end([command("sleep", "1000").start() for _ in range(20)]) == {(-signal.SIGTERM,)}
    for run in kept:
        with run:
            run.stdin.write(b"it\n")
            assert run.stdout.read() == b"got it\n"
