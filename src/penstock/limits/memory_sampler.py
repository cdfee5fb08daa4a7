"""Sample the memory of running commands, in one pass of the supervisor for the whole process.

A `Watch` observes the commands of one stage: their peak, and when they exceed a limit. It begins with the
first of its commands and ends with `end`, whoever calls that and however the stage ended. After that it
samples nothing and calls nobody. The supervisor also samples the runs that a thread drives for itself. So
there is one process table and one timer, and samples that are due at about the same time are taken together.

Everything here happens in the supervisor's thread, except `Watch.add`, `Watch.end` and reading the results of
a watch. `exceeded` and `grown` are called there, so they must not block.
"""

from __future__ import annotations

import time

from penstock.core.noop import noop
from penstock.limits.sampling_interval import SamplingInterval
from penstock.runtime.supervisor import supervisor
from penstock.system.process_memory import ProcessTreeMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from penstock.runtime.reactor import Reactor, Timer
else:
    Protocol = object

__all__ = ["Watch"]

_COALESCE_FRACTION = 0.25
"""A sample that is due within this part of its interval is taken early, if another one is due now."""
_KILL_FACTOR = 1.25
"""Times the limit: memory at which a stage that was cancelled for it is killed without grace."""
_EMA_WEIGHT = 0.8
"""The weight of the earlier cost of a sample in its moving average."""


class WatchedCommand(Protocol):
    """A running stage whose memory is sampled."""

    peak_memory: int | None

    @property
    def pid(self) -> int | None: ...
    @property
    def done(self) -> bool: ...


class Watch:
    """Samples the memory of some commands, as one sum."""

    def __init__(
        self,
        limit: int | None,
        longest: float,
        exceeded: Callable[[int], None],
        grown: Callable[[], None],
    ) -> None:
        """`exceeded(used)` is called once, when a sample is above `limit`; `grown()` each time that it then
        still grows.
        """
        self.limit = limit
        self.peak: int | None = None
        """The largest sample in bytes; None if there is none."""
        self.samples = 0
        self.errors = 0
        self.commands: list[WatchedCommand] = []
        self.ended = False
        self.due = 0.0
        self.pause = 0.0
        self._longest = longest
        self._pace = SamplingInterval(limit, longest)
        self._exceeded = exceeded
        self._grown = grown
        self._over: int | None = None

    def add(self, command: WatchedCommand) -> None:
        """Add a command. From any thread."""
        sampler = _sampler()
        sampler.reactor.post(lambda: sampler.begin(self, command))

    def end(self) -> None:
        """Stop sampling. From any thread; idempotent."""
        if not self.ended:
            self.ended = True
            self._exceeded = self._grown = noop  # the callbacks keep the run alive
            sampler = _sampler()
            sampler.reactor.post(lambda: sampler.forget(self))

    def merge_peaks(self) -> None:
        """Include the peaks that other watches have sampled of its commands. From any thread."""
        seen = [peak for command in list(self.commands) if (peak := command.peak_memory) is not None]
        if seen:
            self.peak = max(*seen, self.peak or 0)

    def sample(self, census: ProcessTreeMemory) -> int:
        """Return the bytes that its commands use now."""
        total = 0
        alive = [command for command in self.commands if not command.done]
        for command in alive:
            assert command.pid is not None
            try:
                used = census.used(command.pid)
            except OSError:
                self.errors += 1
                continue
            if command.done:  # its pid may belong to another process by now
                continue
            command.peak_memory = max(used, command.peak_memory or 0)
            total += used
        self.samples += bool(alive)
        if total or self.peak is not None:
            self.peak = max(total, self.peak or 0)
        return total

    def check_limit(self, used: int) -> None:
        """Call back if a sample is above the limit."""
        if self.limit is None or used <= self.limit or self.ended:
            return
        if self._over is None:
            self._over = used
            self._exceeded(used)
        elif used > max(self._over, self.limit * _KILL_FACTOR):
            self._grown()

    def set_next_sample(self, now: float, used: int, cost: float) -> None:
        """Set the time of the next sample."""
        self.pause = self._pace.after(now, used, cost)
        self.due = now + self.pause


class _Sampler:
    """All watches of the process, and the timer of the next pass."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self._watches: set[Watch] = set()
        self._census = ProcessTreeMemory()
        self._roots: dict[int, WatchedCommand] = {}
        self._timer: Timer | None = None
        self._each = 0.0
        """Seconds of processor time that a pass spends on one watch: a moving average."""

    def begin(self, watch: Watch, command: WatchedCommand) -> None:
        """Begin to sample a command, unless it has ended meanwhile."""
        if watch.ended or command.done or command.pid is None:
            return
        if self._roots.get(command.pid) is not command:
            self._roots[command.pid] = command
            self._census.add(command.pid)
        watch.commands.append(command)
        self._watches.add(watch)
        watch.due = 0.0
        self._pass()

    def forget(self, watch: Watch) -> None:
        """Drop a watch that has ended, and the process trees of commands that are done."""
        self._watches.discard(watch)
        watch.commands.clear()
        for pid in [pid for pid, command in self._roots.items() if command.done]:
            del self._roots[pid]
            self._census.remove(pid)
        if not self._watches and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        """Sample all watches that are due, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._watches:
            return
        now = time.monotonic()
        due = [watch for watch in self._watches if watch.due <= now + watch.pause * _COALESCE_FRACTION]
        if due:
            self._refresh(due)
        began = time.thread_time()  # `ProcessTreeMemory` limits the cost of listing processes itself
        looked = [(watch, watch.sample(self._census)) for watch in due]
        for watch, used in looked:
            watch.check_limit(used)
        if looked:
            spent = (time.thread_time() - began) / len(looked)
            self._each = self._each * _EMA_WEIGHT + spent * (1 - _EMA_WEIGHT) if self._each else spent
        for watch, used in looked:
            watch.set_next_sample(now, used, self._each * len(self._watches))
        self._timer = self.reactor.call_at(min(watch.due for watch in self._watches), self._pass)

    def _refresh(self, due: list[Watch]) -> None:
        try:
            self._census.refresh()
        except OSError:  # such as EMFILE: the known processes are sampled all the same
            for watch in due:
                watch.errors += 1


_current: _Sampler | None = None


def _sampler() -> _Sampler:
    """Return the sampler of this process's supervisor; a forked copy gets a new one."""
    global _current  # noqa: PLW0603 - one for the process is the point
    reactor = supervisor()
    found = _current
    if found is None or found.reactor is not reactor:
        found = _current = _Sampler(reactor)
    return found
