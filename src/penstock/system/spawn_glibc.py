"""Start a child by glibc's own `posix_spawn`, which Python's `os.posix_spawn` does not expose in full.

Since glibc 2.34 its file actions can close every descriptor from a given one up, and change the directory. So
one call does all that `spawn` promises. The child is made as by vfork (no page tables are copied), and if a
step fails in the child, execve included, the call returns that error. Only the first spawn imports this
module, because it imports ctypes. If the C library lacks a function, the import fails and `spawn` uses the
fallback.

The functions that only fill in structures are called with the GIL held. Releasing and taking it ten times
could cost ten switch intervals beside a busy thread. `posix_spawn` itself releases the GIL, because it sleeps
until the child has reached its program.

The call only reads attributes and file actions, so threads share them, and they are cached: a list of file
actions takes 6 microseconds to make, and most starts need the same one.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache, lru_cache

from penstock.system import process
from penstock.system.environment import inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.system.spawn_request import SpawnRecord, SpawnRequest

_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08  # spawn.h

# Large enough for both structures and for sigset_t on any architecture (336, 80 and 128 bytes on x86-64).
_Storage = ctypes.c_uint64 * 64

_libc_with_gil = ctypes.PyDLL(None)
_libc_without_gil = ctypes.CDLL(None)

_posix_spawn = _libc_without_gil.posix_spawnp  # a name with a slash is taken as a path
_posix_spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 4]
_init = _libc_with_gil.posix_spawn_file_actions_init
_init.argtypes = [ctypes.c_void_p]
_destroy = _libc_with_gil.posix_spawn_file_actions_destroy
_destroy.argtypes = [ctypes.c_void_p]
_add_dup2 = _libc_with_gil.posix_spawn_file_actions_adddup2
_add_dup2.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_add_close = _libc_with_gil.posix_spawn_file_actions_addclose
_add_close.argtypes = [ctypes.c_void_p, ctypes.c_int]
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


@cache
def _attributes(flags: int, ignored: tuple[int, ...] = ()) -> ctypes.Array[ctypes.c_uint64]:
    """Make spawn attributes: each signal but `ignored` at its default, none blocked, plus `flags`."""
    attributes = _Storage()
    # All bits. sigfillset(3) leaves out the two signals that glibc keeps for itself, and the child would
    # start with these two ignored (32 and 33 in SigIgn of /proc/PID/status).
    defaults, no_signals = _Storage(*[2**64 - 1] * 64), _Storage()
    _check(_libc_with_gil.posix_spawnattr_init(attributes))
    for signum in ignored:
        _check(_libc_with_gil.sigdelset(defaults, signum))
    _check(_libc_with_gil.posix_spawnattr_setsigdefault(attributes, defaults))
    _check(_libc_with_gil.posix_spawnattr_setsigmask(attributes, no_signals))
    _check(
        _libc_with_gil.posix_spawnattr_setflags(attributes, ctypes.c_short(flags | _SETSIGDEF | _SETSIGMASK))
    )
    return attributes  # its process group is left at 0, which means the pid of the child


def _check(code: int) -> None:
    if code:  # these functions return the error and do not set errno
        raise OSError(code, os.strerror(code))


_attributes(0)  # now, so that the import fails if the C library lacks a function


class _FileActions(_Storage):  # type: ignore[misc,valid-type] # ctypes has no types for this base class
    """The steps of the child before its program, in order. Never changed once made.

    `sources` become 0 and up, and `kept` stay what they are. The child closes everything else.
    """

    def __init__(
        self,
        sources: tuple[int | None, ...],
        null: bytes,
        directory: bytes | None,
        kept: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        _check(_init(self))
        for target, source in enumerate(sources):
            if source is None:
                _check(_add_open(self, target, null, os.O_WRONLY if target else os.O_RDONLY, 0))
            else:
                # A dup2 of a descriptor onto itself makes glibc clear close-on-exec, so it is needed too.
                _check(_add_dup2(self, source, target))
        first = len(sources)
        for number in sorted(set(kept)):
            for other in range(first, number):
                _check(_add_close(self, other))  # it may be closed already
            _check(_add_dup2(self, number, number))
            first = number + 1
        _check(_add_closefrom(self, first))
        if directory is not None:
            _check(_add_chdir(self, directory))

    def __del__(self, _destroy: Callable[[_FileActions], int] = _destroy) -> None:
        _destroy(self)


_file_actions = lru_cache(256)(_FileActions)


class _ChildPid(ctypes.c_int):
    """The pid of a child, filled in by the C call. 0 if there is no child."""

    __slots__ = ()

    @property
    def pid(self) -> int:
        """The pid, as `SpawnRecord` reads it."""
        return self.value


def launch(request: SpawnRequest, record: SpawnRecord | None) -> int:
    """Start a child and return its pid.

    A source below 3 must be its own target (`spawn` ensures that). None is /dev/null, which the child opens
    itself, at a number that is free there, so this process needs no descriptor for it.

    The child searches this process's PATH for an `executable` without a slash. It gets `extra_fds` as 3 and
    up; their numbers here are above those. With `pass_fds`, which may have these numbers, it gets both under
    their own.

    The record knows the pid as soon as the child exists, because a KeyboardInterrupt may arrive before this
    function returns.
    """
    executable, argv, env, cwd = request.executable, request.argv, request.env, request.cwd
    stdio, extra_fds = request.stdio, request.extra_fds
    sources: tuple[int | None, ...] = stdio
    kept: tuple[int, ...] = ()
    if request.pass_fds:
        kept = *extra_fds, *request.pass_fds
        argv = [*argv, *map(str, extra_fds)]
    elif extra_fds:
        sources = *stdio, *extra_fds
        argv = [*argv, *map(str, range(len(stdio), len(sources)))]
    # The audit event of os.posix_spawn, for a host that audits its children.
    sys.audit("os.posix_spawn", executable, argv, env)
    path = os.fsencode(executable)
    arguments = _strings([arg if isinstance(arg, bytes) else os.fsencode(arg) for arg in argv])
    environment = _environment(env)
    directory = None if cwd is None else os.fsencode(cwd)
    if b"\0" in path or (directory is not None and b"\0" in directory):
        raise ValueError("embedded null byte")
    null = os.fsencode(os.devnull)
    if kept:  # whose numbers change from start to start
        actions = _FileActions(sources, null, directory, kept)
    else:
        actions = _file_actions(sources, null, directory)
    child = _ChildPid()
    if record is not None:
        record.add(child)
    try:
        attributes = _attributes(_SETPGROUP if request.process_group else 0, request.ignored)
        _check(_posix_spawn(ctypes.byref(child), path, actions, attributes, arguments, environment))
    except BaseException:
        # A KeyboardInterrupt may come between the call and here. glibc sets the pid only if there is a child.
        if child.value:
            process.kill_and_reap(child.value)
            child.value = 0
        raise
    return child.value


def is_process_path(path: str) -> bool:
    """Whether `path` is the C library's PATH, on which `launch` finds a bare name.

    `os.putenv` changes that without changing `os.environ`.
    """
    return bool(_getenv(b"PATH") == os.fsencode(path))


@lru_cache(128)
def _array_type(length: int) -> type[ctypes.Array[ctypes.c_char_p]]:
    """Return the array type of a length.

    ctypes drops a type that has no object, and making one takes longer than everything else here.
    """
    return ctypes.c_char_p * length


_last_environment: tuple[Mapping[str, str], ctypes.Array[ctypes.c_char_p]] = {}, _array_type(1)()
"""The environment of this process and its encoded form, as of the last start: see environment.py."""


def _environment(env: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """Return the encoded environment of a child. The one of this process is cached."""
    global _last_environment  # noqa: PLW0603 - both halves are replaced at once
    source, array = _last_environment
    if env is not source:
        array = _encoded(env)
        if env is inherited():
            _last_environment = env, array
    return array


def _encoded(env: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """Encode all variables at once, in a quarter of the time of one `fsencode` each."""
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
