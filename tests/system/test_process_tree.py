# The functions of `os` are what these tests are about.
"""Whole trees of processes: who belongs to one, by each of the ways to find out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive, gone
from tests.support.waiting import until

from penstock.system import features, process, process_groups, procfs
from penstock.system.process_look import ProcessLook
from penstock.system.process_mark import VARIABLE, marked, marks_of
from penstock.system.process_tree import ProcessTree, open_handles, stop_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not features.PROCFS, reason="no /proc here")


@pytest.fixture(
    params=["all ways", "CHILD_LISTS", "LAST_PID", "QUICK_READS", "PIDFD"],
    ids=lambda name: name if name == "all ways" else f"without {name}",
)
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use each way to read the processes, or do without it."""
    if request.param != "all ways":
        monkeypatch.setattr(features, request.param, False)


@pytest.fixture
def stopped() -> Iterator[Any]:
    """Stop the trees of children; return their handles. Wakes and closes them at the end."""
    trees: list[ProcessTree] = []

    def stopped(*children: process.Process) -> list[list[process.ProcessHandle]]:
        new = [ProcessTree(child) for child in children]
        trees.extend(new)
        stop_trees(new)
        return [list(tree.handles) for tree in new]

    yield stopped
    for tree in trees:
        tree.resume()
        tree.kill()
        tree.close()


def others(child: process.Process) -> list[int]:
    """Return who else is in its group, or has its mark, now."""
    return ProcessTree(child).others(ProcessLook())


@pytest.mark.usefixtures("ways")
def test_a_group_of_one_has_no_others(start: Any, finish: Any) -> None:
    """The leader does not count, running or not; nor does the host's group if the child is in it."""
    child, member = start("sleep", "1000"), start("sleep", "1000", group=False)
    assert others(child) == []
    assert others(member) == []
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert others(child) == []
    finish(child)
    assert others(child) == []


@pytest.mark.usefixtures("ways")
def test_members_of_a_group_are_those_that_live(speaking: Any, start: Any) -> None:
    """Not a zombie: it is a member, until it is reaped, that no signal can end."""
    child, line = speaking("sleep 1000 & echo $!; exec sleep 1000")
    pid = int(line)
    assert others(child) == [pid]
    assert others(start("sleep", "1000")) == []
    child.send_signal(signal.SIGKILL, group=False)
    until(child.exited)
    assert others(child) == [pid]
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert others(child) == []


@pytest.mark.usefixtures("ways")
def test_a_process_is_found_whenever_it_was_made(speaking: Any) -> None:
    """Between two looks too, however many others were made meanwhile."""
    for rounds in (1, 30, 400):
        script = f"i=0; while [ $i -lt {rounds} ]; do i=$((i + 1)); (:); done; sleep 1000 & echo $!; wait"
        child, line = speaking(script)
        assert int(line) in others(child)


@pytest.mark.usefixtures("ways")
def test_a_thread_does_not_count_as_a_process(speaking: Any) -> None:
    """The kernel gives threads pids as well, and answers questions about them."""
    script = (
        "import threading, time\n"
        "for _ in range(5): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "print(1, flush=True)\ntime.sleep(1000)"
    )
    ProcessLook().in_group(os.getpgrp())
    child, _ = speaking(f"{sys.executable} -I -S -c '{script}' & wait")
    (one,) = others(child)
    assert procfs.is_process(one)


def test_the_kept_groups_lose_the_dead(start: Any, finish: Any) -> None:
    """A host that ends runs all the time must not keep every pid that there ever was."""
    for _ in range(600):
        finish(start("true"))
        process_groups.groups()
    assert sum(map(len, process_groups.groups().values())) < len(procfs.pids()) * 2 + 2 * 256


def strangers(handles: list[process.ProcessHandle]) -> list[process.ProcessHandle]:
    """Those of the descendants that have left the group."""
    return [one for one in handles if not one.in_group]


@pytest.mark.gotcha(22)
@pytest.mark.usefixtures("ways")
def test_a_descendant_that_left_the_group_is_found_and_can_be_killed(speaking: Any, stopped: Any) -> None:
    """By its parent, also two generations down."""
    child, line = speaking("(setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000) & wait")
    (handles,) = stopped(child)
    (found,) = strangers(handles)
    assert len(handles) == 2
    assert found.pid == int(line)
    assert found.alive()
    assert found.send_signal(signal.SIGKILL)
    assert gone(found.pid)
    assert not found.alive()
    found.close()
    found.close()
    assert not found.send_signal(signal.SIGKILL)


def test_a_descendant_that_has_gone_gets_no_signal(speaking: Any, stopped: Any) -> None:
    """Nor does another process that has its number."""
    child, line = speaking("setsid sh -c 'echo $$; exec sleep 1000' & wait")
    (handles,) = stopped(child)
    (found,) = strangers(handles)
    stranger = process.ProcessHandle(found.pid, found._started - 1, None)
    assert not stranger.alive()
    assert not stranger.send_signal(signal.SIGKILL)
    assert process.ProcessHandle.open(_with_start(found.pid, found._started - 1)) is None
    assert found.alive()
    os.kill(int(line), signal.SIGKILL)
    assert gone(found.pid)


