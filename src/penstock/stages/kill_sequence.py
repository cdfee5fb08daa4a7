"""How a stage that is a child process is made to end: the states, and the steps from one to the next.

A command is stopped with its whole tree, asked to end by SIGTERM, and woken by SIGCONT to act on that. It
gets SIGKILL when the grace time is over. A worker process is asked by a message in place of the first three.
A process that outlives SIGKILL is abandoned to an `OrphanReaper`. The legal transitions:

    WAITING -> RUNNING -> FREEZING -> FROZEN -> TERMINATING -> KILLED -> ABANDONED
                  |                                  ^            ^
                  +--- (a worker is not stopped) ----+------------+
                  |                                               |
                  +--> SWEEPING ----------------------------------+

A process may end at any time. Then a worker's state becomes RELEASED, and a command's `done` becomes true.

Why the tree is stopped before it is asked to end: a process that forks after the walk through the tree, and
dies of the signal, leaves an orphan that cannot be traced to us. Afterwards all stopped processes are woken
with the signal pending, those furthest from the root first. In another order, a group could become orphaned
while it is stopped, and the kernel would send it a SIGHUP (setpgid(2)).

The rule for interrupts. A KeyboardInterrupt may arrive between any two steps, in a thread that drives its own
run. Then `prepare_cancel`, `check_exit` and `kill` are called once more. So `_enter` comes last: a state says
that its step was taken, and a step that was cut short is taken again. An interrupt may lose the call of a
timer as well, so `_resume` takes the step of a timer whose time is over. Four states are entered first,
because something is owed from then on. FREEZING: what is stopped must be woken or killed. SWEEPING: what is
left must be killed at an interrupt. RUNNING, of a worker: it may have the job, and cannot be given back.
RELEASED: another stage may have the worker.

Only the reactor's thread writes the state. `kill_now`, which runs in any thread, leaves a note of its own.

Out of scope: watching for the exit, and its outcome.
"""

from __future__ import annotations

import contextlib
import enum
import signal
import time

from penstock.core.timing import timing
from penstock.runtime.reaper import OrphanReaper
from penstock.stages.running import Running
from penstock.system.process_tree import stop_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.runtime.reactor import Timer
    from penstock.system.process import Process, ProcessHandle, ProcessTable

__all__ = ["ProcessState", "RunningProcess"]


class ProcessState(enum.IntEnum):
    """How far a process has been made to end. States only grow."""

    WAITING = enum.auto()
    """The worker process has no job yet."""
    RUNNING = enum.auto()
    """Nothing was done to end it."""
    FREEZING = enum.auto()
    """The tree of processes is being stopped, or an interrupt came in the middle of that."""
    FROZEN = enum.auto()
    """The whole tree was stopped."""
    TERMINATING = enum.auto()
    """It was asked to end. It, or what is left of its group, has the grace time for that."""
    SWEEPING = enum.auto()
    """The command ended by itself, and what it left behind was asked to end; that has the grace time."""
    KILLED = enum.auto()
    """All got SIGKILL."""
    ABANDONED = enum.auto()
    """It outlived SIGKILL; an `OrphanReaper` has it."""
    RELEASED = enum.auto()
    """The worker process is idle again, or dead and reaped."""


_STOPPED = (ProcessState.FREEZING, ProcessState.FROZEN)


