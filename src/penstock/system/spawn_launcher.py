# pathlib is slow to import.
# ruff: noqa: PTH119, PTH120
"""The launcher: a bare Python that applies settings in the child, then becomes the program.

It resets the signals, joins cgroups, sets the niceness, the rlimits, the umask, the group and the user, in
this order, and calls execve. So all of that holds before the program's first instruction, and the host itself
is never changed for it.

Why Python, although the system's own tools start faster: over a bare `true` (0.6 ms), `prlimit` costs 1.0 ms,
`nice prlimit` 1.5, a shell's `ulimit` 0.6, and this 7. A shell drops variables whose names it does not
accept, adds its own, and runs a file of the wrong format as a script. No tool joins a cgroup. Each reports a
failure as text on stderr and an exit status that may also be the program's.

Why not otherwise: `preexec_fn` runs Python code between fork and exec, which may deadlock beside threads.
Setting limits from outside, by prlimit(2), is too late unless the child waits for it, which only such a
launcher does. A launcher that was started in advance would keep the umask, ids and capabilities that the host
had then: if the host has dropped its privileges since, its programs would still have them. If no launcher is
needed, none is started.

The request (program, arguments, environment and settings) goes through a pipe, because every user can read
the arguments of a process. It is marshalled, because both ends are the same interpreter. The launcher runs in
the host's environment, in which that interpreter is known to start. A second pipe, the status pipe, reports a
failure with its errno. execve closes it, which tells the host that the program runs.

Out of scope: what limits mean, and which cgroup is joined.
"""

from __future__ import annotations

import marshal
import os
import sys

from penstock.system import fds, process, system_calls
from penstock.system.executables import SetupError, explain_interpreter
from penstock.system.process_mark import VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.system.spawn_request import SpawnRecord, SpawnRequest

__all__ = ["ChildSetup", "interpreter", "launch"]

# Importing `posix` and `_signal` takes a third of the time of `os` and `signal` with its enums. Python itself
# ignores SIGPIPE and SIGXFSZ. The memory limit comes last, because this interpreter may hold more than the
# program is allowed.
_PROGRAM = r"""
import sys, posix, marshal, _signal
request, status = int(sys.argv[1]), int(sys.argv[2])
posix.set_inheritable(status, False)
data = b""
while part := posix.read(request, 65536):
    data += part
posix.close(request)
path, arguments, environment, ignored, groups, nice, rlimits, umask, gid, uid = marshal.loads(data)
what = "signals"
try:
    for signum in _signal.valid_signals():
        try:
            if signum not in ignored:
                _signal.signal(signum, _signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for what in groups:
        group = posix.open(what, posix.O_WRONLY)
        posix.write(group, b"0")
        posix.close(group)
    if nice:
        what = "nice"
        posix.nice(nice)
    if rlimits:
        import resource
        for what, soft, hard in rlimits:
            kind = getattr(resource, what)
            most = resource.getrlimit(kind)[1]
            if most != resource.RLIM_INFINITY:
                soft, hard = min(soft, most), min(hard, most)
            resource.setrlimit(kind, (soft, hard))
    if umask >= 0:
        posix.umask(umask)
    if gid >= 0:
        what = "group"
        posix.setregid(gid, gid)
    if uid >= 0:
        what = "user"
        posix.setreuid(uid, uid)
    what = ""
    posix.write(status, b"0 ")
    posix.execve(path, arguments, environment)
except BaseException as error:
    failure = getattr(error, "errno", None) or 12, what.encode("utf-8", "surrogateescape")
    posix.write(status, b"%d %s" % failure)
posix._exit(127)
"""

_PURPOSE = "prepares the program (limits, signals)"


class ChildSetup:
    """The settings of a child, made before its program begins.

    `groups` are the `cgroup.procs` files of the cgroups to join. `nice` is added to the niceness. `rlimits`
    maps names without "RLIMIT_" to soft and hard limits. A limit above our own hard limit is lowered to it.
    `identity` is the umask, the group's and the user's number; each is -1 to keep ours.
    """

    __slots__ = ("groups", "identity", "nice", "rlimits")

    def __init__(
        self,
        groups: Sequence[str] = (),
        nice: int = 0,
        rlimits: Mapping[str, tuple[int, int]] | None = None,
        identity: tuple[int, int, int] = (-1, -1, -1),
    ) -> None:
        self.groups = tuple(groups)
        self.nice = nice
        self.rlimits = dict(rlimits or {})
        self.identity = identity