def _with_start(pid: int, started: int) -> procfs.Stat:
    entry = procfs.read_stat(pid)
    assert entry is not None
    entry.started = started
    return entry


@pytest.mark.usefixtures("ways")
def test_many_trees_are_stopped_together(speaking: Any, stopped: Any) -> None:
    """Each one whole, and none with a member of another."""
    script = "sleep 1000 & (setsid sh -c 'echo $$; exec sleep 1000' & wait) & wait"
    started = [speaking(script) for _ in range(10)]
    found = stopped(*(child for child, _ in started))
    for (_, line), handles in zip(started, found, strict=True):
        assert [one.pid for one in strangers(handles)] == [int(line)]
        assert len(handles) == 3
    states = [procfs.read_stat(one.pid) for handles in found for one in handles]
    assert {entry.state for entry in states if entry is not None} == {"T"}


@pytest.mark.gotcha(22)
@pytest.mark.usefixtures("ways")
def test_children_of_every_thread_are_found(speaking: Any, stopped: Any) -> None:
    """A thread's child is the process's child."""
    script = (
        "import subprocess, threading, time\n"
        "def run():\n"
        '    print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, flush=True)\n'
        "    time.sleep(1000)\n"
        "threading.Thread(target=run).start()"
    )
    child, line = speaking(f"exec {sys.executable} -I -c '{script}'")
    (handles,) = stopped(child)
    assert [one.pid for one in handles] == [int(line)]


MARKED = "(sh -c 'echo $$; exec sleep 1000' &) ; exec sleep 1000"
"""A command that has an orphan, which is in the host's group as the command is."""


@pytest.mark.usefixtures("ways")
def test_an_orphan_in_the_hosts_group_is_known_by_its_mark(speaking: Any, stopped: Any) -> None:
    """Not that of another command, and not one without a mark."""
    outer, _ = marked(os.environ)
    environ, mark = marked(outer)
    child, line = speaking(MARKED, group=False, mark=mark, env=environ)
    other_environ, other_mark = marked(os.environ)
    other, other_line = speaking(MARKED, group=False, mark=other_mark, env=other_environ)
    plain, plain_line = speaking(MARKED, group=False)
    try:
        assert others(child) == [int(line)]
        assert others(other) == [int(other_line)]
        assert others(plain) == []
        (handles,) = stopped(child)
        assert [one.pid for one in handles] == [int(line)]
        assert marks_of(int(line)) == environ[VARIABLE].split(":")
        assert len(marks_of(int(line))) == 2
    finally:
        os.kill(int(plain_line), signal.SIGKILL)
        os.kill(int(other_line), signal.SIGKILL)


def test_without_procfs_nothing_is_known(
    speaking: Any, stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is claimed."""
    child, line = speaking("setsid sleep 1000 & echo $!; sleep 1000 & wait")
    with monkeypatch.context() as patch:
        patch.setattr(features, "PROCFS", False)
        patch.setattr(features, "CHILD_LISTS", False)
        patch.setattr(features, "LAST_PID", False)
        assert others(child) == []
        assert stopped(child) == [[]]
        assert open_handles([child.pid]) == []
    assert alive(int(line))
    os.kill(int(line), signal.SIGKILL)


@pytest.mark.usefixtures("ways")
def test_the_tree_of_a_child_that_was_reaped_is_left_alone(start: Any, finish: Any, stopped: Any) -> None:
    """Its number may be a stranger's by now."""
    child = start("true")
    finish(child)
    assert stopped(child) == [[]]


@pytest.mark.usefixtures("ways")
def test_looks_from_many_threads_agree(speaking: Any) -> None:
    """What is kept between looks is shared by all threads."""
    child, line = speaking("sleep 1000 & echo $!; wait")
    wrong: list[object] = []

    def look() -> None:
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            found = others(child)
            if found != [int(line)]:
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_mark_is_found_in_the_middle_of_an_exec() -> None:
    """A process has no environment by then; a walk that took it for a stranger would leave it alive."""
    environ = {**os.environ, VARIABLE: "host.1"}
    for _ in range(100):
        with subprocess.Popen(
            ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, env=environ
        ) as shell:
            assert shell.stdout is not None
            pid = int(shell.stdout.readline())
            found = [marks_of(pid) for _ in range(20)]
            os.kill(pid, signal.SIGKILL)
        assert found == [["host.1"]] * 20


def test_a_process_without_an_environment_has_no_mark() -> None:
    """Nor has one that has ended, and neither takes long to read."""
    with subprocess.Popen(["sleep", "1000"], env={}) as bare:
        assert marks_of(bare.pid) == []
        bare.kill()
        os.waitid(os.P_PID, bare.pid, os.WEXITED | os.WNOWAIT)
        assert marks_of(bare.pid) == []
