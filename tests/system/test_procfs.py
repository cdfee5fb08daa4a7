# The functions of `os` are what these tests are about.
# ruff: noqa: PTH123
"""Who is whose child, and in which group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from penstock.system import features, procfs

LINE = b"%d (%s) %s 7 8 9 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 %d 0 4242 1000 100 18446744073709551615\n"


@pytest.mark.parametrize("name", [b"sh", b"a b", b"a) S 1 1 (", b"(((", b")", b"", b"\xff\n"])
def test_a_name_may_be_anything(name: bytes) -> None:
    """Spaces, parentheses, line breaks, no text at all: a process chooses it."""
    entry = procfs.parse_stat(LINE % (55, name, b"R", 1))
    assert (entry.pid, entry.state, entry.parent, entry.group, entry.started) == (55, "R", 7, 8, 4242)


@pytest.mark.parametrize(
    ("state", "threads", "alive"),
    [(b"R", 1, True), (b"S", 1, True), (b"T", 1, True), (b"Z", 1, False), (b"X", 1, False), (b"Z", 2, True)],
)
def test_a_zombie_is_not_alive_unless_other_threads_are(state: bytes, threads: int, alive: bool) -> None:  # noqa: FBT001
    """A main thread that has exited looks like a zombie while the process goes on."""
    assert procfs.parse_stat(LINE % (55, b"x", state, threads)).alive is alive


needs_procfs = pytest.mark.skipif(not features.PROCFS, reason="no /proc here")


@pytest.fixture(params=["quick", "by os"])
def reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with the interpreter's lock held, or by Python's own calls."""
    monkeypatch.setattr(features, "QUICK_READS", request.param == "quick")


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_this_process_and_its_parent_are_there() -> None:
    """With the numbers that the system calls tell."""
    assert procfs.parents()[os.getpid()] == os.getppid()
    entry = procfs.read_stat(os.getpid())
    assert entry is not None
    assert entry.group == os.getpgrp()
    assert entry.alive


@needs_procfs
def test_a_tree_is_found_whatever_its_processes_are_called(start: Any, tmp_path: Any) -> None:
    """Gotcha 22: by parent ids; two levels, one of them with a name made to confuse."""
    odd = tmp_path / "x) R 1 1 ("
    odd.symlink_to("/bin/sh")
    read, write = os.pipe()
    child = start("sh", "-c", f"'{odd}' -c 'sleep 1000 & echo $$ $!; wait' & wait", stdout=write)
    os.close(write)
    with open(read) as file:
        pids = [int(word) for word in file.readline().split()]
    assert procfs.descendants(child.pid) == pids
    assert set(pids) < set(procfs.descendants(os.getpid()))
    assert set(procfs.group_members(child.pid)) == {child.pid, *pids}
    assert procfs.descendants(pids[-1]) == []


@needs_procfs
def test_a_recent_table_has_who_was_started_since(start: Any) -> None:
    """However often it is asked for, and whoever adds to what was given."""
    for _ in range(3):
        pid = start("sleep", "60").pid
        table = procfs.recent()
        assert procfs.descendants_in(table, os.getpid())
        assert table[pid].parent == os.getpid()
        table.clear()


@needs_procfs
def test_zombies_are_not_members(start: Any) -> None:
    """They can be signalled, but there is nothing left of them to end."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    entry = procfs.read_stat(child.pid)
    assert entry is not None
    assert not entry.alive
    assert procfs.group_members(child.pid) == []


@needs_procfs
def test_a_process_whose_main_thread_has_exited_is_a_member(finish: Any, start: Any) -> None:
    """The kernel shows it as a zombie with two threads."""
    program = """
import ctypes, threading, os, sys
def live():
    threading.main_thread().join(0)
    while open(f"/proc/{os.getpid()}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        pass
    os.write(1, b"x")
    threading.Event().wait()
threading.Thread(target=live).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    read, write = os.pipe()
    child = start(sys.executable, "-c", program, stdout=write)
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    assert procfs.group_members(child.pid) == [child.pid]
    assert not child.exited()
    child.send_signal(signal.SIGKILL)
    assert finish(child).returncode == -9


@needs_procfs
def test_a_process_that_has_gone_gives_no_entry() -> None:
    """A process may vanish at any moment, so that is no error."""
    done = subprocess.Popen(["true"])
    done.wait()
    assert procfs.read_stat(done.pid) is None
    assert procfs.descendants(done.pid) == []


@needs_procfs
def test_a_walk_over_entries_of_different_moments_ends() -> None:
    """Numbers that are used again can make a circle of them."""
    circle = {pid: procfs.Stat(pid, "S", parent, 1, 1, 1) for pid, parent in ((1, 3), (2, 1), (3, 2))}
    assert [entry.pid for entry in procfs.descendants_in(circle, 1)] == [2, 3]


def test_without_procfs_every_answer_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown is not an error."""
    monkeypatch.setattr(features, "PROCFS", False)
    assert procfs.read_stat(os.getpid()) is None
    assert procfs.parents() == {}
    assert procfs.descendants(os.getpid()) == []
    assert procfs.group_members(os.getpgrp()) == []


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_of_a_process_that_is_not_there_nothing_is_known(start: Any) -> None:
    """Neither of a number that nobody has, nor of a child that was reaped."""
    child = start("true")
    child.kill_and_reap()
    assert procfs.read_stat(child.pid) is None
    assert procfs.read_stat(2**30) is None


@needs_procfs
def test_members_of_a_group_are_those_that_live(start: Any) -> None:
    """Not a zombie: it is a member, until it is reaped, that no signal can end."""
    child = start("sh", "-c", "sleep 1000 & exec sleep 1000")
    while len(members := procfs.group_members(child.pid)) < 2:
        pass
    assert child.pid in members
    os.kill(child.pid, signal.SIGKILL)
    while not child.exited():
        pass
    assert procfs.group_members(child.pid) == [pid for pid in members if pid != child.pid]
