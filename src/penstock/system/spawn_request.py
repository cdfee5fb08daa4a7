"""The description of a child to start, and the record of the children that a start has made.

Out of scope: any way of starting a child (`spawn` and its mechanisms).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol, TypeAlias

    from penstock.system.spawn_launcher import ChildSetup

    Stdio: TypeAlias = "tuple[int | None, int | None, int | None]"
    """Descriptors of this process for the child's 0, 1 and 2. None is /dev/null."""

    class Spawned(Protocol):
        """A child that a spawn has made, or is about to make."""

        @property
        def pid(self) -> int:
            """Its pid; 0 while there is no such child."""
            ...


__all__ = ["SpawnRecord", "SpawnRequest"]


class SpawnRequest:
    """One child to be started; nobody changes it.

    - `executable`: an absolute path, or a name for which `spawn.can_use_path_search` is true.
    - `cwd`: the child's working directory. None is this process's own.
    - `process_group`: whether the child leads a new process group, before its program runs.
    - `setup`: settings that must be made in the child itself, by a launcher; some 8 ms.
    - `ignored`: signals that the child ignores, as this process does. All others are at their default.
    - `extra_fds`: further descriptors, above 4. The child finds their numbers there as its last arguments.
    - `pass_fds`: further descriptors, above 2, which the child gets under their own numbers.
    """

    __slots__ = (
        "argv",
        "cwd",
        "env",
        "executable",
        "extra_fds",
        "ignored",
        "pass_fds",
        "process_group",
        "setup",
        "stdio",
    )

    def __init__(  # noqa: PLR0913 - a record; a NamedTuple would import `typing`
        self,
        executable: str,
        argv: Sequence[str | bytes],
        env: Mapping[str, str],
        cwd: str | None = None,
        stdio: Stdio = (0, 1, 2),
        process_group: bool = False,  # noqa: FBT001, FBT002 - a record
        setup: ChildSetup | None = None,
        ignored: tuple[int, ...] = (),
        extra_fds: tuple[int, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.executable = executable
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.stdio = stdio
        self.process_group = process_group
        self.setup = setup
        self.ignored = ignored
        self.extra_fds = extra_fds
        self.pass_fds = pass_fds

    def replace(self, **changes: Any) -> SpawnRequest:
        """Return a copy with other values for some fields."""
        return SpawnRequest(**{name: changes.get(name, getattr(self, name)) for name in self.__slots__})


class SpawnRecord:
    """The children that one start has made, for a caller that is interrupted before it gets their pids.

    A mechanism adds its child before that exists, as an object that knows the pid as soon as the kernel does.
    The code that reaps a child discards its entry; only the code that added an entry may change it.
    """

    __slots__ = ("_spawned",)

    def __init__(self) -> None:
        self._spawned: list[Spawned] = []

    def add(self, spawned: Spawned) -> None:
        """Note a child that exists, or soon may."""
        self._spawned.append(spawned)

    def discard(self, pid: int) -> None:
        """Forget a child that has been reaped, or that has another owner now."""
        self._spawned[:] = [spawned for spawned in self._spawned if spawned.pid != pid]

    def pids(self) -> list[int]:
        """Return the pids of the children that exist."""
        return [pid for spawned in self._spawned if (pid := spawned.pid)]
