# The functions of `os` are what these tests are about.
"""Who is whose child, and in which group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from tests.support.waiting import until

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
@pytest.mark.usefixtures("reads")
def test_a_process_is_known_whatever_it_is_called(start: Any, tmp_path: Any) -> None:
    """Its name may look like the rest of the line."""
    odd = tmp_path / "x) R 1 1 ("
    odd.symlink_to("/bin/sleep")
    child = start(str(odd), "1000")
    entry = procfs.read_stat(child.pid)
    assert entry is not None
    assert (entry.pid, entry.parent, entry.group) == (child.pid, os.getpid(), child.pid)
    assert child.pid in procfs.pids()
    assert procfs.is_process(child.pid)


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_all_children_are_listed_however_many_they_are(start: Any) -> None:
    """The list of a busy host is longer than one read; those of all its threads count."""
    if not features.CHILD_LISTS:
        pytest.skip("the kernel lists no children")
    made = {start("true").pid for _ in range(10)}
    thread = threading.Thread(target=lambda: made.update({start("true").pid for _ in range(700)}))
    thread.start()
    thread.join()
    assert made <= set(procfs.children(os.getpid()))
    assert all(procfs.parents().get(pid) == os.getpid() for pid in procfs.children(os.getpid()))
    assert procfs.children(next(iter(made)), 1) == []


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_the_pid_given_last_is_that_of_the_newest_process(start: Any) -> None:
    """Or of one that somebody else has started since."""
    if not features.LAST_PID:
        pytest.skip("the kernel does not tell")
    child = start("true")
    last = procfs.last_pid()
    assert last is not None
    assert (last - child.pid) % procfs.max_pid() < 1000


@needs_procfs
def test_a_zombie_is_not_alive(start: Any) -> None:
    """It can be signalled, but there is nothing left of it to end."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    entry = procfs.read_stat(child.pid)
    assert entry is not None
    assert not entry.alive


@needs_procfs
def test_a_process_whose_main_thread_has_exited_is_alive(finish: Any, start: Any) -> None:
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
    entry = procfs.read_stat(child.pid)
    assert entry is not None
    assert entry.alive
    assert not child.exited()
    child.send_signal(signal.SIGKILL)
    assert finish(child).returncode == -9


@needs_procfs
def test_a_process_that_has_gone_gives_no_entry() -> None:
    """A process may vanish at any moment, so that is no error."""
    done = subprocess.Popen(["true"])
    done.wait()
    assert procfs.read_stat(done.pid) is None
    assert procfs.children(done.pid) == []
    assert procfs.environ(done.pid) == b""
    assert not procfs.is_process(done.pid)


def test_without_procfs_every_answer_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown is not an error."""
    monkeypatch.setattr(features, "PROCFS", False)
    assert procfs.read_stat(os.getpid()) is None
    assert procfs.parents() == {}
    assert procfs.pids() == []


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_of_a_process_that_is_not_there_nothing_is_known(start: Any) -> None:
    """Neither of a number that nobody has, nor of a child that was reaped."""
    child = start("true")
    child.kill_and_reap()
    assert procfs.read_stat(child.pid) is None
    assert procfs.read_stat(2**30) is None


@needs_procfs
@pytest.mark.usefixtures("reads")
def test_a_thread_that_runs_is_seen_beside_a_main_thread_that_sleeps() -> None:
    """The state in /proc/PID/stat is that of the main thread."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SPINNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"spins\n"
        until(lambda: procfs.has_running_thread(child.pid))
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: not procfs.has_running_thread(child.pid))
    finally:
        child.kill()
        child.communicate()
    assert not procfs.has_running_thread(child.pid)


SPINNER = """
import sys, threading
def spin():
    print("spins", flush=True)
    while True:
        pass
threading.Thread(target=spin, daemon=True).start()
sys.stdin.read()
"""
