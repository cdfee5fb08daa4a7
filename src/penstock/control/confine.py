"""What the limits of a pipeline, or of a single command, mean for each child.

A `Shelter` holds limits that were laid over each other, and the cgroup that they share. Commands and nested
pipelines that set nothing that a cgroup keeps are in the group of the pipeline around them, with the others.
The group is taken when the first command needs it, in the starter's thread, and given back by the run, with
what the caller handed over.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

from penstock.control import cages
from penstock.control.late import tell_leftover
from penstock.core.errors import MemoryLimitExceeded
from penstock.core.limits import GROUPED, over
from penstock.system.launcher import Setup
from penstock.system.programs import SetupError

if TYPE_CHECKING:
    from penstock.control.context import StageContext
    from penstock.core.limits import Limits
    from penstock.system.cgroups import Cage

__all__ = ["Shelter"]

_INSTEAD = {"memory": "RLIMIT_DATA for each process", "processes": "RLIMIT_NPROC"}


class Shelter:
    """Limits, and the group that they share with those around them."""

    __slots__ = ("_ward", "limits")

    def __init__(self, limits: Limits, ward: _Ward) -> None:
        self.limits = limits
        self._ward = ward

    @classmethod
    def within(
        cls,
        outer: Shelter | None,
        limits: Limits,
        to_close: list[Any],
        *,
        leftover: str = "ignore",
        alone: bool = False,
    ) -> Shelter:
        """The shelter of who adds `limits` to what holds for it anyway.

        What the run is to close at its end is added to `to_close`. `leftover` is the `on_leftover` of a
        pipeline; of a single command, which is `alone`, that is its own business.
        """
        if outer is None:
            return cls(limits, _Ward(limits, to_close, leftover, alone=alone))
        merged = over(outer.limits, limits)
        assert merged is not None
        if any(getattr(limits, field) is not None for field in (*GROUPED, "cgroup", "name")):
            return cls(merged, _Ward(merged, to_close, leftover, alone=alone))
        return cls(merged, outer._ward)  # noqa: SLF001 - of its own kind

    def add(self, limits: Limits | None, to_close: list[Any], leftover: str) -> Shelter:
        """The same, with the limits of a pipeline within it."""
        return self if limits is None else Shelter.within(self, limits, to_close, leftover=leftover)

    def enter(self, ctx: StageContext) -> Setup:
        """What is set in the next child. OSError where a group is required and cannot be made."""
        cage = self._ward.enter(ctx)
        kept = frozenset[str]() if cage is None else frozenset(cage.kept)
        return Setup(
            () if cage is None else cage.files(), self.limits.nice or 0, self.limits.rlimits(without=kept)
        )

    def kill(self) -> None:
        """SIGKILL to all in the group of a single command; in one that is shared, when the run has ended."""
        self._ward.doomed = True
        if self._ward.alone and self._ward.cage is not None:
            self._ward.cage.kill()

    def members(self) -> list[int]:
        """All that has come from a command, where it has the group for itself."""
        cage = self._ward.cage
        return cage.members() if self._ward.alone and cage is not None else []

    def doom(self) -> None:
        """What is left when the run ends is to be killed."""
        self._ward.doomed = True

    def explain(self, returncode: int) -> MemoryLimitExceeded | None:
        """The reason of a child's failure, where that is that the kernel has killed for memory."""
        cage, limit = self._ward.cage, self._ward.limits.memory
        if cage is None or not isinstance(limit, int) or "memory" not in cage.kept:
            return None
        # In a group with others, only who was killed can say that it was for that.
        killed = returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if (killed or self._ward.alone) and cage.counted_kills() > cage.oom_kills:
            return MemoryLimitExceeded(limit, max(limit, cage.peak()))
        return None


class _Ward:
    """A group while a run has it."""

    __slots__ = ("_ctx", "_entered", "_leftover", "_to_close", "alone", "cage", "doomed", "limits")

    def __init__(self, limits: Limits, to_close: list[Any], leftover: str, *, alone: bool) -> None:
        self.limits = limits
        self.cage: Cage | None = None
        self._to_close = to_close
        self._leftover = leftover
        self._ctx: StageContext | None = None
        """Of the first command in it, which stands for all."""
        self.alone = alone
        """Whether one command has it for itself."""
        self.doomed = False
        self._entered = False

    def enter(self, ctx: StageContext) -> Cage | None:
        if self._entered:
            return self.cage
        limits, mode = self.limits, self.limits.mode
        if mode == "never" or (mode == "prefer" and not limits.grouped):
            return None
        cage, missing = cages.take(limits)
        if cage is not None:
            self.cage, self._ctx = cage, ctx
            self._to_close.append(self)
        if mode == "require" and (cage is None or missing):
            reasons = "; ".join(f"{field}: {why}" for field, why in missing.items())
            text = f"a cgroup is required, and none can be had ({reasons or 'none may be made here'})"
            raise SetupError(errno.EOPNOTSUPP, text)
        self._entered = True
        if missing:
            parts = [f"{field}: {_INSTEAD.get(field, 'not limited')}" for field in missing]
            ctx.tell(
                "limits",
                f"no cgroup for all limits; instead, {', '.join(parts)}",
                None,
                {"missing": missing, "instead": {field: _INSTEAD.get(field) for field in missing}},
            )
        return cage

    def close(self) -> None:
        """Give it back; the run has ended."""
        cage, self.cage = self.cage, None
        self._entered = False
        if cage is None:
            return
        if self._leftover != "ignore" and not self.doomed and not self.alone and self._ctx is not None:
            pids = sorted(cage.members())
            if pids:
                tell_leftover(self._ctx, pids)
                self.doomed = self._leftover == "kill"
        cages.give_back(self.limits, cage, kill=self.doomed)
