# pathlib is slow to import.
# ruff: noqa: PTH102, PTH106, PTH110, PTH112, PTH120, PTH123
"""Control groups: made beside our own, joined by a launcher, killed, and removed.

A `Cgroup` is one group to its user, and up to four directories to the kernel. With cgroup v2, one is enough.
With v1 each controller has a tree of its own. If there is also a v2 tree without controllers, the group joins
that too, for its `cgroup.kill`. This module finds out which directories can be made by making them.

Place. A v1 group is made below the group that we are in, a v2 group beside it or below it. A v2 group that
passes controllers on may have no processes of its own, unless it is the root. So below our own group only a
delegated root gets controllers. Beside it, they are available if a session manager has delegated the
directory above (systemd's `app.slice`, a container's root).

A memory limit also forbids swap: otherwise the program would only become slow. Out of memory, the kernel
kills the whole group with v2 (`memory.oom.group`), and one of its processes with v1.

Out of scope: when a group is made, reused or removed (`limits.cgroup_pool`). Nothing here waits, but removing
a directory may take the kernel some milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal

from penstock.system import features, system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Final

__all__ = ["Cgroup", "Tree", "make", "trees"]

_CPU_PERIOD_US: Final = 100_000
"""Microseconds of one accounting period of processor time, the kernel's default."""
_MAX_KILL_ROUNDS: Final = 50
"""Rounds of signals at most, in a group without `cgroup.kill`."""


class Tree:
    """A mounted hierarchy, and the directory of the group that this process is in."""

    __slots__ = ("controllers", "own", "root", "version")

    def __init__(self, version: int, controllers: frozenset[str], root: str, own: str) -> None:
        self.version = version
        self.controllers = controllers
        self.root = root
        self.own = own

    def parents(self) -> Iterable[str]:
        """Return the directories in which a group may be made, the likeliest first."""
        if self.version == 1 or self.own == self.root:
            return (self.own,)
        return (os.path.dirname(self.own), self.own)


def trees(mounts: str = "/proc/self/mountinfo", groups: str = "/proc/self/cgroup") -> list[Tree]:
    """Return the mounted hierarchies. Empty if cgroups are switched off or unknown."""
    if not features.CGROUPS:
        return []
    try:
        own_groups = dict(_own_groups(_read(groups)))
        lines = _read(mounts).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields, _, rest = line.partition(" - ")
        kind, *more = rest.split()
        root, mounted = fields.split()[3:5]
        if kind == "cgroup2":
            version, controllers, path = 2, frozenset[str](), own_groups.get("")
        elif kind == "cgroup":
            version, controllers = 1, frozenset(more[-1].split(","))
            path = next((own_groups[name] for name in controllers if name in own_groups), None)
        else:
            continue
        if path is None:
            continue
        # A container sees a part of the tree, and the path of its group may start there or above.
        below = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
        mounted = mounted.encode().decode("unicode_escape")
        own = os.path.normpath(mounted + "/" + below)
        found.append(Tree(version, controllers, mounted, own if os.path.isdir(own) else mounted))
    return found


def make(
    name: str, wants: Mapping[str, float], places: Sequence[Tree]
) -> tuple[Cgroup | None, dict[str, str]]:
    """Make a group called `name` that enforces the limits in `wants`, as far as possible.

    `wants` maps `memory`, `memory_high` (bytes), `cpu` (processors) and `processes` to their limits. Returns
    the group, or None if none can be made, and the reason for each limit that it does not enforce.
    """
    cgroup = Cgroup(name)
    missing = dict.fromkeys(wants, "no hierarchy has its controller")
    for tree in sorted(places, key=lambda tree: -tree.version):
        useful = {field: wants[field] for field in missing if _may_keep(tree, field)}
        if tree.version == 2 or useful:
            _make_in(tree, cgroup, useful, missing)
    # Without limits, any hierarchy will do to find the members.
    for tree in places:
        if not wants and not cgroup.folders and tree.controllers:
            _make_in(tree, cgroup, {}, missing)
    return (cgroup if cgroup.folders else None), missing


def _may_keep(tree: Tree, field: str) -> bool:
    return tree.version == 2 or _V1.get(field, ("",))[0] in tree.controllers


def _make_in(tree: Tree, cgroup: Cgroup, wants: Mapping[str, float], missing: dict[str, str]) -> None:
    """Make a directory in the first place that enforces all limits, else in the one that enforces most."""
    best: tuple[str, str, list[str]] | None = None
    for parent in tree.parents():
        folder = f"{parent}/{cgroup.name}"
        try:
            _make_folder(folder)
        except OSError as error:
            missing.update(dict.fromkeys(wants, f"{folder}: {os.strerror(error.errno or 0)}"))
            continue
        kept = _configure(tree, parent, folder, wants)
        worse = folder
        if best is None or len(kept) > len(best[2]):
            worse, best = "" if best is None else best[1], (parent, folder, kept)
        if worse:
            os.rmdir(worse)
        if len(best[2]) == len(wants):
            break
    if best is not None:
        cgroup.add(best[1], tree.version, best[0], best[2])
        for field in best[2]:
            del missing[field]


