"""Turn the signals that ask penstock to end into a cancellation of its run.

A signal never unwinds the stack during a run: it cancels the run, and the thread that waits for the run goes
on to reap it. Before the run starts there is nothing to reap, so `Stopped` is raised, also out of a system
call that blocks, such as opening a FIFO.

Threads: Python runs signal handlers in the main thread, between two bytecodes. If that thread is about to
sleep on a lock, the handler runs only when it wakes, which may be never. The C handler writes to the wakeup
descriptor at once and in any thread. So a thread that reads this descriptor cancels the run, and the Python
handlers only raise `Stopped`. `_lock` guards the run, the first signal, and whether cancelling is due.

The terminal sends Ctrl-C to all processes of the foreground group, including our commands. They get
`_CLOSE_TIMEOUT_S` to end in their own way (`ping` prints its figures) before the run is cancelled. Without a
terminal the commands lead groups of their own, a SIGINT reaches only us, and the run is cancelled at once.
The commands get that time even if Ctrl-C comes while the run is being started. So `start` does not check
whether a signal came, but whether the run has to be cancelled by now (`_due`).

Out of scope: exit statuses, and messages about a signal.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock import Run
    from penstock.cli.loop_run import LoopRun
    from penstock.cli.terminal import Terminal

    R = TypeVar("R", bound=Run | LoopRun)

__all__ = ["Signals", "Stopped"]

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that the commands get to end by themselves after a Ctrl-C that reached them too."""


class Stopped(KeyboardInterrupt):
    """A signal asked us to end before anything was started."""


class Signals:
    """A context manager in which signals end the run that it starts. For the main thread, once."""

    def __init__(self, terminal: Terminal | None) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._signum: int | None = None
        self._starting = False
        self._due = False
        self._run: Run | LoopRun | None = None
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # set_wakeup_fd requires it
        self._watcher = threading.Thread(target=self._watch, name="penstock-signals", daemon=True)

    @property
    def signum(self) -> int | None:
        """The first signal that asked us to end. It cannot change after the context has been left."""
        return self._signum

    def __enter__(self) -> Self:
        self._watcher.start()
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for signum in _ENDING:
            if (
                signal.getsignal(signum) is not signal.SIG_IGN
            ):  # ignored by nohup, or by `&` in a simple shell
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(-1)
        os.write(self._write, b"\0")  # no signal has this number: it ends the watcher
        self._watcher.join()
        os.close(self._read)
        os.close(self._write)

    def start(self, begin: Callable[[], R]) -> R:
        """Start a run by `begin`, and cancel it at once if that has become due meanwhile."""
        self._starting = True
        run = begin()
        with self._lock:
            self._run = run
            due = self._due
        if due:
            run.cancel()
        return run

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal; Python calls it in the main thread, sooner or later."""
        if not self._starting:
            self._signum = signum
            raise Stopped(signum)

    def _watch(self) -> None:
        timeout: float | None = None
        while True:
            if not select.select([self._read], [], [], timeout)[0]:
                timeout = None
                self._cancel()
                continue
            for signum in os.read(self._read, 64):
                if signum == 0:
                    return
                if signum not in self._before:  # not one of our handlers
                    continue
                if signum == signal.SIGINT and self._terminal is not None:
                    if self._terminal.taken_over:
                        continue
                    if timeout is None and self._signum is None:
                        self._note(signum)
                        timeout = _CLOSE_TIMEOUT_S
                        continue
                self._note(signum)
                self._cancel()

    def _note(self, signum: int) -> None:
        with self._lock:
            if self._signum is None:
                self._signum = signum

    def _cancel(self) -> None:
        with self._lock:
            self._due = True
            run = self._run
        if run is not None:
            run.cancel()
