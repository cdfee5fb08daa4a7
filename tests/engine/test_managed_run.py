"""A run is made from a plan, started, and ended by whoever made it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from penstock import CAPTURE, DEVNULL, PipelineCancelled, Run, command, function, map_lines
from penstock.engine.inline_run import run_inline
from penstock.engine.managed_run import ManagedRun
from penstock.engine.run_plan import plan_run
from penstock.runtime.dispatcher import Dispatcher
from penstock.runtime.events import EventEmitter
from penstock.runtime.supervisor import active_runs
from penstock.stages.run_services import RunResources

CAT = command("cat")


def test_one_plan_is_run_often() -> None:
    """At the same time, too: a run writes nothing into its plan."""
    plan = plan_run(CAT | map_lines(bytes.upper), {"input": b"a\n", "stdout": CAPTURE})
    runs = [ManagedRun(plan) for _ in range(3)]
    for run in runs:
        run.start()
    assert [run.wait().stdout for run in runs] == [b"A\n"] * 3
    assert run_inline(plan).captured() == b"A\n"


def test_a_run_that_was_not_started_needs_no_clean_up() -> None:
    """Nothing of it is open, nobody knows it, and to end it does nothing."""
    run = ManagedRun(plan_run(CAT, {"stdout": CAPTURE}))
    before = threading.active_count()
    run.end(KeyboardInterrupt())
    assert not run.started
    assert not run.done()
    assert run not in active_runs
    assert threading.active_count() == before


def test_the_maker_of_a_run_ends_it() -> None:
    """Whatever the error is, nothing of the run is left when this returns."""
    run = ManagedRun(plan_run(command("sleep", "60"), {"stdout": DEVNULL, "grace": 1.0}))
    run.start()
    run.end(OSError("no more"))
    assert run.done()
    with pytest.raises(PipelineCancelled, match="no more"):
        run.wait()


def test_a_stage_that_needs_a_loop_is_refused_before_anything_is_made() -> None:
    """A plan that is not bound to a loop must not need one."""

    async def work(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        return None

    with pytest.raises(TypeError, match="'work' is async"):
        ManagedRun(plan_run(function(work), {}))


def test_users_see_only_the_public_members_of_a_run() -> None:
    """Iterators, nested pipelines and the async methods use another class."""
    members = {name for name in {*vars(Run), *Run.__annotations__} if not name.startswith("_")}
    streams = {"stdin", "stdout"}
    assert members == streams | {
        "cancel", "done", "pids", "send_signal", "snapshot", "stop_source", "wait",
    }  # fmt: skip


def test_a_cgroup_that_cannot_be_given_back_does_not_keep_the_others() -> None:
    """The supervisor that would look again later may be without a descriptor."""

    class Lease:
        closed = 0

        def close(self) -> None:
            self.closed += 1
            raise OSError(24, "too many open files")

    leases: list[Any] = [Lease(), Lease()]
    resources = RunResources([], EventEmitter(None, Dispatcher()))
    resources.cgroups.extend(leases)
    resources.close()
    assert [lease.closed for lease in leases] == [1, 1]
