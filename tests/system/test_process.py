"""One child: its end, its signals, its reaping, and what it leaves: with pidfds and without."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import gone

from penstock.system import features, process, system_calls

if TYPE_CHECKING:
    from tests.support.hosts import Host

needs_procfs = pytest.mark.skipif(not features.PROCFS, reason="no /proc here")
pytestmark = pytest.mark.usefixtures("spawner", "pidfd")


@pytest.mark.parametrize(
    ("script", "returncode"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -15), ("kill -PIPE $$", -13)]
)
def test_a_status_is_as_in_subprocess(start: Any, finish: Any, script: str, returncode: int) -> None:
    """Negative for a signal; and what was used comes with it, in seconds and bytes."""
    status = finish(start("sh", "-c", script))
    assert status.returncode == returncode
    assert 0 <= status.user_time < 5
    assert 0 <= status.system_time < 5
    assert 100_000 < status.max_rss < 10**10
    assert f"returncode={returncode}" in repr(status)


def test_the_times_are_seconds(start: Any, finish: Any) -> None:
    """A child that counts uses processor time, and it is its own."""
    status = finish(start("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
    assert 0.01 < status.user_time + status.system_time < 30


def test_a_running_child_has_not_exited_and_reaps_to_none(start: Any) -> None:
    """Neither question waits."""
    child = start("sleep", "1000")
    assert not child.exited()
    assert child.reap() is None
    assert repr(child) == f"<Process {child.pid}: running>"


def test_a_child_that_has_exited_stays_a_zombie_until_it_is_reaped(start: Any, finish: Any) -> None:
    """So its pid stays its own; the second reaping gives the same object."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.exited()
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
    status = finish(child)
    assert child.reap() is status
    assert child.exited()
    assert repr(child) == f"<Process {child.pid}: returncode 0>"


def test_the_descriptor_is_readable_at_exit_and_closed_by_the_reaping(start: Any, pidfd: bool) -> None:  # noqa: FBT001
    """None where there are no pidfds."""
    child = start("sleep", "1000")
    if not pidfd:
        assert child.fileno() is None
        return
    assert select.select([child.fileno()], [], [], 0) == ([], [], [])
    assert child.send_signal(signal.SIGKILL)
    assert select.select([child.fileno()], [], [], 60)[0]
    assert child.exited()
    assert child.reap().returncode == -9
    assert child.fileno() is None


