"""Takes the samples of one run: ten a second at first, and fewer of a run that takes long.

When there are `MAX_SAMPLES`, every other one is left out, and the interval doubles. So the memory is bounded,
and the samples are spread evenly over the run however long that is.

The reactor of the run keeps the time, and a worker takes the sample, because a look at /proc may take a
while. If a worker is still busy with one, or if no thread is available, the next is taken an interval later.

Out of scope: what a sample sees (`engine.snapshots`), and the first and the last one, which are made of the
result (`core.profile`).
"""

from __future__ import annotations

import time

from penstock.core.profile import make_profile, thinned
from penstock.runtime import thread_pool
from penstock.runtime.log import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.core.profile import Sample
    from penstock.core.result import Result
    from penstock.runtime.reactor import Reactor, Timer

__all__ = ["INTERVAL_S", "MAX_SAMPLES", "Profiler"]

INTERVAL_S = 0.1
"""Seconds between two samples at first."""
MAX_SAMPLES = 256
"""The most samples that are kept."""


class Profiler:
    """The samples of one run."""

    def __init__(
        self, take: Callable[[], Sample | None], reactor: Reactor, is_starting: Callable[[], bool]
    ) -> None:
        """`take()` takes a sample, and returns None for a run that has ended."""
        self._take: Callable[[], Sample | None] | None = take
        self._is_starting = is_starting
        self._reactor = reactor
        self._interval = INTERVAL_S
        self._timer: Timer | None = None
        self._busy = False
        self.samples: list[Sample] = []
        """Those that are kept, in the order of time. It is replaced, never emptied."""
        self.began = time.time()
        """When the run began, as of `time.time()`."""

    def begin(self, began: float) -> None:
        """Set the timer; `began` is when the run began, by `time.monotonic()`. In the starter's thread."""
        self.began = time.time() - (time.monotonic() - began)
        self._timer = self._reactor.call_at(began + INTERVAL_S, self._tick)

    def add_to(self, result: Result, spans: Sequence[tuple[float, float] | None]) -> Result:
        """Return the result with the profile; `spans` are those of its stages."""
        elapsed, stages, edges = result.elapsed, result.stages, result.edges
        profile = make_profile(self.began, elapsed, spans, self.samples, stages, edges)
        made: Result = result.__replace__(profile=profile)  # type: ignore[attr-defined] # of a record
        return made

    def close(self) -> None:
        """Take no further sample, and forget the run. Idempotent."""
        self._take = None
        self._is_starting = bool
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tick(self) -> None:
        """Have a worker take a sample. In the reactor's thread, which must not be the last to hold a run."""
        if self._take is None:
            return
        self._timer = self._reactor.call_at(time.monotonic() + self._interval, self._tick)
        if self._take is None:  # closed meanwhile, so nobody else cancels this timer
            self.close()
        elif not (self._busy or self._is_starting()):
            self._busy = True
            try:
                thread_pool.submit(self._sample)
            except RuntimeError:  # no thread is available
                self._busy = False

    def _sample(self) -> None:
        take = self._take
        try:
            sample = None if take is None else take()
        except Exception as error:  # noqa: BLE001 - a profile is not worth a failure
            self.close()
            report("no further sample of a profile can be taken", error)
            return
        finally:
            self._busy = False
        if sample is not None:
            samples = [*self.samples, sample]
            if len(samples) >= MAX_SAMPLES:
                samples = thinned(samples)
                self._interval *= 2
            self.samples = samples
