"""The program of a worker process: it takes one job after the other from its socket, until EOF.

The main thread drives a reactor, as the supervisor does in the host. It reads the socket, and runs the timers
of line stages. The stage itself runs as in the host, in a worker thread with streams over file descriptors,
so one engine serves both. Messages to the host go straight into the socket, from any thread, so events arrive
in order and before the end.

The socket is moved away from 0, 1 and 2 at once, because a program that user code starts would inherit it as
its stdin. The host handles SIGINT, and cancels its stages. Here a handler does nothing: such programs would
inherit an ignored signal, and do so if the host ignores it. SIGTERM ends the process, as it does by default.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pickle
import resource
import signal
import sys

from penstock.core.constants import DEVNULL
from penstock.core.options import DEFAULTS
from penstock.core.placeholders import hold
from penstock.isolation import messages
from penstock.isolation.channel import Channel
from penstock.runtime.dispatcher import Dispatcher
from penstock.runtime.events import EventEmitter
from penstock.runtime.start_barrier import StartBarrier
from penstock.runtime.supervisor import local_reactor
from penstock.stages.context import Scope, StageContext
from penstock.stages.run_services import RunResources, RunServices
from penstock.stages.stderr import StderrTarget
from penstock.streams.stage_ends import Input, Output
from penstock.system import procfs
from penstock.system.fds import duplicate, null
from penstock.system.poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from penstock.runtime.reactor import Reactor
    from penstock.stages.running import ThreadedStage
    from penstock.system.fds import Fd

__all__ = ["main"]

_OWN_OUTPUTS = 2
"""Descriptors that come last with a job: the host's own stdout and stderr."""


def main() -> NoReturn:
    """Serve jobs until the host closes the socket, or dies."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    channel = Channel(duplicate(0))
    _redirect_to_devnull(0)
    _Server(channel, local_reactor()).run()


class _Server:
    """Everything here happens in the main thread."""

    def __init__(self, channel: Channel, reactor: Reactor) -> None:
        self._channel = channel
        self._reactor = reactor
        self._job: _Job | None = None

    def run(self) -> NoReturn:
        self._reactor.watch(self._channel.fileno(), READ, self._ready)
        while True:
            self._reactor.run_once()

    def _ready(self, _events: int) -> None:
        for message in self._channel.receive():
            what, content = pickle.loads(message)  # noqa: S301 - from the process that started this one
            if what == "job":
                self._job = _Job(self._channel, self._reactor, content)
                self._job.begin()
            elif self._job is not None:  # else it ended just now
                {"stop": self._job.stop, "cancel": self._job.cancel, "look": self._job.look}[what](content)
        if self._channel.ended:
            os._exit(0)


class _Job:
    """One stage."""

    def __init__(self, channel: Channel, reactor: Reactor, content: dict[str, Any]) -> None:
        self._channel = channel
        self._reactor = reactor
        self._content = content
        self._usage = _usage()
        self._running: ThreadedStage | None = None
        self._cancelled = False
        self._ends: Sequence[Input | Output] = ()
        procfs.reset_peak()

    def begin(self) -> None:
        """Start the stage, or report why that fails."""
        try:
            self._running = running = self._start()
        except BaseException as error:  # noqa: BLE001 - whatever an import or a pickle raises is the stage's outcome
            error.add_note("the stage could not be loaded in its worker process")
            self._report(error)
        else:
            running.on_done(lambda: self._reactor.post(lambda: self._report(running.error)))

    def cancel(self, packed: bytes) -> None:
        """Make `ctx.cancelled` true, and wake the stage from its streams."""
        running = self._running
        if running is None or running.done or self._cancelled:
            return
        self._cancelled = True
        reason = messages.decode_error(packed)
        running.ctx.cancel(reason)
        running.prepare_cancel(reason)
        running.interrupt(reason)

    def stop(self, _: bytes) -> None:
        """Ask the stage to end, which is not a failure. The host has the deadline."""
        if self._running is not None:
            self._running.stop(math.inf)

    def look(self, _: bytes) -> None:
        """Send how many bytes went through each stream, and whether the stage waits in it."""
        if self._running is not None and not self._running.done:
            _send(self._channel, "look", [end.probe()[:2] for end in self._ends])

    def _start(self) -> ThreadedStage:
        fds, self._channel.arrived = self._channel.arrived, []
        content = self._content
        owned, (inputs, outputs) = content["owned"], content["ports"]
        try:
            *streams, out, err = _complete(fds, len(owned) + _OWN_OUTPUTS)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
        except BaseException:
            for fd in fds:
                fd.close()
            raise
        out.close()
        err.close()
        kinds = [Input, Output, *(Input for _ in inputs), *(Output for _ in outputs)]
        self._ends = ends = [
            kind(fd, owned_description=own) for kind, fd, own in zip(kinds, streams, owned, strict=True)
        ]
        try:
            _apply_state(content["state_delta"])
            self._secrets = [hold(text, token) for token, text in content["secrets"].items()]
            stage = messages.load(content["stage"])
            barrier = StartBarrier(self._reactor)
            barrier.open()  # no other stage is to be started first
            ctx = _Context(content["name"], self._scope(), barrier, self._channel)
        except BaseException:
            for end in ends:
                end.close()
            raise
        stdin, stdout, *others = ends
        if others:  # a stage closes its ends itself
            return stage.start_in_graph(ctx, stdin, stdout, _Ports(inputs, outputs, others))  # type: ignore[no-any-return]
        return stage.start(ctx, stdin, stdout)  # type: ignore[no-any-return]

    def _scope(self) -> Scope:
        dispatcher = Dispatcher()
        events = EventEmitter(None, dispatcher)
        services = RunServices(self._reactor, dispatcher, RunResources([], events), events)
        options = {**DEFAULTS, "cwd": self._content["cwd"], "grace": self._content["grace"]}
        return Scope(
            services,
            options,
            env_layers=({},),
            deadline=self._content["deadline"],
            stderr=StderrTarget("stderr", DEVNULL),
        )

    def _report(self, error: BaseException | None) -> None:
        """Send the outcome to the host; this process is idle from then on."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # its reader has gone
                stream.flush()
        for number in (1, 2):
            _redirect_to_devnull(number)
        counts = tuple(end.count for end in self._ends)
        before, after = self._usage, _usage()
        used = (after[0] - before[0], after[1] - before[1], procfs.own_peak())
        packed = None if error is None else messages.encode_error(error)
        self._running = None
        _send(self._channel, "done", packed, used, counts)


