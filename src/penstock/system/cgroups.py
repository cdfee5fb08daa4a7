# pathlib is dear to import.
# ruff: noqa: PTH102, PTH106, PTH110, PTH112, PTH120, PTH123
"""Control groups: made beside our own, joined by a launcher, killed, and removed.

A `Cgroup` is one group in the eyes of its user, and up to four folders in those of the kernel: with cgroup v2
one does it all; with v1 each controller has a tree of its own, and a tree of v2 without the controllers is
joined too where it is there, for its `cgroup.kill`. Which folders can be made is found by making them.

Where they are made. In v1, below the group that we are in. In v2 beside it or below it: a group that hands
controllers on may have no processes of its own, unless it is the root, so below our own they can be had only
by a delegated root; beside it they can where a session manager has delegated the folder above (systemd's
`app.slice`, a container's root).

Swap is forbidden along with memory, or a limit would only mean that the program becomes slow. With v2 the
kernel ends the whole group when it is out of memory (`memory.oom.group`); with v1 one process of it.

What may not live here: when a group is made, reused or removed; that is for `control.cgroup_pool`. Nothing
here waits, but removing a folder may take the kernel some milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Cgroup", "Tree", "make", "trees"]

_CPU_PERIOD_US: Final = 100_000
"""Microseconds over which processor time is shared out, the kernel's own default."""
_MAX_KILL_ROUNDS: Final = 50


class Tree:
    """A mounted hierarchy, and the folder of the group that this process is in."""

    __slots__ = ("controllers", "own", "root", "version")

    def __init__(self, version: int, controllers: frozenset[str], root: str, own: str) -> None:
        self.version = version
        self.controllers = controllers
        self.root = root
        self.own = own

    def parents(self) -> Iterable[str]:
        """Where a group may be made, the likelier first."""
        if self.version == 1 or self.own == self.root:
            return (self.own,)
        return (os.path.dirname(self.own), self.own)


def trees(mounts: str = "/proc/self/mountinfo", groups: str = "/proc/self/cgroup") -> list[Tree]:
    """Find the hierarchies that are mounted; none where cgroups are switched off or unknown."""
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
        # A container is shown a part of the tree, and its own path may be told from there or from above it.
        below = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
        mounted = mounted.encode().decode("unicode_escape")
        own = os.path.normpath(mounted + "/" + below)
        found.append(Tree(version, controllers, mounted, own if os.path.isdir(own) else mounted))
    return found


def make(
    name: str, wants: Mapping[str, float], places: Sequence[Tree]
) -> tuple[Cgroup | None, dict[str, str]]:
    """Make a group called `name` that keeps what is wanted, as far as that can be had.

    `wants` maps `memory`, `memory_high` (bytes), `cpu` (processors) and `processes` to their limits. Returns
    the group, None where none can be made at all, and why each want that it does not keep is not kept.
    """
    cgroup = Cgroup(name)
    missing = dict.fromkeys(wants, "no hierarchy has its controller")
    for tree in sorted(places, key=lambda tree: -tree.version):
        useful = {field: wants[field] for field in missing if _may_keep(tree, field)}
        if tree.version == 2 or useful:
            _make_in(tree, cgroup, useful, missing)
    # Without limits, any will do to find its members.
    for tree in places:
        if not wants and not cgroup.folders and tree.controllers:
            _make_in(tree, cgroup, {}, missing)
    return (cgroup if cgroup.folders else None), missing


def _may_keep(tree: Tree, field: str) -> bool:
    return tree.version == 2 or _V1.get(field, ("",))[0] in tree.controllers


