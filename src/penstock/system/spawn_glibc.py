"""Starting a child by glibc's own `posix_spawn`, which Python's `os.posix_spawn` does not reach in full.

Since glibc 2.34 its file actions can close everything from a number up and change the directory, so one call
does all that `spawn` promises: the child is made as by vfork (no page tables are copied), and what fails in
it, execve too, comes back as the call's own result. Imported by the first spawn only, since it imports
ctypes. A missing name makes the import fail, and `spawn` then uses the fallback.

The functions that only fill in structures are called with the GIL held: to let go of it and take it back ten
times would cost up to ten switch intervals beside a busy thread. `posix_spawn` itself lets go of it, since it
sleeps until the child has reached its program.

Attributes and file actions are only read by the call, so threads share them. The attributes are made once; a
list of file actions takes 6 microseconds, and one start is much like the last: so they are kept by what they
do.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from penstock.system import process
from penstock.system.environment import inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.system.spawn_request import SpawnRecord, SpawnRequest

_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08  # spawn.h

# Both structures and sigset_t have more room here than any architecture's (336, 80 and 128 bytes on x86-64).
_Storage = ctypes.c_uint64 * 64

_libc_with_gil = ctypes.PyDLL(None)
_libc_without_gil = ctypes.CDLL(None)

_posix_spawn = _libc_without_gil.posix_spawnp  # which takes what has a slash in it as a path
_posix_spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 4]
_init = _libc_with_gil.posix_spawn_file_actions_init
_init.argtypes = [ctypes.c_void_p]
_destroy = _libc_with_gil.posix_spawn_file_actions_destroy
_destroy.argtypes = [ctypes.c_void_p]
_add_dup2 = _libc_with_gil.posix_spawn_file_actions_adddup2
_add_dup2.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_add_open = _libc_with_gil.posix_spawn_file_actions_addopen
_add_open.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint]
_add_closefrom = _libc_with_gil.posix_spawn_file_actions_addclosefrom_np
_add_closefrom.argtypes = [ctypes.c_void_p, ctypes.c_int]
_add_chdir = _libc_with_gil.posix_spawn_file_actions_addchdir_np
_add_chdir.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

_getenv = _libc_with_gil.getenv
_getenv.argtypes = [ctypes.c_char_p]
_getenv.restype = ctypes.c_char_p

_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()


def _attributes(flags: int) -> ctypes.Array[ctypes.c_uint64]:
    """Make spawn attributes: each signal at its default, none blocked, and what the flags add."""
    attributes = _Storage()
    # All bits, where sigfillset(3) leaves out the two signals that glibc keeps for itself: it would then
    # start the child with these two ignored (32 and 33 in SigIgn of /proc/PID/status).
    all_signals, no_signals = _Storage(*[2**64 - 1] * 64), _Storage()
    _check(_libc_with_gil.posix_spawnattr_init(attributes))
    _check(_libc_with_gil.posix_spawnattr_setsigdefault(attributes, all_signals))
    _check(_libc_with_gil.posix_spawnattr_setsigmask(attributes, no_signals))
    _check(
        _libc_with_gil.posix_spawnattr_setflags(attributes, ctypes.c_short(flags | _SETSIGDEF | _SETSIGMASK))
    )
    return attributes  # its group is 0, "the child's own pid", unless it is set


def _check(code: int) -> None:
    if code:  # these functions return the error, and leave errno alone
        raise OSError(code, os.strerror(code))


_same_group = _attributes(0)
_own_group = _attributes(_SETPGROUP)


class _FileActions(_Storage):  # type: ignore[misc,valid-type] # ctypes has no types for it
    """What the child does before its program, in this order. Nothing changes it once it is made."""

    def __init__(self, sources: tuple[int | None, ...], null: bytes, directory: bytes | None) -> None:
        super().__init__()
        _check(_init(self))
        for target, source in enumerate(sources):
            if source is None:
                _check(_add_open(self, target, null, os.O_WRONLY if target else os.O_RDONLY, 0))
            else:
                # A dup2 of a number onto itself makes glibc clear close-on-exec, so it is not left out.
                _check(_add_dup2(self, source, target))
        _check(_add_closefrom(self, len(sources)))
        if directory is not None:
            _check(_add_chdir(self, directory))

    def __del__(self, _destroy: Callable[[_FileActions], int] = _destroy) -> None:
        _destroy(self)


_file_actions = lru_cache(256)(_FileActions)


class _ChildPid(ctypes.c_int):
    """The pid of a child, which the call fills in: 0 where there is none."""

    __slots__ = ()

    @property
    def pid(self) -> int:
        """As `SpawnRecord` asks for it."""
        return self.value


def launch(request: SpawnRequest, record: SpawnRecord | None) -> int:
    """Start a child. A source below 3 must be its own target (`spawn` sees to that); None is /dev/null, which
    the child opens. Its number there is free then, so that it needs no further one.

    An `executable` without a slash is looked for on this process's PATH, in the child. `extra_fds` it is
    given as 3 and up; their own numbers are past those.

    The record knows the pid the moment the child exists, since a KeyboardInterrupt may come before this has
    returned.
    """
    executable, argv, env, cwd, stdio, process_group, _, extra_fds = request
    sources: tuple[int | None, ...] = stdio
    if extra_fds:
        sources = *stdio, *extra_fds
        argv = [*argv, *map(str, range(len(stdio), len(sources)))]
    # What os.posix_spawn would raise: a host that audits its children sees these too.
    sys.audit("os.posix_spawn", executable, argv, env)
    path = os.fsencode(executable)
    arguments = _strings([arg if isinstance(arg, bytes) else os.fsencode(arg) for arg in argv])
    environment = _environment(env)
    directory = None if cwd is None else os.fsencode(cwd)
    if b"\0" in path or (directory is not None and b"\0" in directory):
        raise ValueError("embedded null byte")
    actions = _file_actions(sources, os.fsencode(os.devnull), directory)
    child = _ChildPid()
    if record is not None:
        record.add(child)
    try:
        attributes = _own_group if process_group else _same_group
        _check(_posix_spawn(ctypes.byref(child), path, actions, attributes, arguments, environment))
    except BaseException:
        # A KeyboardInterrupt may come between the call and here; glibc sets the pid only where there is a
        # child.
        if child.value:
            process.kill_and_reap(child.value)
            child.value = 0
        raise
    return child.value


def is_process_path(path: str) -> bool:
    """Whether that is the PATH on which `launch` looks for a bare name: the C library's own, which `putenv`
    changes behind the back of `os.environ`.
    """
    return bool(_getenv(b"PATH") == os.fsencode(path))


@lru_cache(128)
def _array_type(length: int) -> type[ctypes.Array[ctypes.c_char_p]]:
    """The type of such an array. ctypes forgets one that has no object, and to make a type takes longer than
    all else that is done here.
    """
    return ctypes.c_char_p * length


_last_environment: tuple[Mapping[str, str], ctypes.Array[ctypes.c_char_p]] = {}, _array_type(1)()
"""The process's own environment as it was encoded last, beside what it was made of: see environ.py."""


def _environment(env: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """The array for a child; that of the process's own environment is kept."""
    global _last_environment  # noqa: PLW0603 - both halves are replaced at once
    source, array = _last_environment
    if env is not source:
        array = _encoded(env)
        if env is inherited():
            _last_environment = env, array
    return array


def _encoded(env: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """Encode all of it in one go: a fourth of the time that an `fsencode` for each takes."""
    if not env:
        return _array_type(1)()
    text = "\0".join([f"{name}={value}" for name, value in env.items()])
    entries = text.encode(_ENCODING, _ERRORS).split(b"\0")
    if len(entries) != len(env):
        raise ValueError("embedded null byte")
    return _array_type(len(entries) + 1)(*entries)


def _strings(items: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """Make a NULL-terminated array, which holds references to the items."""
    if b"\0" in b"".join(items):
        raise ValueError("embedded null byte")
    return _array_type(len(items) + 1)(*items)
