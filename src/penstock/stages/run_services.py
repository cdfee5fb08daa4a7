"""The services of a run that its stages use, and the resources that it holds until it ends."""

from __future__ import annotations

import contextlib
import threading

from penstock.system.fork_guard import late_import
from penstock.system.terminal import TerminalModes, has_controlling_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.limits.confinement import CgroupLease
    from penstock.profiling.profiler import Profiler
    from penstock.progress.ticker import Progress
    from penstock.runtime.dispatcher import Dispatcher
    from penstock.runtime.events import EventEmitter
    from penstock.runtime.guarding import RunGuard
    from penstock.runtime.reactor import Reactor, Timer
    from penstock.runtime.tee import StderrRelay
    from penstock.stages.stderr import StderrTarget
    from penstock.system.atomic_file import AtomicFile
    from penstock.system.pipe_capacity import PipeCapacityLease
    from penstock.system.shared_files import SharedFiles

__all__ = ["RunResources", "RunServices"]


class RunResources:
    """The resources that a run holds from its start to its end, beside its stages and endpoints."""

    __slots__ = (
        "cgroups",
        "events",
        "graph_pipes",
        "guard",
        "objects_to_close",
        "outputs",
        "pages",
        "profiler",
        "progress",
        "relay",
        "shared_files",
        "stderrs",
        "timers",
    )

    def __init__(self, objects_to_close: list[Any], events: EventEmitter) -> None:
        self.events = events
        """Emits the events about the run itself."""
        self.objects_to_close = objects_to_close
        """User objects that were handed over in `closing(...)`. A worker closes them, not `close`."""
        self.outputs: list[AtomicFile] = []
        """Files that take the place of their targets if the run succeeds. A worker does that, not `close`."""
        self.cgroups: list[CgroupLease] = []
        self.graph_pipes: Any = None
        """Looks at the pipes of a graph that is not a line; its end closes the handles."""
        self.stderrs: list[StderrTarget] = []
        self.pages: list[PipeCapacityLease] = []
        """The shares of the pipe budget that the pipes between stages take; they end with the stages."""
        self.timers: list[Timer] = []
        self.guard: RunGuard | None = None
        """Ends the commands if the host dies, if the run asks for it."""
        self.profiler: Profiler | None = None
        """Takes the samples of the run, if it is to have a profile."""
        self.progress: Progress | None = None
        """Shows the progress of the run, if that was asked for."""
        self.shared_files: SharedFiles | None = None
        """The files that several outputs write to; None if no two outputs can be one file."""
        self.relay: StderrRelay | None = None
        """Writes to our own stderr, if some stderr is shown and captured."""

    def stderr_relay(self) -> StderrRelay:
        """Return the relay, made when it is first asked for. Raises OSError if no descriptor is left.

        It is noted before it is opened, so that an interrupt cannot lose it.
        """
        if self.relay is None:
            with late_import:  # no command whose stderr it shows is spawned yet
                from penstock.runtime.tee import StderrRelay  # noqa: PLC0415 - few runs need it

            self.relay = StderrRelay(self.events)
        self.relay.open()
        return self.relay

    @property
    def shows_stderr(self) -> bool:
        """Whether what commands write to our stderr goes through the relay, above a live view."""
        return self.progress is not None and self.progress.shows_stderr

    def close(self) -> None:
        """Give everything back. It may be done again, if an interrupt came in the middle of it."""
        for timer in self.timers:
            timer.cancel()
        for target in self.stderrs:
            target.close()
        parts = self.profiler, self.progress, self.shared_files, self.relay, self.graph_pipes, self.guard
        for part in parts:
            if part is not None:
                part.close()
        for file in self.outputs:
            file.discard()  # one that was not committed, because the run was ended by force
        for pages in self.pages:
            pages.release()
        for lease in self.cgroups:
            # Without a descriptor or a thread for the supervisor a cgroup stays until the process ends.
            with contextlib.suppress(OSError, RuntimeError):
                lease.close()


class RunServices:
    """The services that all stages of one run share, whichever pipeline they belong to."""

    __slots__ = ("dispatcher", "events", "found_terminal", "reactor", "resources", "terminal_modes")

    def __init__(
        self, reactor: Reactor, dispatcher: Dispatcher, resources: RunResources, events: EventEmitter
    ) -> None:
        self.reactor = reactor
        """Steers the run."""
        self.dispatcher = dispatcher
        """Delivers events and lines to user code."""
        self.resources = resources
        self.events = events
        """Emits the events about the run itself."""
        self.terminal_modes: TerminalModes | None = None
        """The modes of the terminal when the first command was started, if the main thread did that."""
        self.found_terminal: bool | None = None
        """The answer of `at_terminal`, once it was asked."""

    @property
    def at_terminal(self) -> bool:
        """Whether the process has a controlling terminal, as of the start of the run's first command."""
        if self.found_terminal is None:
            self.found_terminal = has_controlling_terminal()
            if self.found_terminal and threading.current_thread() is threading.main_thread():
                self.terminal_modes = TerminalModes.read()
        return self.found_terminal
