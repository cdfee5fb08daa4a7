"""The engine of a map: two tasks in worker threads, one that begins jobs and one that decides.

The *feeder* draws an input, makes its pipeline and starts the run, each time it gets a permit. All of that
may call user code and block. The *collector* owns all other state and gives the permits. It handles messages
one after the other: an attempt has ended, the consumer has taken a job, the inputs have ended. It decides on
retries and on halting, writes what a job wrote, and puts the job where the consumer gets it. So a consumer
that is busy holds up nothing, and an iterator of inputs that blocks holds up no result.

Bounds. A permit needs a free worker and room: `2 * workers` jobs are begun and not taken by the consumer, at
most. So an endless iterator is drawn no further than that, and memory is bounded, whoever is slow.

The end. `_shut`, under the lock that also admits attempts, keeps any further one from being begun. Then the
map is over when the last attempt has ended; nobody waits for a feeder that is stuck in user code. A caller
that ends a map early (`end`) cancels the runs itself, because the collector may be blocked. A message is one
`put` to a queue that is written in C, so an interrupt cannot lose half of it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from _queue import Empty, SimpleQueue  # `queue` only adds what we do not use
from functools import partial

from penstock.core.errors import Cancelled, PipelineCancelled, PipelineError
from penstock.core.item import MapInput
from penstock.core.timing import timing
from penstock.jobs.attempt import Attempt
from penstock.jobs.errors import Failures
from penstock.jobs.rules import HaltRule, retry_delay
from penstock.jobs.whole_outputs import WholeOutputs
from penstock.runtime import thread_pool
from penstock.runtime.latch import Latch
from penstock.runtime.supervisor import last_cancellation
from penstock.system.event_loops import threads_context
from penstock.system.process_tree import kill_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.jobs.errors import MapError
    from penstock.jobs.job import Job
    from penstock.jobs.settings import MapSettings
    from penstock.jobs.tasks import Task, Tasks

__all__ = ["MapRun"]

_END = object()
_PERMIT = object()


class MapRun:
    """One map. It knows nothing of the object that the user holds, so dropping that ends the map."""

    def __init__(self, settings: MapSettings, tasks: Tasks) -> None:
        self.ready: SimpleQueue[Job | None] = SimpleQueue()
        """The jobs for the consumer, and None at the end."""
        self.done = Latch()
        """Set when nothing of the map runs any more."""
        self.fatal: BaseException | None = None
        """The error that the iteration raises at its end instead of a MapError, such as one of the inputs."""
        self._settings = settings
        self._tasks = tasks
        self._since = last_cancellation()
        self._rule = HaltRule(settings.halt, settings.max_failures, tasks.total)
        self._outputs = WholeOutputs()
        self._waiters: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._permits: SimpleQueue[object] = SimpleQueue()
        """`_PERMIT` for each input that may be drawn, None for the end."""
        self._claim = threading.Lock()
        """Taken by the collector when it begins, or by `end` if that comes first."""
        self._lock = threading.Lock()
        """Guards the next two."""
        self._shut = False
        """Whether no further attempt may begin."""
        self._active: set[Attempt] = set()
        self._reason: BaseException | None = None
        """Why everything that runs is cancelled."""
        self._left = False
        """Whether the consumer, or a fault, has ended it early."""
        # The collector's own.
        self._exhausted = False
        self._slots = settings.workers
        self._room = 2 * settings.workers
        self._retries: list[tuple[float, int, Attempt]] = []
        self._serial = itertools.count()
        self._held: dict[int, tuple[Job, Attempt]] = {}
        self._next_index = 0
        self._ended = 0
        self._failures = Failures()
        self._halted = False

    # The consumer's side; in any thread.

    def begin(self) -> None:
        """Start both tasks. RuntimeError if the system allows no further thread."""
        thread_pool.submit(partial(threads_context().run, self._collect))
        thread_pool.submit(partial(threads_context().run, self._feed))

    def take(self) -> None:
        """Note that the consumer has taken a job."""
        self._messages.put(self._make_room)

    def on_ready(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once, in any thread, when there may be something in `ready`."""
        self._waiters.put(callback)
        if not self.ready.empty():
            self._notify()

    def outcome(self) -> BaseException | None:
        """Return what the iteration raises at its end; None for nothing."""
        error: MapError | None = None
        if self._settings.check:
            error = self._failures.as_error(self._ended, halted=self._halted)
        if self.fatal is not None and error is not None:
            self.fatal.add_note(error.message)
        return error if self.fatal is None else self.fatal

    def repeat_end(self) -> None:
        """Put the mark of the end back, for the next one who asks."""
        self.ready.put(None)
        self._notify()

    def cancel(self, reason: BaseException) -> None:
        """End all that runs, and begin nothing more. Return at once."""
        self._left = True
        with self._lock:
            self._shut = True
        if self._reason is None:
            self._reason = reason
        self._permits.put(None)
        for attempt in list(self._active):
            attempt.cancel(reason)
        self._outputs.interrupt(reason)
        if self._claim.acquire(blocking=False):  # the collector has not begun, and will not
            self._conclude()
        self._messages.put(self._wake)

    def end(self, reason: BaseException) -> BaseException | None:
        """End all that runs, and wait for it, whatever interrupts that; return what has.

        A further interrupt skips the grace time. User code that does not return is left behind when the grace
        time is over.
        """
        interrupt: BaseException | None = None
        end = float("inf")
        while True:
            try:
                try:
                    self.cancel(reason)
                    end = min(end, time.monotonic() + self.patience)
                    if interrupt is not None:
                        kill_trees(pair for run in self._runs() for pair in run.execution.to_be_killed())
                    while not self.done.wait(min(timing.max_sleep_s, end - time.monotonic())):
                        if time.monotonic() >= end:
                            break
                except BaseException as error:  # noqa: BLE001 - whatever a signal handler raises meanwhile
                    interrupt = error
                else:
                    return interrupt
            except BaseException as error:  # noqa: BLE001 - as above
                interrupt = error

    @property
    def patience(self) -> float:
        """Seconds within which everything has ended after a cancellation."""
        return max((run.cancel_timeout for run in self._runs()), default=timing.cancel_margin_s)

    def _runs(self) -> list[Any]:
        return [attempt.run for attempt in list(self._active) if attempt.run is not None]

    # The feeder.

    def _feed(self) -> None:
        try:
            inputs = iter(self._tasks.inputs)
            for index in itertools.count():
                if self._permits.get() is None or self._shut:
                    return
                value = next(inputs, _END)
                if value is _END:
                    break
                if not self._start(self._tasks.draw(MapInput(value, index))):
                    return
        except BaseException as error:  # noqa: BLE001 - the consumer gets it
            self._messages.put(partial(self._end_inputs, error))
        else:
            self._messages.put(partial(self._end_inputs, None))

    def _start(self, task: Task) -> bool:
        """Begin an attempt, if one may be begun; in the feeder, or in the collector for a retry."""
        attempt = Attempt(task)
        with self._lock:
            if self._shut:
                return False
            self._active.add(attempt)
        on_end = partial(self._messages.put, partial(self._end_attempt, attempt))
        attempt.start(self._tasks, self._outputs, self._since, on_end)
        if self._reason is not None:  # the cancellation may have come before the run was made
            attempt.cancel(self._reason)
        return True

    # The collector.

    def _collect(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            while not self._is_over():
                try:
                    self._give_permits()
                    self._next_message()()
                except BaseException as error:  # noqa: BLE001 - of user code, or of a step of our own
                    self._fail(error)
        finally:
            self._conclude()

    def _is_over(self) -> bool:
        return (self._exhausted or self._shut) and not self._active and not self._retries

    def _next_message(self) -> Callable[[], None]:
        """Return the next message; at the time of a retry, its start."""
        if self._retries and (self._slots > 0 or self._shut):
            wait = 0.0 if self._shut else self._retries[0][0] - time.monotonic()
            try:
                return self._messages.get(timeout=wait) if wait > 0 else self._messages.get_nowait()
            except Empty:
                return self._start_retry
        return self._messages.get()

    def _give_permits(self) -> None:
        while self._slots > 0 and self._room > 0 and not (self._exhausted or self._shut):
            self._slots -= 1
            self._room -= 1
            self._permits.put(_PERMIT)

    def _wake(self) -> None:
        """Look again whether the map is over."""

    def _make_room(self) -> None:
        self._room += 1

    def _end_inputs(self, error: BaseException | None) -> None:
        self._exhausted = True
        if self.fatal is None:
            self.fatal = error

    def _end_attempt(self, attempt: Attempt) -> None:
        if attempt not in self._active:
            return
        with self._lock:
            self._active.discard(attempt)
        self._slots += 1
        try:
            job = attempt.conclude(self._settings.collect)
            if job.error is not None and self._is_tried_again(job.error, attempt):
                due = time.monotonic() + self._delay(attempt)
                heapq.heappush(self._retries, (due, next(self._serial), attempt))
                return
        except BaseException:
            attempt.close()
            raise
        self._finish(job, attempt)

    def _is_tried_again(self, error: PipelineError, attempt: Attempt) -> bool:
        settings = self._settings
        if self._shut or attempt.task.attempts > settings.retries:
            return False
        if isinstance(error, PipelineCancelled):  # by `cancel_all`
            return False
        return settings.retry_if is None or bool(settings.retry_if(error))

    def _delay(self, attempt: Attempt) -> float:
        return retry_delay(self._settings.backoff, attempt.task.attempts, random.random())  # noqa: S311 - no secret

    def _start_retry(self) -> None:
        _, _, attempt = heapq.heappop(self._retries)
        self._slots -= 1
        if not self._start(attempt.task):  # halted meanwhile: its last attempt was the last one
            self._slots += 1
            self._finish(attempt.conclude(self._settings.collect), attempt)
            return
        attempt.close()

    def _finish(self, job: Job, attempt: Attempt) -> None:
        """Count a job that has ended, and pass it on, in the order of the inputs if that is asked for."""
        self._ended += 1
        if job.error is not None and not attempt.was_cancelled:
            self._failures.add(job.index, job.error)
            cancelled = isinstance(job.error, PipelineCancelled)  # by `cancel_all`
            if cancelled or self._rule.is_reached(self._failures.count, self._ended):
                self._halt()
        if not self._settings.ordered:
            self._release(job, attempt)
            return
        self._held[job.index] = job, attempt
        while self._next_index in self._held:
            self._release(*self._held.pop(self._next_index))
            self._next_index += 1

    def _halt(self) -> None:
        """Begin no further job; with "now", cancel those that run."""
        self._halted = True
        with self._lock:
            self._shut = True
        self._permits.put(None)
        if self._rule.halt == "now" and self._reason is None:
            self._reason = Cancelled("another job of the map has failed")
            for attempt in list(self._active):
                attempt.cancel(self._reason)

    def _release(self, job: Job, attempt: Attempt) -> None:
        """Write what the job wrote, and give it to the consumer."""
        try:
            if attempt.file is not None:
                self._outputs.write(attempt.file)
        except OSError as error:
            raise PipelineError("stdout", error, result=job.result) from error
        finally:
            attempt.close()
        self.ready.put(job)
        self._notify()

    def _notify(self) -> None:
        while True:
            try:
                callback = self._waiters.get_nowait()
            except Empty:
                return
            callback()

    def _fail(self, error: BaseException) -> None:
        """End the map, because a step has raised."""
        if not self._left and self.fatal is None:
            self.fatal = error
        self.cancel(error)

    def _conclude(self) -> None:
        """Let go of everything, and tell the consumer that nothing more comes."""
        for _, attempt in self._held.values():
            attempt.close()
        for _, _, attempt in self._retries:
            attempt.close()
        self._outputs.close()
        self.done.set()
        self.ready.put(None)
        self._notify()