def launch(
    start: Callable[[SpawnRequest], int],
    request: SpawnRequest,
    setup: ChildSetup,
    record: SpawnRecord | None = None,
) -> int:
    """Start a launcher, and return its pid once it has become the program.

    `start` starts it by one of the mechanisms and adds it to `record`. Raises OSError with the kernel's errno
    if execve failed, SetupError if a setting could not be made, ChildProcessError if the launcher ended
    before the program began, and ValueError for a NUL byte.
    """
    python = interpreter()
    if python is None:
        raise RuntimeError(
            "limits, user, group and umask are set by a Python interpreter before the program begins, but "
            "sys.executable is not set"
        )
    # Started by the link of a virtual environment, it would look for that environment first.
    python = os.path.realpath(python)
    encoded = _encode(request, setup)
    ends = [*fds.pipe(), *fds.pipe()]
    pid = 0
    try:
        for place in (0, 3):
            ends[place] = _move_above_4(ends[place])
        request_in, request_out, status_in, status_out = ends
        launcher = request.replace(
            executable=python,
            argv=[python, "-I", "-S", "-c", _PROGRAM],
            env=_launcher_environ(request),
            setup=None,
            extra_fds=(request_in.fileno(), status_out.fileno()),
        )
        try:
            pid = start(launcher)
        except OSError as error:
            raise explain_interpreter(error, python, _PURPOSE, request.cwd) from None
        request_in.close()
        status_out.close()
        _write_all(request_out.fileno(), encoded)
        request_out.close()
        _wait_for_exec(status_in.fileno())
    except BaseException:
        if pid:
            process.kill_and_reap(pid)
            if record is not None:
                record.discard(pid)
        raise
    finally:
        for end in ends:
            end.close()
    return pid


def _launcher_environ(request: SpawnRequest) -> Mapping[str, str]:
    """Return our own environment, in which this interpreter is known to start, with the program's marks.

    So a launcher is found by them like its program, which may never begin.
    """
    marks = request.env.get(VARIABLE)
    return os.environ if marks is None else {**os.environ, VARIABLE: marks}


def _encode(request: SpawnRequest, setup: ChildSetup) -> bytes:
    """Encode the program and its settings for the launcher."""
    arguments = [os.fsencode(arg) for arg in request.argv]
    pairs = {os.fsencode(name): os.fsencode(value) for name, value in request.env.items()}
    path = os.fsencode(request.executable)
    if any(b"\0" in word for word in (path, *arguments, *pairs, *pairs.values())):
        raise ValueError("embedded null byte")
    # The memory limit comes last, because the launcher may hold more than the program is allowed.
    names = sorted(setup.rlimits, key=lambda name: name == "DATA")
    rlimits = [(f"RLIMIT_{name}", *setup.rlimits[name]) for name in names]
    ignored = list(map(int, request.ignored))
    settings = list(setup.groups), setup.nice, rlimits, *setup.identity
    return marshal.dumps((path, arguments, pairs, ignored, *settings))


def interpreter() -> str | None:
    """Return the Python that runs us; None if `sys.executable` may be another program."""
    path = sys.executable
    named = bool(path) and os.path.basename(path).startswith(("python", "pypy"))
    return path if named and not getattr(sys, "frozen", False) else None


def _move_above_4(fd: fds.Fd) -> fds.Fd:
    """Move a descriptor above 4, so that the launcher can get the pipes as 3 and 4."""
    if fd.fileno() > 4:
        return fd
    moved = fds.duplicate(fd.fileno(), 5)
    fd.close()
    return moved


def _wait_for_exec(status: int) -> None:
    """Wait for the launcher to become the program, which closes the status pipe."""
    answer = b""
    while chunk := system_calls.read(status, 4096):
        answer += chunk
    if answer == b"0 ":
        return
    if not answer:
        raise ChildProcessError(
            f"the Python interpreter that {_PURPOSE} ended before that: {sys.executable!r}"
        )
    code, _, what = answer.removeprefix(b"0 ").partition(b" ")
    text = os.strerror(int(code))
    if what:
        raise SetupError(int(code), f"{_describe(what.decode(errors='replace'))}: {text}")
    raise OSError(int(code), text)


def _describe(what: str) -> str:
    """Say what the launcher could not do."""
    if what.startswith("RLIMIT_"):
        return f"{what} could not be set"
    if what in ("user", "group"):
        return f"the {what} could not be changed"
    if what == "nice":
        return "the niceness could not be set"
    if what == "signals":
        return "the signal dispositions could not be reset"
    return f"cgroup {os.path.dirname(what)} could not be joined"


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[system_calls.write(fd, rest) :]
    except BrokenPipeError:
        pass  # the launcher has ended; the status pipe says why
