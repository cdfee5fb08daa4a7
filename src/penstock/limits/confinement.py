"""Apply the limits of a pipeline, or of a single command, to each child.

A `Confinement` holds merged limits, and the cgroup that enforces them. Commands and nested pipelines whose
own limits need no cgroup share the group of the pipeline around them. The group is acquired when the first
command needs it, in the thread that starts the run. The run gives it back when it has ended.
"""

from __future__ import annotations

import errno
import signal

from penstock.core.errors import MemoryLimitExceeded
from penstock.core.limits import GROUPED, merge_limits
from penstock.limits import cgroup_pool
from penstock.system.executables import SetupError
from penstock.system.spawn_launcher import ChildSetup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.limits import Limits
    from penstock.runtime.events import EventEmitter, EventSource
    from penstock.system.cgroups import Cgroup

__all__ = ["CgroupLease", "Confinement"]

_FALLBACKS = {"memory": "RLIMIT_DATA for each process", "processes": "RLIMIT_NPROC"}


class Confinement:
    """Merged limits, and the cgroup that enforces them, which outer limits may share."""

    __slots__ = ("_lease", "limits")

    def __init__(self, limits: Limits, lease: CgroupLease) -> None:
        self.limits = limits
        self._lease = lease

    @classmethod
    def within(
        cls,
        outer: Confinement | None,
        limits: Limits,
        leases: list[CgroupLease],
        *,
        leftover: str = "ignore",
        exclusive: bool = False,
    ) -> Confinement:
        """Return the confinement of a pipeline or command that adds `limits` to those of `outer`.

        The lease of the cgroup is added to `leases`, which the run gives back at its end. `leftover` is the
        `on_leftover` of a pipeline. A single command is `exclusive`, and handles its leftover itself.
        """
        if outer is None:
            return cls(limits, CgroupLease(limits, leases, leftover, exclusive=exclusive))
        merged = merge_limits(outer.limits, limits)
        assert merged is not None
        if any(getattr(limits, field) is not None for field in (*GROUPED, "cgroup", "name")):
            return cls(merged, CgroupLease(merged, leases, leftover, exclusive=exclusive))
        return cls(merged, outer._lease)  # noqa: SLF001 - of its own kind

    def add(self, limits: Limits | None, leases: list[CgroupLease], leftover: str) -> Confinement:
        """Return this confinement with the limits of a nested pipeline added."""
        return self if limits is None else Confinement.within(self, limits, leases, leftover=leftover)

    def enter(self, events: EventEmitter, stage: EventSource) -> ChildSetup:
        """Return the settings of the next child. OSError if a cgroup is required and cannot be made.

        `events` and `stage` serve to report on the cgroup.
        """
        cgroup = self._lease.enter(events, stage)
        kept = frozenset[str]() if cgroup is None else frozenset(cgroup.kept)
        return ChildSetup(
            () if cgroup is None else cgroup.files(), self.limits.nice or 0, self.limits.rlimits(without=kept)
        )

    def kill(self) -> None:
        """Kill all processes of an exclusive group now, and those of a shared one when the run has ended."""
        self.kill_on_release()
        if self._lease.exclusive and self._lease.cgroup is not None:
            self._lease.cgroup.kill()

    def members(self) -> list[int]:
        """Return the processes of an exclusive group; empty for a shared one."""
        cgroup = self._lease.cgroup
        return cgroup.members() if self._lease.exclusive and cgroup is not None else []

    def kill_on_release(self) -> None:
        """Have all processes killed that are left in the group when the run ends."""
        self._lease.must_kill = True

    def explain(self, returncode: int) -> MemoryLimitExceeded | None:
        """Return the reason for a child's failure, if the kernel has killed it for memory."""
        cgroup, limit = self._lease.cgroup, self._lease.limits.memory
        if cgroup is None or not isinstance(limit, int) or "memory" not in cgroup.kept:
            return None
        # In a shared group the count may be for another child, so this child must itself have been killed.
        killed = returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if (killed or self._lease.exclusive) and cgroup.counted_kills() > cgroup.oom_kills:
            return MemoryLimitExceeded(limit, max(limit, cgroup.peak()))
        return None


class CgroupLease:
    """A cgroup while a run uses it."""

    __slots__ = (
        "_entered",
        "_events",
        "_leases",
        "_leftover",
        "_stage",
        "cgroup",
        "exclusive",
        "limits",
        "must_kill",
    )

    def __init__(self, limits: Limits, leases: list[CgroupLease], leftover: str, *, exclusive: bool) -> None:
        self.limits = limits
        self.cgroup: Cgroup | None = None
        self._leases = leases
        self._leftover = leftover
        self._events: EventEmitter | None = None
        self._stage = ""
        """The first command in it, named in events about the group."""
        self.exclusive = exclusive
        """Whether a single command has the group for itself."""
        self.must_kill = False
        self._entered = False

    def enter(self, events: EventEmitter, stage: EventSource) -> Cgroup | None:
        """Take the cgroup, for the first command in it; return the same for the others."""
        if self._entered:
            return self.cgroup
        limits, mode = self.limits, self.limits.mode
        if mode == "never" or (mode == "prefer" and not limits.grouped):
            return None
        cgroup, missing = cgroup_pool.acquire(limits)
        if cgroup is not None:
            self.cgroup, self._events, self._stage = cgroup, events, stage.name
            self._leases.append(self)
        if mode == "require" and (cgroup is None or missing):
            reasons = "; ".join(f"{field}: {why}" for field, why in missing.items())
            text = f"a cgroup is required and cannot be made ({reasons or 'no usable hierarchy'})"
            raise SetupError(errno.EOPNOTSUPP, text)
        self._entered = True
        if missing:
            parts = [f"{field}: {_FALLBACKS.get(field, 'not limited')}" for field in missing]
            events.emit(
                "limits",
                stage,
                f"no cgroup for some limits; used instead: {', '.join(parts)}",
                None,
                {"missing": missing, "instead": {field: _FALLBACKS.get(field) for field in missing}},
            )
        return cgroup

    def close(self) -> None:
        """Give the group back when the run has ended; again if an interrupt came in the middle of it."""
        cgroup = self.cgroup
        self._entered = False
        if cgroup is None:
            return
        if (
            self._leftover != "ignore"
            and not self.must_kill
            and not self.exclusive
            and self._events is not None
        ):
            pids = sorted(cgroup.members())
            if pids:
                self._events.emit_leftover(self._stage, pids)
                self.must_kill = self._leftover == "kill"
        cgroup_pool.release(self.limits, cgroup, kill=self.must_kill)
        self.cgroup = None
