"""One child from its start to its reaping, and the processes that it left.

The race: once a child is reaped, the kernel may give its pid to an unrelated process, which a late signal
would then hit. So reaping and signalling happen under one lock per child. A signal is sent only while the pid
certainly belongs to the child, running or a zombie that only we may reap. For the same reason a process group
is signalled only before its leader is reaped: until then no new group can have its id.

If the host ignores SIGCHLD or calls `waitpid(-1)`, somebody else reaps our children. Then `waitid` no longer
knows the pid, no signal is sent, and `reap` raises. The caller takes `fileno()` out of its poller before
`reap`, which closes it.

Out of scope: waiting. Nothing in this module blocks, except for the moment that the kernel takes to end a
process after SIGKILL (`kill_and_reap`, as a method and as a function).
"""

from __future__ import annotations

import math
import os
import resource  # noqa: F401 - os.wait4 loads it by itself, and fails if no descriptor is free by then
import select
import signal
import sys
import threading

from penstock.core.public import half_made_too
from penstock.system import fds, features, procfs, system_calls
from penstock.system.process_mark import marked_children


class Usage:
    """Resources that a stage used: times in seconds, peak memory `max_rss` in bytes."""

    __slots__ = ("max_rss", "system_time", "user_time")

    def __init__(self, user_time: float, system_time: float, max_rss: int) -> None:
        self.user_time = user_time
        self.system_time = system_time
        self.max_rss = max_rss


class ExitStatus(Usage):
    """The exit status of a child, and the resources of it and of the descendants it reaped (wait4(2)).

    `returncode` is as in subprocess, negative for a signal. The kernel counts the peak from before the exec,
    when the memory was this process's own. So the peak is never less than ours at the start.
    """

    __slots__ = ("returncode",)

    def __init__(self, returncode: int, user_time: float, system_time: float, max_rss: int) -> None:
        super().__init__(user_time, system_time, max_rss)
        self.returncode = returncode

    @half_made_too
    def __repr__(self) -> str:
        return (
            f"ExitStatus(returncode={self.returncode}, user_time={self.user_time}, "
            f"system_time={self.system_time}, max_rss={self.max_rss})"
        )


