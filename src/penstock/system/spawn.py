"""Start a child in a clean state, whatever state the host is in.

The child has file descriptors 0, 1 and 2 and no other, every signal at its default and no signal blocked.
Two mechanisms do it: glibc's `posix_spawn` (spawn_glibc.py), one call in C, and `subprocess`
(spawn_subprocess.py) elsewhere. This module chooses one, and moves descriptors that would overwrite each
other in the child. Out of scope: finding a program by its name (executables.py), and everything after the
start (process.py).
"""

from __future__ import annotations

import errno
import os

from penstock.system import fds, features, procfs
from penstock.system.executables import SetupError, is_plain
from penstock.system.fork_guard import OUT_OF_RESOURCES, late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from penstock.system.spawn_launcher import ChildSetup
    from penstock.system.spawn_request import SpawnRecord, SpawnRequest, Stdio

_LAST_PASSED = 1023
"""The highest descriptor that the better mechanism passes on: it closes each lower one by a step apart."""
_loaded: ModuleType | None = None
"""spawn_glibc.py, once it is imported."""


def spawn(request: SpawnRequest, record: SpawnRecord | None = None) -> int:
    """Start a child and return its pid, which the caller reaps.

    The descriptors in `request.stdio` stay open, and still belong to the caller. They may be any numbers, in
    any order, and the same one more than once. None is /dev/null. So is a 0, 1 or 2 that is closed here:
    left closed, the child's first `open` would take its number.

    `record` knows the child from the moment it exists, for a caller that is interrupted before this function
    returns. (The fallback leaves it empty.)

    Raises OSError with the kernel's errno, also for a step that fails in the child before its program runs
    (`executables.explain_failure` finds the reason), and ValueError for a NUL byte.
    """
    stdio = request.stdio
    if all(source is None or source > 2 or source == target for target, source in enumerate(stdio)):
        try:
            return _launch(request, record)
        except OSError as error:
            _check_null(error, stdio)
            if error.errno != errno.EBADF or all(
                source is None or source > 2 or fds.is_open(source) for source in stdio
            ):
                raise
    # A dup2 to 0, 1 or 2 would overwrite a source of that number, so such a source is moved first.
    made: list[fds.Fd] = []
    try:
        moved = list(stdio)
        for target, source in enumerate(stdio):
            if source is None or source > 2:
                continue
            if not fds.is_open(source):
                made.append(fds.null(writable=target > 0))
            elif source != target:
                made.append(fds.duplicate(source))
            else:
                continue
            moved[target] = made[-1].fileno()
        return _launch(request.replace(stdio=(moved[0], moved[1], moved[2])), record)
    except OSError as error:
        _check_null(error, stdio)
        raise
    finally:
        for fd in made:
            fd.close()


def _check_null(error: OSError, stdio: Stdio) -> None:
    """Raise an error that names /dev/null, if that is what the child could not open."""
    for target, source in enumerate(stdio):
        if source is None:
            try:
                fds.null(writable=target > 0).close()
            except OSError as found:
                if found.errno == error.errno:
                    raise SetupError(found.errno, found.strerror, os.devnull) from None


def can_use_path_search(program: str, env: Mapping[str, str]) -> bool:
    """Whether a program can be started by its bare name, so that the child searches PATH itself.

    The result is that of `executables.resolve`, but this process is spared a dozen system calls, each of
    which releases the GIL. The child searches the PATH of this process, so `env` must have the same.
    """
    path = env.get("PATH")
    if not program or "/" in program or path is None or not is_plain(path):
        return False
    spawn_glibc = _glibc()
    return spawn_glibc is not None and spawn_glibc.is_process_path(path)


def _launch(request: SpawnRequest, record: SpawnRecord | None) -> int:
    """Start by the better mechanism."""
    if request.setup is not None:
        return _launch_with_setup(request, request.setup, record)
    spawn_glibc = None if max(request.pass_fds, default=0) > _LAST_PASSED else _glibc()
    if spawn_glibc is None:
        with late_import:
            from penstock.system import spawn_subprocess  # noqa: PLC0415 - only without the better mechanism

        return spawn_subprocess.launch(request, record)
    pid: int = spawn_glibc.launch(request, record)
    return pid


def _glibc() -> ModuleType | None:
    """Return the better mechanism, or None if this platform does not have it."""
    global _loaded  # noqa: PLW0603 - a cache: an import statement takes five times as long
    if not features.GLIBC_SPAWN:
        return None
    if _loaded is not None:
        return _loaded
    try:
        # Here, because ctypes is slow to import, and a program that imports penstock may never start a child.
        with late_import:
            from penstock.system import spawn_glibc  # noqa: PLC0415 - as said above
    # No ctypes, another C library, or a C library that cannot be loaded.
    except (ImportError, AttributeError, OSError) as error:
        if getattr(error, "errno", None) not in OUT_OF_RESOURCES:
            features.GLIBC_SPAWN = False
        return None
    _loaded = spawn_glibc
    procfs.load()  # it has loaded the most of that, ctypes, and the end of this child may need it
    return spawn_glibc


def _launch_with_setup(request: SpawnRequest, setup: ChildSetup, record: SpawnRecord | None) -> int:
    """Start a launcher that becomes the program."""
    with late_import:
        from penstock.system import spawn_launcher  # noqa: PLC0415 - only a child with a setup needs it

    # If one is closed, a pipe that the launcher needs could get its number.
    if not all(source is None or fds.is_open(source) for source in request.stdio):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return spawn_launcher.launch(lambda launcher: _launch(launcher, record), request, setup, record)