class _Ports:
    """The ends of a stage besides its stdin and stdout, by name; see `engine.graph_pipes`."""

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], ends: Sequence[Any]) -> None:
        self._ends = ends
        self.inputs: dict[str, Input] = dict(zip(inputs, ends, strict=False))
        self.outputs: dict[str, Output] = dict(zip(outputs, ends[len(inputs) :], strict=True))

    def close(self) -> None:
        """Close all of them."""
        for end in self._ends:
            end.close()


class _Context(StageContext):
    """The stage's view of its run; its events go to the host."""

    def __init__(self, name: str, scope: Scope, barrier: StartBarrier, channel: Channel) -> None:
        super().__init__(name, scope, barrier)
        self._channel = channel

    def emit_event(
        self,
        kind: str,
        message: str,
        error: BaseException | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        elapsed: float | None = None,
    ) -> None:
        """Send an event; of a value that cannot be sent, send its repr."""
        facts = context() if callable(context) else context or {}
        values = {name: messages.dumps_or_repr(value, repr) for name, value in facts.items()}
        _send(self._channel, "event", kind, message, values)


def _send(channel: Channel, *message: object) -> None:
    with contextlib.suppress(OSError, ValueError):  # the host is gone, or this is a forked copy of a worker
        channel.send_all(pickle.dumps(message))


def _apply_state(delta: Mapping[str, Any]) -> None:
    """Apply what has changed in the host since the last job."""
    if "path" in delta:
        sys.path[:] = delta["path"]
    if "argv" in delta:
        sys.argv[:] = delta["argv"]
    if "environ" in delta:
        os.environ.clear()
        os.environ.update(delta["environ"])
    if delta.get("cwd") is not None:
        os.chdir(delta["cwd"])
    if delta.get("main") is not None:
        from multiprocessing import spawn  # noqa: PLC0415 - dear, and few jobs need it

        messages.main_is_loading = True
        try:
            spawn.prepare(dict([delta["main"]]))
        finally:
            messages.main_is_loading = False


def _usage() -> tuple[float, float]:
    """Return user and system seconds of this process, and of the children that it has waited for."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + others.ru_utime, own.ru_stime + others.ru_stime


def _complete(fds: list[Fd], count: int) -> list[Fd]:
    """Check that all file descriptors of a job came; the kernel drops those beyond our limit (unix(7))."""
    if len(fds) < count:
        raise OSError(errno.EMFILE, "the stage's streams could not be passed to it: out of descriptors")
    return fds


def _redirect_to_devnull(number: int) -> None:
    nowhere = null(writable=number > 0)
    os.dup2(nowhere.fileno(), number)
    nowhere.close()
