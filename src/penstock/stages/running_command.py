"""One child process while it runs: its exit, its stderr, and the processes it leaves behind.

Everything happens in the reactor's thread; `kill` only posts. A command is done when its process has exited
and its stderr is read, even if another process still holds the write end. The steps that end it before that
are in `stages.kill_sequence`.

Why a dead leader may be left unreaped for a while: after a cancellation, members of its process group may
still be tidying up, and they have the rest of the grace time for that. The group's id is the leader's pid,
and the kernel may reuse a pid once it is reaped. So the zombie is kept until the group is empty or has got
SIGKILL. This makes the signal to the group race-free.
"""

from __future__ import annotations

import contextlib
import signal
import time

from penstock.core.env import show
from penstock.core.errors import ExitError
from penstock.stages.kill_sequence import ProcessState, RunningProcess, freeze
from penstock.system.poller import READ
from penstock.system.process_look import ProcessLook
from penstock.system.process_tree import open_handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.limits.confinement import Confinement
    from penstock.runtime.reactor import Timer
    from penstock.runtime.taps import Tap
    from penstock.stages.context import StageContext
    from penstock.system.process import Process

__all__ = ["RunningCommand"]

_STDERR_WATCH_DELAY_S = 0.002
"""Seconds that a command has to end before its stderr is watched, if that saves a wake-up."""
_MIN_POLL_INTERVAL_S = 0.0005
_MAX_POLL_INTERVAL_S = 0.02
"""Seconds between two polls for an exit that no descriptor reports: doubled each time within these bounds."""