class RunningProcess(Running):
    """A running stage that is a child process; all but `kill` and `kill_now` is for the reactor's thread.

    A subclass sets `_process` and `pid`.
    """

    _process: Process
    _descendants: Sequence[ProcessHandle] = ()
    _state = ProcessState.RUNNING
    _timer: Timer | None = None
    """Calls the next step of the sequence."""
    _no_grace = False
    """All got SIGKILL by `kill_now`, so nothing is waited for any more but the exit."""

    def kill(self, reason: BaseException) -> None:
        """Ask the process to end; SIGKILL to the whole tree once the grace time is over."""
        self.ctx.reactor.post(lambda: self._kill(reason))

    def kill_now(self, processes: ProcessTable) -> None:
        """SIGKILL to the whole tree, in whatever thread: the host process ends, or its user insists."""
        if self.done or self._state >= ProcessState.ABANDONED:
            return
        self._no_grace = True
        held = self._descendants
        tree = stop_tree(self._process, held, processes)
        self._process.send_signal(signal.SIGKILL)
        for descendant in tree:
            descendant.send_signal(signal.SIGKILL)
            if descendant not in held:
                descendant.close()
        self._on_forced()

    # The steps.

    def _enter(self, state: ProcessState, timer: Timer | None = None) -> None:
        """Note that a step was taken, and by which timer the next one will be."""
        before = self._timer
        self._timer, self._state = timer, state  # no signal handler runs between the two
        if before is not None:
            before.cancel()

    def _call_later(self, seconds: float, step: Callable[[], None]) -> Timer:
        return self.ctx.reactor.call_at(time.monotonic() + seconds, step)

    def _kill(self, reason: BaseException) -> None:
        """Ask it to end, unless it was asked before; then `_resume`."""
        raise NotImplementedError

    def _resume(self) -> None:
        """Take the next step if its time is over, which an interrupt may have cut short or lost."""
        timer = self._timer
        if self._state is ProcessState.ABANDONED:
            self._abandon()
        elif timer is not None and timer.when <= time.monotonic():
            if self._state is ProcessState.KILLED:
                self._abandon()
            else:
                self._force()

    def _freeze(self, processes: ProcessTable | None) -> None:
        """Stop the whole tree."""
        self._enter(ProcessState.FREEZING)
        self._descendants = stop_tree(self._process, self._descendants, processes)
        self._enter(ProcessState.FROZEN)

    def _wake(self) -> None:
        """Let what was stopped go on."""
        if self._state in _STOPPED:
            for descendant in reversed(self._descendants):
                if not descendant.in_group:
                    descendant.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGCONT)

    def _terminate(self) -> None:
        """SIGTERM to the whole tree."""
        self._process.send_signal(signal.SIGTERM)
        for descendant in self._descendants:
            # One that was in the group has got it by that, unless it left in this very moment.
            if not descendant.in_group:
                descendant.send_signal(signal.SIGTERM)
        self._wake()

    def _force(self) -> None:
        """SIGKILL to the whole tree, to each process of it."""
        if self.done or self._state >= ProcessState.KILLED:
            return
        self._descendants = stop_tree(self._process, self._descendants)
        self._process.send_signal(signal.SIGKILL)
        for descendant in self._descendants:
            descendant.send_signal(signal.SIGKILL)
        self._on_forced()
        self._enter(ProcessState.KILLED, self._call_later(timing.kill_timeout_s, self._abandon))

    def _abandon(self) -> None:
        """End the stage without its process, which outlives SIGKILL.

        It is a set-uid program that we may not signal, or in an uninterruptible sleep. The supervisor reaps
        it, whenever it may die.
        """
        if self.done or self._state > ProcessState.ABANDONED:
            return
        if self._state is not ProcessState.ABANDONED:
            if self._process.exited():  # in the last moment
                self._on_exit(0)
                return
            self._detach()
            self.ctx.emit_event("abandoned", f"process {self.pid} has outlived SIGKILL", self._reason)
            self._enter(ProcessState.ABANDONED)
        with contextlib.suppress(FileExistsError):  # an interrupt came after this, and it is watched
            OrphanReaper(self._process, self._descendants).watch()
        self.complete(self._forced_end())

    def _close_handles(self) -> None:
        for descendant in self._descendants:
            descendant.close()

    # The parts of subclasses.

    def _on_forced(self) -> None:
        """Do what else belongs to SIGKILL, in whatever thread."""

    def _on_exit(self, _events: int) -> None:
        """Look whether the process has exited, and end the stage if so."""
        raise NotImplementedError

    def _detach(self) -> None:
        """Watch and read nothing of the process any more. Idempotent."""
        raise NotImplementedError

    def _forced_end(self) -> BaseException | None:
        """Return what an end by force counts as."""
        return self._reason
