"""The host's side of a stage in a worker process, while it runs.

The run's reactor watches the socket and the process, and everything here happens in its thread. Loading what
the worker sends (values of events, exceptions) runs user code, so a dispatcher or a pool thread does that.

How the stage ends. The worker reports the outcome, and is idle again. If the stage was cancelled, its blocked
read or write wakes with the reason, and the worker has the grace time to report. Then, or when that time is
over, the process and its descendants get SIGKILL. This module sends no SIGTERM; one from elsewhere ends the
worker. A worker that dies before the stage has ended is a `WorkerDied`.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from functools import partial

from penstock.core.errors import Cancelled, FinishEarly, WorkerDied, text_of
from penstock.isolation import messages, worker_pool
from penstock.runtime import thread_pool
from penstock.runtime.guarded_call import GuardedCall
from penstock.stages.kill_sequence import ProcessState, RunningProcess
from penstock.system.fd_passing import standard_outputs
from penstock.system.poller import READ, WRITE
from penstock.system.process import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.isolation.worker_pool import Worker
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output

__all__ = ["RunningIsolated"]

_POLL_INTERVAL_S = 0.02
"""Seconds between two polls of a process without a pidfd."""
_SAFE_MODULES = frozenset({"builtins", "penstock"})
"""Modules of reasons that can be pickled without running user code."""


class RunningIsolated(RunningProcess):
    """The host's side of a stage in a worker process."""

    _state = ProcessState.WAITING
    _failure: BaseException | None = None
    """The error that kept the job from being handed over."""
    _outcome: tuple[bytes | None, tuple[float, float, int], Sequence[int | None]] | None = None
    """The worker's report: the encoded error, the resources used, and the bytes read and written."""

    _asked = False
    """Whether the worker is to answer what its streams do."""

    def __init__(
        self, ctx: StageContext, worker: Worker, ends: Sequence[Input | Output], job: dict[str, Any]
    ) -> None:
        super().__init__(ctx)
        self.pid = worker.process.pid
        self._own(worker.process)
        self._worker = worker
        self._ends = ends
        self._job = job
        self._inbox: deque[bytes] = deque()
        if ctx.scope.guard is not None:
            self.on_done(ctx.scope.guard.add_process(self.pid))
        ctx.barrier.add_callback(lambda: ctx.reactor.post(self._begin))

    @property
    def _has_worker(self) -> bool:
        """Whether the worker may have the job, and is neither idle again, nor reaped or abandoned."""
        return ProcessState.RUNNING <= self._state < ProcessState.ABANDONED

    # The start.

    def _begin(self) -> None:
        """Send the job together with the streams, which belong to the worker from then on."""
        if self.done or self._asked_to_end:
            return
        self._enter(ProcessState.RUNNING)  # first: the worker may have the job from now on
        try:
            self._hand_over()
        except BaseException as error:
            self._failure = error
            self._force()
            # An end was closed before, or too many descriptors are in flight: that is the stage's outcome.
            if not isinstance(error, OSError | ValueError):
                raise
        finally:
            self._close_ends()
            self._job.clear()

    def _hand_over(self) -> None:
        reactor, pidfd, channel = self.ctx.reactor, self._process.fileno(), self._worker.channel
        if pidfd is None:
            reactor.post(self._poll_exit)
        else:
            reactor.watch(pidfd, READ, self._on_exit)
        reactor.watch(channel.fileno(), READ, self._on_message)
        # Only now, because the worker is certain to get it.
        self._job["state_delta"] = self._worker.state_delta(self._job.pop("host_state"))
        self._job["owned"] = [end.owned_description for end in self._ends]
        streams = [_number(end) for end in self._ends]
        with standard_outputs() as outputs:
            channel.send(pickle.dumps(("job", self._job)), [*streams, *outputs])
            self._push()

    def _push(self) -> None:
        """Write queued messages; watch for room if the socket does not take all at once."""
        reactor, channel = self.ctx.reactor, self._worker.channel
        done = channel.flush()
        reactor.unwatch(channel.fileno())
        reactor.watch(channel.fileno(), READ if done else READ | WRITE, self._on_message)

    def _close_ends(self) -> None:
        for end in self._ends:
            end.close()

    def ask_streams(self) -> None:
        """Ask the worker what the streams of the stage do, unless an answer is still to come."""
        if not self._asked:
            self._asked = True
            self.ctx.reactor.post(self._ask)

    def _ask(self) -> None:
        if self._state is ProcessState.RUNNING and self._failure is None:
            self._worker.channel.send(pickle.dumps(("look", b"")))
            self._push()
        else:
            self._asked = False

    # Messages from the worker.

    def _on_message(self, events: int) -> None:
        if not self._has_worker:
            return
        channel = self._worker.channel
        if events & WRITE:
            self._push()
        self._inbox += channel.receive()
        while self._inbox and self._has_worker:
            what, *content = pickle.loads(self._inbox[0])  # noqa: S301 - from our own worker; plain values
            if what == "event":
                self._pass_on(*content)
            elif what == "look":
                self._asked = False
                for end, (count, waits) in zip(self._ends, content[0], strict=False):
                    end.set_look(count, waits=waits)
            else:
                self._on_outcome(*content)
            if self._inbox:
                self._inbox.popleft()
        if channel.ended and self._has_worker:  # the pidfd or `_poll_exit` reports its exit
            self.ctx.reactor.unwatch(channel.fileno())

    def _pass_on(self, kind: str, message: str, values: dict[str, bytes]) -> None:
        self.ctx.emit_event(kind, message, None, partial(_loaded, values))  # loading runs user code

    def _on_outcome(
        self,
        packed: bytes | None,
        used: tuple[float, float, int],
        counts: Sequence[int | None],
    ) -> None:
        self._outcome = packed, used, counts
        worker = self._worker
        worker.used = worker.used[0] + used[0], worker.used[1] + used[1]
        self.usage = Usage(*used)
        for end, count in zip(self._ends, counts, strict=False):
            end.set_count(count)
        if self._asked_to_end or self._failure is not None:
            self._force()
            return
        self._detach()
        self._enter(ProcessState.RELEASED)  # first: another stage may have the worker from now on
        try:
            worker_pool.release(worker)
        except Exception:
            worker.terminate()
            raise
        self._report_outcome(packed)

    def _report_outcome(self, packed: bytes | None) -> None:
        """Complete the stage; a pool thread loads an error, and passes it to `on_exception`."""
        if packed is None:
            self.complete(self.outcome(None))
            return
        call = GuardedCall(partial(self._load_error, packed))
        call.on_done(lambda: self.complete(self.outcome(call.error)))
        call.start(inline=True)

    def _load_error(self, packed: bytes) -> BaseException | None:
        error: BaseException | None = messages.decode_error(packed)
        return error if error is None or isinstance(error, FinishEarly) else self.apply_on_exception(error)

    # Ending it by force.

    def prepare_cancel(self, reason: BaseException) -> None:
        """Send the reason to the worker, so that it does not take the end of its input for a real EOF."""
        if self.done or self._reason is not None:
            return
        # First: an interrupt may lose the message, and then the grace time ends the worker.
        self._reason = reason
        if self._has_worker:
            self._tell(reason)

    def _tell(self, reason: BaseException) -> None:
        if type(reason).__module__ in _SAFE_MODULES:
            self._send_reason(messages.encode_error(reason, with_traceback=False))
            return

        def pack() -> None:
            packed = messages.encode_error(reason, with_traceback=False)
            self.ctx.reactor.post(lambda: self._send_reason(packed))

        try:
            thread_pool.submit(pack)
        except RuntimeError:  # no thread can be started: the text will do
            self._send_reason(messages.encode_error(Cancelled(text_of(reason)), with_traceback=False))

    def _send_reason(self, packed: bytes) -> None:
        # After a failure, half a job may be queued; after SIGKILL, nobody reads.
        if self._failure is None and self._state < ProcessState.KILLED:
            self._worker.channel.send(pickle.dumps(("cancel", packed)))
            self._push()

    def stop(self, grace: float) -> None:
        """Wake the stage in the worker, which gets SIGKILL after `grace` seconds. Its own errors count."""
        if self._outcome is not None or (self._has_worker and self._process.exited()):
            return  # it has just ended by itself
        first = self.stopped is None
        if not self._mark_stopped():
            return
        if self._state is ProcessState.WAITING:
            self._give_back(self.stopped)
        elif self._state is ProcessState.RUNNING and first:
            self._enter(ProcessState.TERMINATING, self._call_later(grace, self._force_soon))
            self._worker.channel.send(pickle.dumps(("stop", b"")))
            self._push()
        else:
            self._hurry(grace)

    def _give_back(self, outcome: BaseException | None) -> None:
        """End the stage, whose job was not handed over."""
        self._close_ends()
        self._enter(ProcessState.RELEASED)  # first: another stage may have the worker from now on
        try:
            worker_pool.release(self._worker)
        except Exception:
            self._worker.terminate()
            raise
        self.complete(outcome)

    def check_exit(self) -> None:
        """Check for everything that an interrupt may have lost."""
        if self._reason is not None:
            self._kill(self._reason)
        if self._has_worker:
            self._on_message(0)
            self._on_exit(0)

    def _kill(self, reason: BaseException) -> None:
        if self.done:
            return
        self.prepare_cancel(reason)
        if self._state is ProcessState.WAITING:
            self._give_back(self._reason)
        elif self._state is ProcessState.RELEASED and self._outcome is None:
            self.complete(self._reason)  # an interrupt came before this
        elif self._timer is None:
            state = ProcessState.TERMINATING if self._state is ProcessState.RUNNING else self._state
            self._enter(state, self._call_later(self.ctx.grace, self._force_soon))
        else:
            self._hurry(self.ctx.grace)
            self._resume()

    def _force_soon(self) -> None:
        if self._state is ProcessState.RELEASED:
            # User code, an `on_exception` or the loading of an exception, has used up the grace time.
            self.complete(self._forced_end())
        else:
            super()._force_soon()

    def _forced_end(self) -> BaseException | None:
        return self._reason or self._failure or self.stopped

    def _abandon(self) -> None:
        super()._abandon()
        if self._state is ProcessState.ABANDONED:
            self._worker.channel.close()

    def _on_exit(self, _events: int) -> None:
        if not self._has_worker or not self._process.exited():
            return
        self._on_message(0)  # its last messages
        if self._has_worker:
            self._finish()

    def _poll_exit(self) -> None:
        """Poll for an exit without a pidfd."""
        self._on_exit(0)
        if self._has_worker:
            self.ctx.reactor.call_at(time.monotonic() + _POLL_INTERVAL_S, self._poll_exit)

    def _detach(self) -> None:
        pidfd = self._process.fileno()
        if pidfd is not None:
            self.ctx.reactor.unwatch(pidfd)
        self.ctx.reactor.unwatch(self._worker.channel.fileno())

    def _finish(self) -> None:
        """Reap the dead process, and complete the stage."""
        worker = self._worker
        self._detach()
        error = self._reason or self._failure
        try:
            status = worker.process.reap()
        except ChildProcessError as lost:
            error = error or lost
        else:
            if status is not None and self._outcome is None:
                user, system = worker.used
                self.usage = Usage(status.user_time - user, status.system_time - system, status.max_rss)
                error = (
                    error or self.stopped or WorkerDied(status.returncode, self.ctx.name, worker.process.pid)
                )
        self.tree.close()
        self._enter(ProcessState.RELEASED)
        worker.channel.close()
        if error is None and self._outcome is not None:
            self._report_outcome(self._outcome[0])
        else:
            self.complete(error)


def _number(end: Input | Output) -> int:
    number = end.fd
    if number is None:
        raise ValueError("a stage with isolate='process' needs a descriptor")
    return number


def _loaded(values: dict[str, bytes]) -> dict[str, Any]:
    """Load the context of one of the worker's events."""
    return {name: messages.load(value) for name, value in values.items()}
