"""The resource limits of a command, as a value.

Strategy: `Limits` is checked when it is made. A pipeline's limits hold for its commands; those of a nested
pipeline or a command are laid over them, field by field (`merge_limits`). `rlimits` and `grouped` tell which
fields the kernel enforces by rlimits and which by a cgroup.

Out of scope: setting a limit (`system.spawn_launcher`, `system.cgroups`).
"""

from __future__ import annotations

import dataclasses
import math

from penstock.core.describe import describe
from penstock.core.options import check_seconds
from penstock.core.public import exported
from penstock.core.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Final, Literal

__all__ = ["GROUPED", "Limits", "merge_limits"]

GROUPED: Final = ("memory", "memory_high", "cpu", "processes")
"""The fields that a cgroup enforces, if there is one, for all processes together."""
_MODES: Final = ("prefer", "require", "never")
_LARGEST: Final = 2**62


@exported
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits for commands, which the kernel enforces from before the program's first instruction.

    None leaves a resource unlimited. Sizes are bytes, or a str like "500MB" (10^6) or "2GiB" (2^30).

    rlimits (getrlimit(2)) hold for each process by itself. It cannot raise them, and its children inherit
    them:

    - `cpu_time`: seconds of processor time or a timedelta, rounded up to whole seconds. The kernel sends
      SIGXCPU, and SIGKILL a second later.
    - `open_files`: file descriptors; their numbers stay below it.
    - `file_size`: the largest size in bytes that a file may be written to. The kernel sends SIGXFSZ.
    - `nice`: added to the niceness; a negative value needs the privilege.

    A cgroup holds for all commands that have these limits, and all their descendants, together:

    - `memory`: bytes. The kernel kills beyond it, and the command fails with `MemoryLimitExceeded`.
    - `memory_high`: bytes beyond which the kernel slows processes down and reclaims (cgroup v2 only).
    - `cpu`: processors, 0.5 for half of one.
    - `processes`: processes and threads.

    `cgroup` is "prefer", "require" or "never"; None takes the value of the surrounding pipeline, or else
    "prefer". If no cgroup can be created, "require" raises a StartError, and "prefer" emits an event of kind
    `limits` that names the fallback. `memory` falls back to RLIMIT_DATA: each process for itself, whose
    allocations fail. `processes` falls back to RLIMIT_NPROC, which counts all processes of the user and does
    not hold for root. The other two have no fallback. With "require" a command gets a cgroup whatever its
    limits are. The cgroup is removed after the run. A `name` becomes part of the cgroup's name; such a cgroup
    is kept for a few seconds for the next run with the same name and limits.

    Raises TypeError or ValueError, naming the field, for an invalid limit.

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
        """The value of `cgroup`, or its default."""
        return self.cgroup or "prefer"

    @property
    def grouped(self) -> dict[str, float]:
        """The limits for a cgroup, by field."""
        return {field: value for field in GROUPED if (value := getattr(self, field)) is not None}

    def rlimits(self, without: frozenset[str] = frozenset()) -> dict[str, tuple[int, int]]:
        """Return the soft and the hard limit by the name in getrlimit(2), without "RLIMIT_".

        `without` names the fields that a cgroup enforces.
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
        object.__setattr__(self, field, value)  # as a frozen dataclass does in its own constructor

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
            raise ValueError(f"name must be 1 to 64 letters, digits, '_' or '-', not {describe(self.name)}")


def merge_limits(outer: Limits | None, inner: Limits | None) -> Limits | None:
    """Lay `inner` over `outer`: each field that it sets replaces the outer one."""
    if outer is None or inner is None:
        return inner if outer is None else outer
    changed = {
        field.name: value
        for field in dataclasses.fields(inner)
        if (value := getattr(inner, field.name)) is not None
    }
    return dataclasses.replace(outer, **changed)