class RunningCommand(RunningProcess):
    """A running command."""

    takes_signals = True
    pipe_codes: frozenset[int] = frozenset()
    """Exit statuses by which the program says that its reader has gone."""
    _stderr_timer: Timer | None = None
    _lingers = False
    """It has exited, but is left unreaped while others of its tree still run."""
    _poll_interval = _MIN_POLL_INTERVAL_S

    def __init__(  # noqa: PLR0913 - everything is known when it starts
        self,
        ctx: StageContext,
        process: Process,
        argv: Sequence[str | bytes],
        ok_codes: frozenset[int],
        tap: Tap | None,
        on_leftover: str = "ignore",
        confinement: Confinement | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        super().__init__(ctx)
        self.pid = process.pid
        self._own(process)
        self._argv = argv
        self._ok_codes = ok_codes
        self._stop_signal = stop_signal
        self._tap = tap
        self._on_leftover = on_leftover
        self._confinement = confinement
        if ctx.scope.guard is not None and process.group is not None:
            self.on_done(ctx.scope.guard.add_group(process.group))
        ctx.register(self)

    def begin_watch(self) -> None:
        """Start watching, again if an interrupt cut that short."""
        tap, reactor = self._tap, self.ctx.reactor
        if tap is not None and reactor.in_driver_thread:
            # A command that ends at once closes its stderr just before it exits, and both events would wake
            # this thread. Its output waits in the pipe, so it is safe to watch the pipe a little later.
            self._stderr_timer = reactor.call_at(time.monotonic() + _STDERR_WATCH_DELAY_S, tap.start)
        elif tap is not None:
            tap.start()
        self._watch()

    def _watch(self) -> None:
        fd = self._process.fileno()
        if fd is None:
            self.ctx.reactor.post(self._poll_exit)
        else:
            self.ctx.reactor.watch(fd, READ, self._on_exit)

    def _must_freeze(self) -> bool:
        return self._state < ProcessState.FROZEN and not (self.done or self._process.exited())

    def kill_if_cancelled(self) -> None:
        """Send SIGKILL at once, if the command was cancelled. From any thread."""
        self.ctx.reactor.post(self._kill_if_cancelled)

    def check_exit(self) -> None:
        """Check for an exit, because an interrupt may have lost the event or the watch for it."""
        if self._process.exited():
            self._on_exit(0)
        elif not self.done:
            with contextlib.suppress(FileExistsError):  # by epoll, if it is watched already
                self._watch()

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process itself; nothing if it has ended. From any thread or signal handler."""

        def send() -> None:
            self._process.send_signal(signum, group=False)

        self.ctx.reactor.post(send)

    def stop(self, grace: float) -> None:
        """Ask the command to end as `kill` does; SIGKILL follows after `grace` seconds."""
        if self.done:
            return
        if self._state >= ProcessState.TERMINATING:
            if self.stopped is not None:
                self._hurry(grace)
        elif not self._process.exited() and self._mark_stopped():  # else it has just ended by itself
            self._terminate(grace)

    def _kill(self, reason: BaseException) -> None:
        if self.done:
            return
        if self._state is ProcessState.SWEEPING:  # it ended by itself, and its leftovers have no time now
            self._force()
            return
        if self._state >= ProcessState.TERMINATING:
            if self._reason is None:
                self._reason = reason
            self._hurry(self.ctx.grace)
            self._resume()
            return
        if self._state < ProcessState.FROZEN and self._reason is None and self._process.exited():
            self._finish()  # it ended by itself just now
            return
        self._terminate(self.ctx.grace, reason)

    def _terminate(self, grace: float, reason: BaseException | None = None) -> None:
        """Stop the whole tree, and wake it with the signal that asks it to end."""
        if self._state < ProcessState.FROZEN:
            freeze([self])
        if self._reason is None:
            self._reason = reason
        if self._confinement is not None:
            self._confinement.kill_on_release()
        self.tree.terminate(self._stop_signal)
        self._enter(ProcessState.TERMINATING, self._call_later(grace, self._force_soon))

    def _kill_if_cancelled(self) -> None:
        if self._reason is not None and not self._no_grace:
            self._force()

    def force_stopped(self) -> None:
        """Send SIGKILL, and do not wait for an exit that was there before."""
        super().force_stopped()
        if not self.done and self._process.exited():
            self._finish()

    def _on_forced(self) -> None:
        if self._confinement is not None:
            self._confinement.kill()

    def _detach(self) -> None:
        self._unwatch()
        if self._stderr_timer is not None:
            self._stderr_timer.cancel()
        if self._tap is not None:
            self._tap.close()

    def _on_exit(self, events: int) -> None:
        if self.done:
            return
        if not self._asked_to_end and self._on_leftover == "ignore":
            self._finish()
            return
        if not self._process.exited():  # the call was for another descriptor with this number
            return
        # The poll has seen the exit, so what it has left was there before this turn's look.
        if self._must_linger(self.ctx.reactor.look if events else ProcessLook):
            self._unwatch()  # a zombie's pidfd stays readable
            self._lingers = True
            self._poll_later()
        else:
            self._finish()

    def _must_linger(self, look: Callable[[], ProcessLook]) -> bool:
        """Whether it is left unreaped, although it has exited, while others of its tree still run.

        `look` returns a look that was taken after the exit.
        """
        if not self._asked_to_end and self._on_leftover == "ignore":
            return False
        if self._no_grace or self._state >= ProcessState.KILLED:
            return False
        if not self._asked_to_end and self._state is not ProcessState.SWEEPING:
            return self._check_leftover(look())
        return self.tree.has_others(look())

    def _check_leftover(self, look: ProcessLook) -> bool:
        """Report the processes that it has left behind. Return whether they were asked to end."""
        members = [] if self._confinement is None else self._confinement.members()
        left = open_handles({*self.tree.others(look), *members} - {self.pid})
        if left:
            self.ctx.report_leftover(sorted(handle.pid for handle in left))
        if not left or self._on_leftover != "kill":
            for handle in left:
                handle.close()
            return False
        self.tree.handles = left
        self._enter(ProcessState.SWEEPING, self._call_later(self.ctx.grace, self._force_soon))
        for handle in left:
            handle.send_signal(signal.SIGTERM)
        return True

    def _poll_exit(self) -> None:
        """Poll for events without a descriptor: an exit without pidfd, the end of a group's last member."""
        if self.done:
            return
        # A process that lingers had exited before this turn.
        look = self.ctx.reactor.look if self._lingers else ProcessLook
        if self._process.exited() and not self._must_linger(look):
            self._finish()
        else:
            self._poll_later()

    def _poll_later(self) -> None:
        self.ctx.reactor.call_at(time.monotonic() + self._poll_interval, self._poll_exit)
        self._poll_interval = min(self._poll_interval * 2, _MAX_POLL_INTERVAL_S)

    def _unwatch(self) -> None:
        fd = self._process.fileno()
        if fd is not None:
            self.ctx.reactor.unwatch(fd)

    def _finish(self) -> None:
        """Reap the process, if it has really exited, read the rest of its stderr, and complete the stage."""
        error: BaseException | None = None
        self._unwatch()
        self._wake()
        try:
            self.status = self._process.reap()
            if self.status is None:  # a spurious call
                self._watch()
                return
        except ChildProcessError as lost:
            error = lost
        if self._stderr_timer is not None:
            self._stderr_timer.cancel()
        if self._tap is not None:
            # A process that it has left behind on purpose goes on to write to its stderr.
            self._tap.finish(discard_rest=not self._asked_to_end and self._on_leftover != "kill")
            self.stderr = self._tap.kept
        if self._timer is not None:
            self._timer.cancel()
        self.tree.close()
        if self._reason is not None:
            error = self._reason
        elif self.stopped is not None:
            error = self.stopped
        elif self.status is not None and self.status.returncode not in self._ok_codes:
            error = self._failure(self.status.returncode)
        self.complete(error)

    def _failure(self, returncode: int) -> BaseException:
        """Return the stage's error: a memory limit that the kernel enforced, or the exit status."""
        limited = None if self._confinement is None else self._confinement.explain(returncode)
        if limited is None:
            error = ExitError(returncode, [show(arg) for arg in self._argv], self.stderr)
            if returncode in self.pipe_codes:
                error.broken_pipe = True
            return error
        facts = {"limit": limited.limit, "used": limited.used, "pids": [self.pid]}
        self.ctx.emit_event("memory-limit", str(limited), limited, facts)
        return limited