class Process:
    """A child of this process until it is reaped. Every method may be called from any thread.

    `group` says that the child leads a process group; if not, `mark` may be how its processes are known. In
    a forked copy of the host, which is not its parent, it looks exited and no signal is sent.
    """

    __slots__ = ("_leads_group", "_lock", "_lost", "_owner", "_pidfd", "_status", "mark", "pid")

    def __init__(self, pid: int, *, group: bool, mark: str | None = None) -> None:
        self.pid = pid
        self._leads_group = group
        self.mark = mark
        if mark is not None:
            marked_children.add(pid)
        self._owner = os.getpid()
        # Reentrant: a thread that an interrupt takes out of here may come again before the lock is released.
        self._lock = threading.RLock()
        self._status: ExitStatus | None = None
        self._lost = False
        self._pidfd = _open_pidfd(pid)

    @property
    def group(self) -> int | None:
        """The process group that it leads; None if it leads none, or if this process has joined that."""
        return self.pid if self._leads_group and self.pid != os.getpgrp() else None

    def fileno(self) -> int | None:
        """Return the pidfd, readable once the child has exited; None after `reap`, or without pidfds."""
        pidfd = self._pidfd
        try:
            return None if pidfd is None else pidfd.fileno()
        except ValueError:  # another thread has just reaped it
            return None

    def exited(self) -> bool:
        """Whether it has exited, reaped or not.

        It stays unreaped, unless the platform has no other way to tell; `reap` still returns the status.
        """
        if os.getpid() != self._owner:
            return True
        with self._lock:
            found = self._has_exited()
        return found  # noqa: RET504 - from inside, a tracer could raise before the lock is released

    def reap(self) -> ExitStatus | None:
        """Return the exit status, the same each time; None while the child runs.

        Raises ChildProcessError, each time, if somebody else has reaped the child.
        """
        if os.getpid() != self._owner:
            raise ChildProcessError(f"process {self.pid} is not a child of this forked copy")
        with self._lock:
            self._collect()
            if (self._status is not None or self._lost) and self._pidfd is not None:
                self._pidfd.close()
            if self._lost:
                raise ChildProcessError(_lost_status(self.pid))
            return self._status

    def stop_signal(self) -> int | None:
        """Return the signal that has stopped it; None if none has, or if the platform cannot tell."""
        if os.getpid() != self._owner or not features.WAITID:
            return None
        with self._lock:
            if not self._is_ours():
                return None
            try:
                found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # a zombie
                return None
        return None if found is None else found.si_status

    def send_signal(self, *signums: int, group: bool = True) -> bool:
        """Send signals to the group that the child leads. Without one, or with `group=False`, to it alone.

        False if no process got it: the child is reaped or lost, or runs as another user. The signal is sent
        even if the child has exited, because the group of a zombie may have living members.
        """
        if os.getpid() != self._owner:
            return False
        with self._lock:
            if not self._is_ours():
                return False
            try:
                for signum in signums:
                    if group and self._leads_group and signal_group(self.pid, signum):
                        continue
                    if self._pidfd is not None:
                        signal.pidfd_send_signal(self._pidfd.fileno(), signum)
                    else:
                        os.kill(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                return False
            return True

    def kill_and_reap(self) -> None:
        """Kill and reap it. Blocks for the moment that the kernel takes to end it."""
        if os.getpid() != self._owner:
            return
        self.send_signal(signal.SIGKILL)
        with self._lock:
            self._collect(0)
            if self._pidfd is not None:
                self._pidfd.close()

    def close(self) -> None:
        """Close the pidfd of a child that is going to be reaped without this object."""
        if self._pidfd is not None:
            self._pidfd.close()

    def is_alive_or_zombie(self) -> bool:
        """Whether the pid still belongs to the child, running or a zombie."""
        return self._is_ours_now()

    @half_made_too
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
            found = self._is_ours()
        return found  # noqa: RET504 - as in `exited`

    # The methods below are called with the lock held.

    def _is_ours(self) -> bool:
        """Whether the pid still belongs to the child, running or a zombie."""
        self._has_exited()  # notices if somebody else has reaped it
        return self._status is None and not self._lost

    def _has_exited(self) -> bool:
        if self._status is not None or self._lost:
            return True
        if not features.WAITID:
            self._collect()  # the only way to tell
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
            marked_children.discard(pid)
            self._status = ExitStatus(
                os.waitstatus_to_exitcode(status),
                usage.ru_utime,
                usage.ru_stime,
                usage.ru_maxrss * features.MAX_RSS_UNIT,
            )


def signal_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; False, and none is sent, if the group is this process's own.

    The only place that signals a group. A host may share the group of its children, or join one later, and
    would stop or kill itself. Raises ProcessLookupError and PermissionError as killpg(2) does.
    """
    if group <= 1 or group == os.getpgrp():  # 0 means our own group, and -1 means every process
        return False
    os.killpg(group, signum)
    return True


def may_have_children() -> bool:
    """Whether this process has children, zombies too; True if the kernel cannot tell."""
    try:
        if features.WAITID:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class ProcessHandle:
    """A process that is not our child, identified so that no signal hits another one that got its pid.

    It is identified by a pidfd. Without pidfds, its start time is compared before each signal, which leaves a
    short race that only a pidfd can close.
    """

    __slots__ = ("_pidfd", "_started", "in_group", "pid")

    def __init__(self, pid: int, started: int, pidfd: fds.Fd | None) -> None:
        self.pid = pid
        self.in_group = False
        """Whether it was in the process group of its ancestor, and so may have got a signal to that."""
        self._started = started
        self._pidfd = pidfd

    @classmethod
    def open(cls, entry: procfs.Stat) -> ProcessHandle | None:
        """Open a process that was seen a moment ago; None if it is gone."""
        found = cls(entry.pid, entry.started, _open_pidfd(entry.pid))
        try:
            if found.alive():  # checked after the pidfd was opened, so the pidfd belongs to that process
                return found
        except BaseException:
            found.close()
            raise
        found.close()
        return None

    def alive(self) -> bool:
        """Whether it still runs."""
        entry = procfs.read_stat(self.pid)
        return entry is not None and entry.started == self._started and entry.alive

    def wait(self, timeout: float) -> None:
        """Wait until it has exited, at most `timeout` seconds. Return at once without a pidfd."""
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd.fileno(), select.POLLIN)
            poll.poll(math.ceil(timeout * 1000))

    def send_signal(self, signum: int) -> bool:
        """Send a signal to this one process; False if it is gone or belongs to another user."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd.fileno(), signum)
            elif self.alive():
                os.kill(self.pid, signum)
            else:
                return False
        except (ProcessLookupError, PermissionError, ValueError):  # ValueError: another thread has closed it
            return False
        return True

    def close(self) -> None:
        """Close the pidfd. Idempotent."""
        if self._pidfd is not None:
            self._pidfd.close()


def kill_and_reap(pid: int) -> None:
    """Kill and reap a child that no `Process` owns yet. Blocks for the moment that it takes to die."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # the host lets the kernel reap its children


def _open_pidfd(pid: int) -> fds.Fd | None:
    """Open a pidfd; None without pidfds, if the process is gone, or if descriptors have run out."""
    if not features.PIDFD:
        return None
    try:
        return fds.open_fd(system_calls.pidfd_open, pid)
    except OSError:
        return None


def _lost_status(pid: int) -> str:
    """Return what to say where somebody else has reaped the child `pid`."""
    lost = f"the exit status of process {pid} is lost"
    if "gevent" in sys.modules:
        return (
            f"{lost}: gevent collects all children of a program as soon as it has started one. Start every "
            "command by penstock, and none by gevent's own subprocess or fork"
        )
    return (
        f"{lost}: something else in this program has collected it. If SIGCHLD is ignored, restore it by "
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL). Replace a wait for any child, such as os.wait(), by "
        "one for your own"
    )
