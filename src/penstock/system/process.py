"""One child from its start to its reaping, and the processes that it left.

The race: once a child is reaped its pid may be anyone's, so a kill that was decided a moment before hits a
stranger. Here reaping and signalling happen under one lock per child, so a signal is only sent while the pid
is certainly the child's: running, or a zombie that nobody but us may collect. For the same reason a process
group is signalled only before its leader is reaped: until then no new group can have its number.

A host that ignores SIGCHLD, or calls `waitpid(-1)`, takes children away from us. Then `waitid` knows the pid
no more, no signal is sent, and `reap` says so. Whoever polls takes `fileno()` out of the poller before
`reap`, which closes it.

What may not live here: waiting. Nothing in this module blocks, but for the moment that a process which has
got its SIGKILL takes to die (`kill_and_reap`, `kill_and_reap`).
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
from typing import TypeAlias

from penstock.system import fds, features, procfs

ProcessTable: TypeAlias = "dict[int, procfs.Stat]"


class Usage:
    """What a stage used: the times are seconds, `max_rss` is the peak in bytes."""

    __slots__ = ("max_rss", "system_time", "user_time")

    def __init__(self, user_time: float, system_time: float, max_rss: int) -> None:
        self.user_time = user_time
        self.system_time = system_time
        self.max_rss = max_rss


class ExitStatus(Usage):
    """How a child ended and what it used, itself and the descendants it had waited for (wait4(2)).

    `returncode` is as in subprocess, negative for a signal. The kernel starts the peak at what the process
    had before its exec, which is this process's own, so it is never less than ours at the start.
    """

    __slots__ = ("returncode",)

    def __init__(self, returncode: int, user_time: float, system_time: float, max_rss: int) -> None:
        super().__init__(user_time, system_time, max_rss)
        self.returncode = returncode

    def __repr__(self) -> str:
        return (
            f"ExitStatus(returncode={self.returncode}, user_time={self.user_time}, "
            f"system_time={self.system_time}, max_rss={self.max_rss})"
        )


class Process:
    """A child of this process until it is reaped; every method may be called from any thread.

    `group` says that the child leads a process group. In a forked copy of the host, whose child it is not, it
    looks ended and no signal is sent.
    """

    __slots__ = ("_group", "_lock", "_lost", "_owner", "_pidfd", "_status", "pid")

    def __init__(self, pid: int, *, group: bool) -> None:
        self.pid = pid
        self._group = group
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._status: ExitStatus | None = None
        self._lost = False
        self._pidfd = _open_pidfd(pid)

    def fileno(self) -> int | None:
        """Return the pidfd, readable once the child has exited; None where there is none, or after `reap`."""
        pidfd = self._pidfd
        try:
            return None if pidfd is None else pidfd.fileno()
        except ValueError:  # another thread has just reaped it
            return None

    def exited(self) -> bool:
        """Whether it has exited, reaped or not.

        It stays unreaped, except where the platform has no other way to tell; `reap` still has the status.
        """
        if os.getpid() != self._owner:
            return True
        with self._lock:
            return self._has_exited()

    def reap(self) -> ExitStatus | None:
        """Collect the exit status: None while the child runs, the same status each time after that.

        Raises ChildProcessError, each time, where somebody else has collected it.
        """
        if os.getpid() != self._owner:
            raise ChildProcessError(f"process {self.pid} is not a child of this forked copy")
        with self._lock:
            self._collect()
            if (self._status is not None or self._lost) and self._pidfd is not None:
                self._pidfd.close()
            if self._lost:
                raise ChildProcessError(
                    f"the exit status of process {self.pid} is lost: something else in this program has "
                    f"collected it (SIGCHLD is ignored, or there is a wait for any child)"
                )
            return self._status

    def send_signal(self, signum: int, *, group: bool = True) -> bool:
        """Send a signal to the child's group where it leads one, else, or with `group=False`, to it alone.

        False where nobody got it: the child is reaped or lost, or it runs as another user. A zombie's group
        may have living members, so a child that has exited is no reason not to send.
        """
        if os.getpid() != self._owner:
            return False
        with self._lock:
            if not self._is_ours():
                return False
            try:
                if group and self._group:
                    os.killpg(self.pid, signum)
                elif self._pidfd is not None:
                    signal.pidfd_send_signal(self._pidfd.fileno(), signum)
                else:
                    os.kill(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                return False
            return True

    def kill_and_reap(self) -> None:
        """Kill it and collect it; blocks for the moment that the kernel takes to end it."""
        if os.getpid() != self._owner:
            return
        self.send_signal(signal.SIGKILL)
        with self._lock:
            self._collect(0)
            if self._pidfd is not None:
                self._pidfd.close()

    def has_group_members(self) -> bool:
        """Whether its group has other living members.

        Ask before `reap`: after it, as without procfs, the answer is False.
        """
        return bool(self.group_members())

    def group_members(self) -> list[int]:
        """Return the other living members of its group; none after `reap`, as without procfs."""
        if not self._group or not self._is_ours_now():
            return []
        others = [pid for pid in procfs.group_members(self.pid) if pid != self.pid]
        # Had it been reaped meanwhile, these could be the group of another process with its number.
        return others if others and self._is_ours_now() else []

    def is_alive_or_zombie(self) -> bool:
        """Whether the pid is still the child's, running or a zombie."""
        return self._is_ours_now()

    def is_group_member(self, entry: procfs.Stat) -> bool:
        """Whether a process is another member of its group, as long as it is not reaped."""
        return self._group and entry.group == self.pid and entry.pid != self.pid

    def descendants(self, processes: ProcessTable | None = None) -> list[ProcessHandle]:
        """Return its living descendants, those included that have left its group; close each.

        Ask before it is killed: at its death its children become init's, and nobody knows whose they were.
        Empty without procfs. `processes` is a `procfs.table()` that the caller has just read, for several
        children.
        """
        if not self._is_ours_now():
            return []
        if processes is None:
            processes = procfs.table()
        if self.pid not in processes:
            return []
        handles = []
        for entry in procfs.descendants_in(processes, self.pid):
            handle = ProcessHandle.open(entry) if entry.alive else None
            if handle is not None:
                handle.in_group = self._group and entry.group == self.pid
                handles.append(handle)
        if handles and not self._is_ours_now():  # the walk may have begun at another process with its number
            for handle in handles:
                handle.close()
            return []
        return handles

    def __repr__(self) -> str:
        state = (
            "lost"
            if self._lost
            else "running"
            if self._status is None
            else f"returncode {self._status.returncode}"
        )
        return f"<Process {self.pid}: {state}>"

    def _is_ours_now(self) -> bool:
        if os.getpid() != self._owner:
            return False
        with self._lock:
            return self._is_ours()

    # The rest is called with the lock held.

    def _is_ours(self) -> bool:
        """Whether the pid is still the child's, running or a zombie."""
        self._has_exited()  # finds out where somebody else has reaped it
        return self._status is None and not self._lost

    def _has_exited(self) -> bool:
        if self._status is not None or self._lost:
            return True
        if not features.WAITID:
            self._collect()  # the only way to know
            return self._status is not None or self._lost
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            self._lost = True
            return True

    def _collect(self, flags: int = os.WNOHANG) -> None:
        if self._status is not None or self._lost:
            return
        try:
            pid, status, usage = os.wait4(self.pid, flags)
        except ChildProcessError:
            self._lost = True
            return
        if pid == self.pid:
            self._status = ExitStatus(
                os.waitstatus_to_exitcode(status),
                usage.ru_utime,
                usage.ru_stime,
                usage.ru_maxrss * features.MAX_RSS_UNIT,
            )