class Cgroup:
    """One group, in one or more directories."""

    __slots__ = ("folders", "kept", "name", "oom_kills", "parents")

    def __init__(self, name: str) -> None:
        self.name = name
        self.folders: list[tuple[str, int]] = []
        """Path and version."""
        self.parents: list[str] = []
        self.kept: set[str] = set()
        """The limits that it enforces, by the names of `make`."""
        self.oom_kills = 0
        """How many of its processes the kernel had killed for memory when its current use began."""

    def add(self, folder: str, version: int, parent: str, kept: Iterable[str]) -> None:
        """Add a directory."""
        self.folders.append((folder, version))
        self.parents.append(parent)
        self.kept.update(kept)

    def files(self) -> list[str]:
        """Return the files to which a process writes "0" in order to join."""
        return [f"{folder}/cgroup.procs" for folder, _ in self.folders]

    def members(self) -> list[int]:
        """Return the processes in it now that are in our own pid namespace."""
        found: dict[int, None] = {}
        for path in self.files():
            try:
                found.update(dict.fromkeys(int(pid) for pid in _read(path).split()))
            except OSError:
                continue
        found.pop(0, None)  # a process of another pid namespace
        return list(found)

    def kill(self) -> None:
        """Send SIGKILL to all processes in it, also to those that are being forked."""
        for folder, version in self.folders:
            if version == 2:
                try:
                    _write(f"{folder}/cgroup.kill", "1")
                except OSError:  # before Linux 5.14
                    continue
                return
        for _ in range(_MAX_KILL_ROUNDS):  # the next round finds processes that were forked meanwhile
            members = self.members()
            if not members:
                return
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue

    def release(self) -> None:
        """Move its processes to the group that it was made below."""
        for (folder, _), parent in zip(self.folders, self.parents, strict=True):
            try:
                pids = _read(f"{folder}/cgroup.procs").split()
            except OSError:
                continue
            for pid in pids:
                try:
                    _write(f"{parent}/cgroup.procs", pid)
                except OSError:
                    continue

    def counted_kills(self) -> int:
        """Return how many of its processes the kernel has killed for memory so far."""
        for folder, version in self.folders:
            try:
                events = _read(f"{folder}/{'memory.events' if version == 2 else 'memory.oom_control'}")
            except OSError:
                continue
            for line in events.splitlines():
                what, _, count = line.partition(" ")
                if what == "oom_kill":
                    return int(count)
        return 0

    def peak(self) -> int:
        """Return its peak memory in bytes; 0 if the kernel does not tell."""
        for folder, version in self.folders:
            try:
                return int(
                    _read(f"{folder}/{'memory.peak' if version == 2 else 'memory.max_usage_in_bytes'}")
                )
            except (OSError, ValueError):
                continue
        return 0

    def reset(self) -> None:
        """Reset the peak and the count of kills for the next processes, as far as the kernel allows."""
        for folder, version in self.folders:
            if version == 1 and "memory" in self.kept:
                for file in ("memory.force_empty", "memory.max_usage_in_bytes"):
                    try:
                        _write(f"{folder}/{file}", "0")
                    except OSError:
                        continue
        self.oom_kills = self.counted_kills()

    def remove(self) -> bool:
        """Remove its directories; False if one is not empty yet, because a process in it is still dying."""
        left = [
            (entry, parent)
            for entry, parent in zip(self.folders, self.parents, strict=True)
            if not _remove_folder(entry[0])
        ]
        self.folders = [entry for entry, _ in left]
        self.parents = [parent for _, parent in left]
        return not left


# The controller and the file of each limit.
_V1: Final = {
    "memory": ("memory", "memory.limit_in_bytes"),
    "cpu": ("cpu", "cpu.cfs_quota_us"),
    "processes": ("pids", "pids.max"),
}
_V2: Final = {
    "memory": ("memory", "memory.max"),
    "memory_high": ("memory", "memory.high"),
    "cpu": ("cpu", "cpu.max"),
    "processes": ("pids", "pids.max"),
}


def _configure(tree: Tree, parent: str, folder: str, wants: Mapping[str, float]) -> list[str]:
    """Write the limits, and return those that are enforced."""
    kept = []
    for field, value in wants.items():
        controller, file = (_V1 if tree.version == 1 else _V2).get(field, ("", ""))
        if not controller or (tree.version == 1 and controller not in tree.controllers):
            continue
        try:
            if tree.version == 2 and not os.path.exists(f"{folder}/{file}"):
                # Pass the controller on; refused if the directory above has processes of its own.
                _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            _write(f"{folder}/{file}", _format(tree.version, field, value))
        except OSError:
            continue
        kept.append(field)
        for extra, text in _EXTRA_SETTINGS.get((tree.version, field), {}).items():
            with contextlib.suppress(OSError):  # an older kernel does not know it
                _write(f"{folder}/{extra}", text or str(int(value)))
    return kept


_EXTRA_SETTINGS: Final = {
    (1, "memory"): {"memory.memsw.limit_in_bytes": ""},
    (2, "memory"): {"memory.swap.max": "0", "memory.oom.group": "1"},
}
"""Further files written along with a limit; "" stands for the limit itself."""


def _format(version: int, field: str, value: float) -> str:
    if field != "cpu":
        return str(int(value))
    quota = max(1000, int(value * _CPU_PERIOD_US))  # v1's period is the kernel's default, the same
    return str(quota) if version == 1 else f"{quota} {_CPU_PERIOD_US}"


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        os.rmdir(folder)  # left by an earlier process with our pid
        os.mkdir(folder)


def _remove_folder(folder: str) -> bool:
    """Remove a directory; True if it no longer exists."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _own_groups(text: str) -> Iterable[tuple[str, str]]:
    """Yield each controller ("" for v2) and the path of the group that we are in."""
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            yield name, path


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = system_calls.open_path(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        system_calls.write(fd, text.encode())
    finally:
        os.close(fd)