def test_after_the_reaping_no_signal_is_sent_to_anyone(
    start: Any, finish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gotcha 10: the number may be a stranger's by now."""
    child = start("true")
    finish(child)
    sent: list[tuple[int, ...]] = []
    for module, name in ((os, "kill"), (os, "killpg"), (signal, "pidfd_send_signal")):
        monkeypatch.setattr(module, name, lambda *args: sent.append(args), raising=False)
    assert not child.send_signal(signal.SIGKILL)
    assert not child.send_signal(signal.SIGKILL, group=False)
    assert sent == []


@pytest.mark.gotcha(10)
def test_signals_and_the_reaping_never_cross(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gotcha 10, from many threads: no signal goes out once the status has been collected."""
    collected: set[int] = set()
    late: list[int] = []
    wait4, killpg = os.wait4, os.killpg

    def watched_wait(pid: int, options: int) -> Any:
        result = wait4(pid, options)
        if result[0]:
            collected.add(pid)
        return result

    def watched_kill(pid: int, signum: int) -> None:
        if pid in collected:
            late.append(pid)
        killpg(pid, signum)

    monkeypatch.setattr(os, "wait4", watched_wait)
    monkeypatch.setattr(os, "killpg", watched_kill)
    for _ in range(10):
        child = start("true")

        def harass(child: process.Process = child) -> None:
            while child.send_signal(0):
                pass

        threads = [threading.Thread(target=harass) for _ in range(3)]
        for thread in threads:
            thread.start()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.reap().returncode == 0
        for thread in threads:
            thread.join()
    assert late == []


def test_a_signal_goes_to_the_whole_group(speaking: Any, finish: Any) -> None:
    """Also while the leader is a zombie, which still holds the group's number."""
    child, line = speaking("sleep 1000 & echo $!")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.send_signal(signal.SIGKILL)
    assert gone(int(line))
    assert finish(child).returncode == 0


@pytest.mark.parametrize("group", [0, 1, -1, None])
def test_a_group_that_is_our_own_gets_no_signal(group: int | None) -> None:
    """0 stands for it too, and -1 for every process; 1 is that of init, in a container perhaps ours."""
    assert not process.signal_group(os.getpgrp() if group is None else group, signal.SIGKILL)


def test_a_host_that_joins_the_group_of_its_child_survives(host: Host) -> None:
    """Then the child alone gets the signals to its group."""
    ended = host.run(
        """
        run = command("sleep", "1000", process_group=True).start()
        os.setpgid(0, run.pids[0])
        run.cancel()
        say(run.wait(check=False).returncodes)
        """
    )
    assert (ended.returncode, ended.out) == (0, "(-15,)\n")


@pytest.mark.parametrize("leads", [True, False])
def test_a_signal_can_go_to_the_child_alone(speaking: Any, finish: Any, leads: bool) -> None:  # noqa: FBT001
    """It must where the child is in the host's own group."""
    child, line = speaking("sleep 1000 & echo $!; wait", group=leads)
    assert child.send_signal(signal.SIGKILL, group=not leads)
    assert finish(child).returncode == -9
    os.kill(int(line), signal.SIGKILL)
    assert gone(int(line))


def test_a_child_that_someone_else_reaped_is_reported_as_lost(start: Any) -> None:
    """A host with `waitpid(-1)`: the child counts as ended, and each reaping says why there is no status."""
    child = start("true")
    os.waitpid(child.pid, 0)
    assert child.exited()
    assert not child.send_signal(signal.SIGTERM)
    for _ in range(2):
        with pytest.raises(ChildProcessError, match=f"process {child.pid} is lost"):
            child.reap()
    assert child.fileno() is None
    assert "lost" in repr(child)


def test_a_host_that_ignores_sigchld_gets_the_same(start: Any) -> None:
    """The kernel reaps then, and tells nobody."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        child = start("sleep", "1000")
        assert not child.exited()
        assert child.reap() is None
        assert child.send_signal(signal.SIGKILL)
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, 0)  # waits, then says that there is nothing to be had
        assert child.exited()
        with pytest.raises(ChildProcessError, match="lost"):
            child.reap()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_without_waitid_the_same_holds(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: to look is to reap, under the lock, and the status is kept for who asks."""
    child = start("sleep", "1000")
    with monkeypatch.context() as patch:
        patch.setattr(features, "WAITID", False)
        assert not child.exited()
        assert child.send_signal(signal.SIGTERM)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.exited()
        assert not child.send_signal(signal.SIGTERM)
        assert child.reap().returncode == -15
        assert child.fileno() is None


def test_a_forked_copy_of_the_host_touches_no_child(start: Any) -> None:
    """It is not the parent: it must neither signal nor believe that it can reap."""
    child = start("sleep", "1000")
    pid = os.fork()
    if pid == 0:
        verdict = 1
        try:
            try:
                child.reap()
            except ChildProcessError:
                verdict = 0
            if child.send_signal(signal.SIGKILL) or not child.exited():
                verdict = 2
            if child.is_alive_or_zombie():
                verdict = 2
        finally:
            os._exit(verdict)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not child.exited()


def test_a_host_out_of_descriptors_does_without_a_pidfd(
    start: Any, finish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is there already, and must not be lost for that."""

    def refuse(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(system_calls, "pidfd_open", refuse)
    child = start("true")
    assert child.fileno() is None
    assert finish(child).returncode == 0


def test_discarding_a_child_that_is_gone_is_not_an_error() -> None:
    """The host may have let the kernel reap it."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    process.kill_and_reap(pid)
