"""What a command may use at the most, as a value.

Strategy: `Limits` says what is wanted and is checked when it is made. A pipeline's limits hold for its
commands; what a nested pipeline or a command says lies over them, field by field (`merge_limits`). What of it
the kernel keeps by rlimits, and what by a cgroup, is told apart here (`rlimits`, `grouped`), but nothing is
set: that is for `system.launcher` and `system.cgroups`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, Literal

from penstock.core.options import check_seconds
from penstock.core.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

__all__ = ["GROUPED", "Limits", "merge_limits"]

GROUPED: Final = ("memory", "memory_high", "cpu", "processes")
"""The fields that are kept by a cgroup where there is one, for all processes together."""
_MODES: Final = ("prefer", "require", "never")
_LARGEST: Final = 2**62


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What commands may use, kept by the kernel from before their program's first instruction.

    None leaves a thing as it is. Sizes are bytes, or a text like "500MB" or "2GiB".

    By rlimits (getrlimit(2)), for each process by itself, which cannot raise them; its children inherit them:

    - `cpu_time`: seconds of processor time, or a timedelta; whole seconds, rounded up. SIGXCPU, a second
      later SIGKILL.
    - `open_files`: descriptors (their numbers stay below it).
    - `file_size`: bytes that a file may be written to. SIGXFSZ.
    - `nice`: added to the niceness; negative needs the privilege.

    By a cgroup, for all the commands that the limits were given for and their descendants together:

    - `memory`: bytes. Past it the kernel kills, and the command fails with `MemoryLimitExceeded`.
    - `memory_high`: bytes past which the kernel slows down and reclaims (cgroup v2 only).
    - `cpu`: processors, 0.5 for half of one.
    - `processes`: processes and threads.

    `cgroup` is "prefer", "require" or "never"; None is what the pipeline around says, else "prefer". Where no
    cgroup can be made, "require" is a StartError. "prefer" sends an event of kind `limits`, which says what
    is used instead: RLIMIT_DATA for `memory` (each process for itself, which sees its allocations fail),
    RLIMIT_NPROC for `processes` (which counts all that the user runs, and does not hold for root), nothing
    for the other two. With "require" a command is in a cgroup whatever its limits are. The group is removed
    after the run; with a `name`, which is a part of its own name, it is kept for a few seconds for the next
    run of the same name and limits.

    TypeError or ValueError, which name the field, for what is no limit.

    >>> Limits(memory="1GiB", open_files=64)
    Limits(memory=1073741824, open_files=64)
    """

    memory: int | str | None = None
    memory_high: int | str | None = None
    cpu_time: float | timedelta | None = None
    cpu: float | None = None
    open_files: int | None = None
    file_size: int | str | None = None
    processes: int | None = None
    nice: int | None = None
    cgroup: Literal["prefer", "require", "never"] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for field in ("memory", "memory_high", "file_size"):
            value = getattr(self, field)
            if value is not None and not (field == "file_size" and value == 0 and value is not False):
                self._set(field, parse_size(field, value))
        if self.cpu_time is not None:
            seconds = check_seconds("cpu_time", self.cpu_time)
            if not 0 < seconds < _LARGEST:
                raise ValueError(f"cpu_time must be more than 0 seconds, and finite: {self.cpu_time!r}")
            self._set("cpu_time", seconds)
        for field in ("open_files", "processes"):
            self._count(field, 1)
        self._count("nice", -40, 40)
        if self.cpu is not None:
            if isinstance(self.cpu, bool) or not isinstance(self.cpu, int | float):
                raise TypeError(f"cpu must be a number of processors, not {self.cpu!r}")
            if not 0.01 <= self.cpu < _LARGEST:
                raise ValueError(f"cpu must be at least 0.01 processors, and finite: {self.cpu!r}")
        if self.cgroup is not None and self.cgroup not in _MODES:
            raise ValueError(f"cgroup must be 'prefer', 'require', 'never' or None, not {self.cgroup!r}")
        self._check_name()

    def __repr__(self) -> str:
        given = (field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None)
        return f"Limits({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"

    @property
    def mode(self) -> str:
        """`cgroup`, or its default."""
        return self.cgroup or "prefer"

    @property
    def grouped(self) -> dict[str, float]:
        """What a cgroup is to keep, by field."""
        return {field: value for field in GROUPED if (value := getattr(self, field)) is not None}

    def rlimits(self, without: frozenset[str] = frozenset()) -> dict[str, tuple[int, int]]:
        """The soft and the hard limit by the name in getrlimit(2), without "RLIMIT_".

        `without` names the fields that a cgroup keeps.
        """
        found: dict[str, tuple[int, int]] = {}
        if self.cpu_time is not None:
            seconds = math.ceil(check_seconds("cpu_time", self.cpu_time))
            found["CPU"] = seconds, seconds + 1
        by_name: Mapping[str, str] = {
            "NOFILE": "open_files",
            "FSIZE": "file_size",
            "DATA": "memory",
            "NPROC": "processes",
        }
        for name, field in by_name.items():
            value = getattr(self, field)
            if value is not None and field not in without:
                found[name] = value, value
        return found

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)  # what a frozen class does in its own constructor

    def _count(self, field: str, least: int, most: int = _LARGEST) -> None:
        value = getattr(self, field)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{field} must be a whole number or None, not {value!r}")
        if not least <= value <= most:
            raise ValueError(f"{field} must be at least {least}, not {value}")

    def _check_name(self) -> None:
        if self.name is None:
            return
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a str or None, not {self.name!r}")
        plain = self.name.replace("_", "").replace("-", "")
        if not plain.isalnum() or not plain.isascii() or len(self.name) > 64:
            raise ValueError(f"name must be 1 to 64 letters, digits, '_' or '-', not {self.name!r}")


def merge_limits(outer: Limits | None, inner: Limits | None) -> Limits | None:
    """Lay `inner` over `outer`: each field that it sets counts in the place of the outer one's."""
    if outer is None or inner is None:
        return inner if outer is None else outer
    changed = {
        field.name: value
        for field in dataclasses.fields(inner)
        if (value := getattr(inner, field.name)) is not None
    }
    return dataclasses.replace(outer, **changed)