def may_have_children() -> bool:
    """Whether this process has children, zombies too; True where the kernel cannot be asked."""
    try:
        if features.WAITID:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class ProcessHandle:
    """A process that is not our child, held so that a signal cannot hit another one that got its pid.

    By a pidfd; where there is none, by its time of start, which is looked at again before each signal. That
    leaves an instant in between, which cannot be closed without one.
    """

    __slots__ = ("_pidfd", "_started", "in_group", "pid")

    def __init__(self, pid: int, started: int, pidfd: fds.Fd | None) -> None:
        self.pid = pid
        self.in_group = False
        """Whether it was in its ancestor's process group, and so may have got a signal to that."""
        self._started = started
        self._pidfd = pidfd

    @classmethod
    def open(cls, entry: procfs.Stat) -> ProcessHandle | None:
        """Take hold of a process that was seen a moment ago; None where it has gone since."""
        found = cls(entry.pid, entry.started, _open_pidfd(entry.pid))
        if found.alive():  # looked at after the pidfd was opened: so the pidfd is that process's
            return found
        found.close()
        return None

    def alive(self) -> bool:
        """Whether it still runs."""
        entry = procfs.read_stat(self.pid)
        return entry is not None and entry.started == self._started and entry.alive

    def wait(self, timeout: float) -> None:
        """Wait until it has ended, at most `timeout` seconds; not at all without pidfd."""
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd.fileno(), select.POLLIN)
            poll.poll(math.ceil(timeout * 1000))

    def send_signal(self, signum: int) -> bool:
        """Send a signal to this one process; False where it has gone or belongs to another user."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd.fileno(), signum)
            elif self.alive():
                os.kill(self.pid, signum)
            else:
                return False
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._pidfd is not None:
            self._pidfd.close()


def kill_and_reap(pid: int) -> None:
    """Kill and reap a child that nobody has heard of yet; the kernel takes a moment to end it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # the host has let the kernel reap it


def _open_pidfd(pid: int) -> fds.Fd | None:
    """Open a pidfd; None where there are none, the process has gone, or descriptors have run out."""
    if not features.PIDFD:
        return None
    try:
        return fds.open_fd(os.pidfd_open, pid)
    except OSError:
        return None
