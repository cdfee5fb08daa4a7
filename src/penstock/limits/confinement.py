"""What the limits of a pipeline, or of a single command, mean for each child.

A `Confinement` holds limits that were laid over each other, and the cgroup that they share. Commands and
nested pipelines that set nothing that a cgroup keeps are in the group of the pipeline around them, with the
others.
The group is taken when the first command needs it, in the starter's thread, and given back by the run, with
what the caller handed over.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

from penstock.core.errors import MemoryLimitExceeded
from penstock.core.limits import GROUPED, over
from penstock.limits import cgroup_pool
from penstock.system.executables import SetupError
from penstock.system.spawn_launcher import Setup

if TYPE_CHECKING:
    from penstock.core.limits import Limits
    from penstock.runtime.events import EventEmitter
    from penstock.system.cgroups import Cgroup

__all__ = ["Confinement"]

_INSTEAD = {"memory": "RLIMIT_DATA for each process", "processes": "RLIMIT_NPROC"}


class Confinement:
    """Limits, and the group that they share with those around them."""

    __slots__ = ("_held", "limits")

    def __init__(self, limits: Limits, held: _Held) -> None:
        self.limits = limits
        self._held = held

    @classmethod
    def within(
        cls,
        outer: Confinement | None,
        limits: Limits,
        to_close: list[Any],
        *,
        leftover: str = "ignore",
        alone: bool = False,
    ) -> Confinement:
        """The confinement of who adds `limits` to what holds for it anyway.

        What the run is to close at its end is added to `to_close`. `leftover` is the `on_leftover` of a
        pipeline; of a single command, which is `alone`, that is its own business.
        """
        if outer is None:
            return cls(limits, _Held(limits, to_close, leftover, alone=alone))
        merged = over(outer.limits, limits)
        assert merged is not None
        if any(getattr(limits, field) is not None for field in (*GROUPED, "cgroup", "name")):
            return cls(merged, _Held(merged, to_close, leftover, alone=alone))
        return cls(merged, outer._held)  # noqa: SLF001 - of its own kind

    def add(self, limits: Limits | None, to_close: list[Any], leftover: str) -> Confinement:
        """The same, with the limits of a pipeline within it."""
        return self if limits is None else Confinement.within(self, limits, to_close, leftover=leftover)

    def enter(self, events: EventEmitter, stage: str) -> Setup:
        """Return what to set in the next child. OSError if a cgroup is required and cannot be made.

        `events` and `stage` are for what is to be reported about the cgroup.
        """
        cgroup = self._held.enter(events, stage)
        kept = frozenset[str]() if cgroup is None else frozenset(cgroup.kept)
        return Setup(
            () if cgroup is None else cgroup.files(), self.limits.nice or 0, self.limits.rlimits(without=kept)
        )

    def kill(self) -> None:
        """SIGKILL to all in the group of a single command; in one that is shared, when the run has ended."""
        self._held.doomed = True
        if self._held.alone and self._held.cgroup is not None:
            self._held.cgroup.kill()

    def members(self) -> list[int]:
        """All that has come from a command, where it has the group for itself."""
        cgroup = self._held.cgroup
        return cgroup.members() if self._held.alone and cgroup is not None else []

    def doom(self) -> None:
        """What is left when the run ends is to be killed."""
        self._held.doomed = True

    def explain(self, returncode: int) -> MemoryLimitExceeded | None:
        """The reason of a child's failure, where that is that the kernel has killed for memory."""
        cgroup, limit = self._held.cgroup, self._held.limits.memory
        if cgroup is None or not isinstance(limit, int) or "memory" not in cgroup.kept:
            return None
        # In a group with others, only who was killed can say that it was for that.
        killed = returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if (killed or self._held.alone) and cgroup.counted_kills() > cgroup.oom_kills:
            return MemoryLimitExceeded(limit, max(limit, cgroup.peak()))
        return None


class _Held:
    """A group while a run has it."""

    __slots__ = (
        "_entered",
        "_events",
        "_leftover",
        "_stage",
        "_to_close",
        "alone",
        "cgroup",
        "doomed",
        "limits",
    )

    def __init__(self, limits: Limits, to_close: list[Any], leftover: str, *, alone: bool) -> None:
        self.limits = limits
        self.cgroup: Cgroup | None = None
        self._to_close = to_close
        self._leftover = leftover
        self._events: EventEmitter | None = None
        self._stage = ""
        """The first command in it, which stands for all."""
        self.alone = alone
        """Whether one command has it for itself."""
        self.doomed = False
        self._entered = False

    def enter(self, events: EventEmitter, stage: str) -> Cgroup | None:
        if self._entered:
            return self.cgroup
        limits, mode = self.limits, self.limits.mode
        if mode == "never" or (mode == "prefer" and not limits.grouped):
            return None
        cgroup, missing = cgroup_pool.take(limits)
        if cgroup is not None:
            self.cgroup, self._events, self._stage = cgroup, events, stage
            self._to_close.append(self)
        if mode == "require" and (cgroup is None or missing):
            reasons = "; ".join(f"{field}: {why}" for field, why in missing.items())
            text = f"a cgroup is required, and none can be had ({reasons or 'none may be made here'})"
            raise SetupError(errno.EOPNOTSUPP, text)
        self._entered = True
        if missing:
            parts = [f"{field}: {_INSTEAD.get(field, 'not limited')}" for field in missing]
            events.emit(
                "limits",
                stage,
                f"no cgroup for all limits; instead, {', '.join(parts)}",
                None,
                {"missing": missing, "instead": {field: _INSTEAD.get(field) for field in missing}},
            )
        return cgroup

    def close(self) -> None:
        """Give it back; the run has ended."""
        cgroup, self.cgroup = self.cgroup, None
        self._entered = False
        if cgroup is None:
            return
        if self._leftover != "ignore" and not self.doomed and not self.alone and self._events is not None:
            pids = sorted(cgroup.members())
            if pids:
                self._events.emit_leftover(self._stage, pids)
                self.doomed = self._leftover == "kill"
        cgroup_pool.give_back(self.limits, cgroup, kill=self.doomed)
