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
with the signal pending.

Many at once. A look at the processes of the machine takes as long as there are processes, so each step that
looks (`freeze`, `_force_all`) takes all processes that are due in the same turn of the reactor.

The rule for interrupts. A KeyboardInterrupt may arrive between any two steps, in a thread that drives its own
run. Then `prepare_cancel`, `check_exit` and `kill` are called once more. So `_enter` comes last: a state says
that its step was taken, and a step that was cut short is taken again. An interrupt may lose the call of a
timer as well, so `_resume` takes the step of a timer whose time is over. Four states are entered first,
because something is owed from then on. FREEZING: what is stopped must be woken or killed. SWEEPING: what is
left must be killed at an interrupt. RUNNING, of a worker: it may have the job, and cannot be given back.
RELEASED: another stage may have the worker.

Only the reactor's thread writes the state. `to_be_killed`, for any thread, leaves a note of its own.

Out of scope: watching for the exit, and its outcome.
"""

from __future__ import annotations

import contextlib
import enum
import time
from functools import partial

from penstock.core.timing import timing
from penstock.runtime.reaper import OrphanReaper
from penstock.stages.running import Running
from penstock.system.process_tree import ProcessTree, stop_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.runtime.reactor import Timer
    from penstock.system.process import Process

__all__ = ["ProcessState", "RunningProcess", "freeze"]


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
    """A running stage that is a child process; all but `kill` and `to_be_killed` is for the reactor's thread.

    A subclass sets `pid` and calls `_own` with its process.
    """

    _process: Process
    tree: ProcessTree
    _state = ProcessState.RUNNING
    _timer: Timer | None = None
    """Calls the next step of the sequence."""
    _no_grace = False
    """All get SIGKILL by `to_be_killed`, so nothing is waited for any more but the exit."""

    def _own(self, process: Process) -> None:
        """Take over a process that was just started, or is about to get its job."""
        self._process = process
        self.tree = ProcessTree(process)
        self.leads_group = process.group is not None

    def stop_signal(self) -> int | None:
        """Return the signal that has stopped it, other than ours. From any thread."""
        if self.done or self._no_grace or self._state > ProcessState.RUNNING:
            return None
        return self._process.stop_signal()

    def kill(self, reason: BaseException) -> None:
        """Ask the process to end; SIGKILL to the whole tree once the grace time is over."""
        self.ctx.reactor.post(lambda: self._kill(reason))

    @property
    def _asked_to_end(self) -> bool:
        """Whether it was cancelled, or stopped on purpose."""
        return self._reason is not None or self.stopped is not None

    # The steps.

    def _enter(self, state: ProcessState, timer: Timer | None = None) -> None:
        """Note that a step was taken, and by which timer the next one will be."""
        before = self._timer
        self._timer, self._state = timer, state  # no signal handler runs between the two
        if before is not None:
            before.cancel()

    def _hurry(self, grace: float) -> None:
        """Have SIGKILL sent in `grace` seconds at the latest, since a stop may have given it more time."""
        timer, now = self._timer, time.monotonic()
        if self._state is ProcessState.TERMINATING and timer is not None and timer.when > now + grace:
            self._enter(self._state, self._call_later(grace, self._force_soon))

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
                self._force_soon()

    def begin_freeze(self) -> bool:
        """Note that the tree is about to be stopped; False if it need not be."""
        if not self._must_freeze():
            return False
        self._enter(ProcessState.FREEZING)
        return True

    def end_freeze(self) -> None:
        """Note that the tree was stopped."""
        self._enter(ProcessState.FROZEN)

    def _must_freeze(self) -> bool:
        """Whether its tree is still to be stopped before it is asked to end."""
        return False

    def _wake(self) -> None:
        """Let what was stopped go on."""
        if self._state in _STOPPED:
            self.tree.resume()

    def _force_soon(self) -> None:
        """SIGKILL to the whole tree, together with those of others whose grace time is over."""
        self.ctx.reactor.collect(_force_all, self)

    def _force(self) -> None:
        """SIGKILL to the whole tree."""
        _force_all([self])

    def can_force(self) -> bool:
        """Whether SIGKILL is still to be sent."""
        return not self.done and self._state < ProcessState.KILLED

    def force_stopped(self) -> None:
        """SIGKILL to each process of the tree, which was stopped."""
        self.tree.kill()
        self._on_forced()
        self._enter(ProcessState.KILLED, self._call_later(timing.kill_timeout_s, self._abandon))

    def to_be_killed(self) -> tuple[ProcessTree, Callable[[], None]] | None:
        """Return the tree, and what sends SIGKILL to it, for `kill_trees`; None if that is not needed.

        In any thread, so it is another tree with the same handles: the reactor's may be using the first one.
        """
        if self.done or self._state >= ProcessState.ABANDONED:
            return None
        self._no_grace = True
        tree = ProcessTree(self._process, self.tree.handles)
        return tree, partial(self._kill_at_once, tree)

    def _kill_at_once(self, tree: ProcessTree) -> None:
        tree.kill()
        tree.close_new()
        self._on_forced()

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
            OrphanReaper(self._process, self.tree).watch()
        self.complete(self._forced_end())

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
        return self._reason or self.stopped


def freeze(processes: Iterable[RunningProcess]) -> None:
    """Stop the whole trees of those that are to be asked to end. In the reactor's thread."""
    due = [one for one in processes if one.begin_freeze()]
    _stop([one.tree for one in due])
    for one in due:
        one.end_freeze()


def _force_all(processes: Iterable[RunningProcess]) -> None:
    """SIGKILL to the whole trees of those whose grace time is over. In the reactor's thread."""
    due = [one for one in processes if one.can_force()]
    _stop([one.tree for one in due])
    for one in due:
        one.force_stopped()


def _stop(trees: list[ProcessTree]) -> None:
    """Stop trees. If memory or descriptors are short, those processes get signals that were found by then."""
    with contextlib.suppress(MemoryError, OSError, RuntimeError):
        stop_trees(trees)