def _make_in(tree: Tree, cgroup: Cgroup, wants: Mapping[str, float], missing: dict[str, str]) -> None:
    """Make a folder in the first place that keeps all, else in the one that keeps the most."""
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
    """One group, in as many folders as it takes."""

    __slots__ = ("folders", "kept", "name", "oom_kills", "parents")

    def __init__(self, name: str) -> None:
        self.name = name
        self.folders: list[tuple[str, int]] = []
        """Path and version."""
        self.parents: list[str] = []
        self.kept: set[str] = set()
        """What it keeps, by the names of `make`'s wants."""
        self.oom_kills = 0
        """How many processes the kernel had killed for its memory when it was taken into use."""

    def add(self, folder: str, version: int, parent: str, kept: Iterable[str]) -> None:
        """Take a folder in."""
        self.folders.append((folder, version))
        self.parents.append(parent)
        self.kept.update(kept)

    def files(self) -> list[str]:
        """The files that a process joins by writing "0" to each."""
        return [f"{folder}/cgroup.procs" for folder, _ in self.folders]

    def members(self) -> list[int]:
        """The processes in it now, of our own pid namespace."""
        found: dict[int, None] = {}
        for path in self.files():
            try:
                found.update(dict.fromkeys(int(pid) for pid in _read(path).split()))
            except OSError:
                continue
        found.pop(0, None)  # one of another pid namespace
        return list(found)

    def kill(self) -> None:
        """SIGKILL to all in it, those too that are being forked at this moment."""
        for folder, version in self.folders:
            if version == 2:
                try:
                    _write(f"{folder}/cgroup.kill", "1")
                except OSError:  # before Linux 5.14
                    continue
                return
        for _ in range(_MAX_KILL_ROUNDS):  # who forks meanwhile is found in the next round
            members = self.members()
            if not members:
                return
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue

    def release(self) -> None:
        """Let its processes go, to the group that it was made below."""
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
        """How many of its processes the kernel has killed for memory so far."""
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
        """The most memory that was charged to it, bytes; 0 where the kernel does not say."""
        for folder, version in self.folders:
            try:
                return int(
                    _read(f"{folder}/{'memory.peak' if version == 2 else 'memory.max_usage_in_bytes'}")
                )
            except (OSError, ValueError):
                continue
        return 0

    def reset(self) -> None:
        """Forget what earlier processes have used, where the kernel allows it; ready for the next ones."""
        for folder, version in self.folders:
            if version == 1 and "memory" in self.kept:
                for file in ("memory.force_empty", "memory.max_usage_in_bytes"):
                    try:
                        _write(f"{folder}/{file}", "0")
                    except OSError:
                        continue
        self.oom_kills = self.counted_kills()

    def remove(self) -> bool:
        """Remove its folders; False where one is not empty yet, for a dying process takes a moment."""
        left = [
            (entry, parent)
            for entry, parent in zip(self.folders, self.parents, strict=True)
            if not _remove_folder(entry[0])
        ]
        self.folders = [entry for entry, _ in left]
        self.parents = [parent for _, parent in left]
        return not left


# The controller and the file of each want.
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
    """Write the limits, and return those that are kept."""
    kept = []
    for field, value in wants.items():
        controller, file = (_V1 if tree.version == 1 else _V2).get(field, ("", ""))
        if not controller or (tree.version == 1 and controller not in tree.controllers):
            continue
        try:
            if tree.version == 2 and not os.path.exists(f"{folder}/{file}"):
                # Hand the controller on; refused where the folder above has processes of its own.
                _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            _write(f"{folder}/{file}", _format(tree.version, field, value))
        except OSError:
            continue
        kept.append(field)
        for extra, text in _EXTRA_SETTINGS.get((tree.version, field), {}).items():
            with contextlib.suppress(OSError):  # a kernel that does not know it
                _write(f"{folder}/{extra}", text or str(int(value)))
    return kept


_EXTRA_SETTINGS: Final = {
    (1, "memory"): {"memory.memsw.limit_in_bytes": ""},
    (2, "memory"): {"memory.swap.max": "0", "memory.oom.group": "1"},
}
"""What is written along with a limit; "" is the limit itself."""


def _format(version: int, field: str, value: float) -> str:
    if field != "cpu":
        return str(int(value))
    quota = max(1000, int(value * _CPU_PERIOD_US))  # v1's period is the kernel's default, the same
    return str(quota) if version == 1 else f"{quota} {_CPU_PERIOD_US}"


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        os.rmdir(folder)  # what a process that had our pid has left
        os.mkdir(folder)


def _remove_folder(folder: str) -> bool:
    """Whether it is gone."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _own_groups(text: str) -> Iterable[tuple[str, str]]:
    """Each controller, and the path of the group that we are in; v2's is ""."""
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            yield name, path


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
